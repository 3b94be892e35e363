"""Figures as people read them. Pure."""

from __future__ import annotations

from synth_cli.core.figures import Traffic


def number(value: int) -> str:
    return f"{value:,}"


def short(value: int) -> str:
    """A large count in few characters: 950, 61.2k, 3.4M."""
    if value < 10_000:
        return number(value)
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M")):
        if value >= size * 0.9995:
            return f"{value / size:.1f}{unit}"
    return f"{value / 1000:.1f}k" if value < 99_950 else f"{value / 1000:.0f}k"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 row`, `1,000 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """0.8s, 12s, 1m12s, 3h05m, 2d04h."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def latency(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:.0f} s"


def rate(per_second: float) -> str:
    if per_second >= 99.5:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 0.095 else f"{per_second:.2g}"


def usd(value: float) -> str:
    """$0, $0.0042, $0.42, $1,234.50: cents, and two digits that count below a cent."""
    if value >= 0.00995 or value == 0:
        return f"${value:,.2f}" if value else "$0"
    if value < 0.000001:
        return "<$0.000001"
    digits = f"{value:.1e}"
    exponent = int(digits[-2:])
    return f"${value:.{exponent + 1}f}"


def cost(traffic: Traffic) -> str:
    """What it cost; where prices are not known it says so, and never $0 for want of a price."""
    known = traffic.known_cost
    if known is None:
        return "unknown"
    if traffic.unpriced:
        return f"{usd(known)} + {counted(traffic.unpriced, 'answer')} of unknown price"
    return usd(known)


def brief_cost(traffic: Traffic) -> str:
    """The same for a line that has no room."""
    known = traffic.known_cost
    if known is None:
        return "cost unknown"
    return f"{usd(known)}+" if traffic.unpriced else usd(known)


def percent(share: float) -> str:
    """Rounded so that only all is 100% and only nothing is 0%."""
    if share in (0, 1):
        return f"{share:.0%}"
    if share < 0.001:
        return "<0.1%"
    if share > 0.999:
        return ">99.9%"
    return f"{share:.0%}" if 0.0995 <= share < 0.985 else f"{share:.1%}"
