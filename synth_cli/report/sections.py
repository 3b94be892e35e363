"""What a report says to people, line by line; the terminal and Markdown differ only in how they set it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from synth_cli.core.figures import Latency, Traffic
from synth_cli.core.ports import RateLimits
from synth_cli.report.causes import FAULTS, Cause
from synth_cli.report.figures import Output, Report
from synth_cli.report.headline import balance
from synth_cli.report.words import cost, counted, duration, latency, number, percent, rate, short

DOT = " · "
NAMED = 6
"""Finish reasons and models that are named one by one."""
PRETEND = "SIMULATED: every answer was made up by the simulator; no model was asked and nothing was paid."


@dataclass(frozen=True, slots=True)
class Line:
    label: str
    text: str


def title(report: Report) -> str:
    state = "done in" if report.exit_code == 0 else f"exit {report.exit_code} after"
    return f"{state} {duration(report.seconds)}"


def lines(report: Report) -> Iterator[Line]:
    """Only what there is something to say about."""
    traffic, rows = report.traffic, report.rows
    yield Line("Rows", _rows(report))
    if traffic.requests or rows.reused:
        yield Line("Requests", _requests(traffic, rows.reused))
    if traffic.replies:
        yield Line("Tokens", _tokens(traffic, report.output_rate))
        yield Line("Cost", _cost(report))
    if traffic.latency is not None:
        yield Line("Latency", _percentiles(traffic.latency))
    if traffic.first_token is not None:
        yield Line("First token", _percentiles(traffic.first_token))
    if traffic.replies:
        yield Line("Finish", _tally(traffic.finish_reasons, "no reason given"))
        yield Line("Model", _tally(traffic.models, "not named"))
    if report.round_traffic is not None:
        yield Line("Round", _round(report.round_traffic))
    limits = _limits(report.limits)
    if limits:
        yield Line("Limits", limits)
    yield from _outputs(report.outputs)
    if report.folder:
        yield Line("Details", report.folder)
    told = {output.note for output in report.outputs}
    for note in report.notes:
        if note not in told:
            yield Line("Note", note)


def _outputs(outputs: Sequence[Output]) -> Iterator[Line]:
    for output in outputs:
        if output.published:
            yield Line("Wrote", f"{output.path} ({counted(output.rows, 'row')})")
    rest = [output for output in outputs if not output.published]
    for note in dict.fromkeys(output.note for output in rest):
        alike = [output for output in rest if output.note == note]
        yield Line("Not written", f"{', '.join(output.path for output in alike)}: {note or 'not accepted'}")
        kept = [output.candidate for output in alike if output.candidate]
        if kept:
            yield Line("Rows are in", ", ".join(kept))


def named(cause: Cause) -> str:
    return f"{cause.what} ({cause.detail})" if cause.detail else cause.what


def _rows(report: Report) -> str:
    rows = report.rows
    parts = [balance(rows, number(rows.read))]
    if rows.failed:
        parts[0] += f" ({percent(rows.error_rate)})"
    if rows.kept:
        parts.append(f"{number(rows.kept)} of the failed kept with nulls")
    if report.rows_per_second is not None and report.traffic.replies:
        parts.append(f"{rate(report.rows_per_second)} rows/s")
    return DOT.join(parts)


def _requests(traffic: Traffic, reused: int) -> str:
    parts = [f"{number(traffic.requests)} sent", f"{number(traffic.replies)} answered"]
    if traffic.retries:
        parts.append(counted(traffic.retries, "retry", "retries"))
    ranked = sorted(traffic.faults.items(), key=lambda item: (-item[1], item[0]))
    parts += [f"{FAULTS[kind]} {number(count)}" for kind, count in ranked if count]
    if reused:
        parts.append(f"{counted(reused, 'answer')} reused")
    return DOT.join(parts)


def _percentiles(found: Latency) -> str:
    return DOT.join(f"p{n} {latency(s)}" for n, s in ((50, found.p50), (95, found.p95), (99, found.p99)))


def _tokens(traffic: Traffic, per_second: float | None = None) -> str:
    usage = traffic.usage
    read = [f"{short(usage.cached)} cached"] if usage.cached else []
    read += [f"{short(usage.cache_written)} written to the cache"] if usage.cache_written else []
    into = f"{short(usage.input)} in" + (f" ({', '.join(read)})" if read else "")
    out = f"{short(usage.output)} out" + (f" ({short(usage.reasoning)} reasoning)" if usage.reasoning else "")
    unknown = [f"not known for {counted(traffic.unmetered, 'answer')}"] if traffic.unmetered else []
    fast = [f"{rate(per_second)} out/s"] if per_second else []
    return DOT.join([into, out, *fast, *unknown])


def _cost(report: Report) -> str:
    if not report.simulated:
        return cost(report.traffic)
    known = report.traffic.known_cost
    return "nothing (simulated)" if not known else f"nothing (simulated); at real prices {cost(report.traffic)}"


def _round(traffic: Traffic) -> str:
    parts = [f"{counted(traffic.requests, 'request')} over all its runs"]
    # without an answer nothing is known of either
    return DOT.join([*parts, _tokens(traffic), cost(traffic)] if traffic.replies else parts)


def _tally(counts: Mapping[str, int], unnamed: str) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{name or unnamed} {number(count)}" for name, count in ranked[:NAMED]]
    rest = sum(count for _, count in ranked[NAMED:])
    return DOT.join([*named, *([f"others {number(rest)}"] if rest else [])])


def _limits(limits: RateLimits | None) -> str:
    if limits is None:
        return ""
    known = (
        (limits.requests_per_minute, "requests/min"),
        (limits.tokens_per_minute, "tokens/min"),
        (limits.input_tokens_per_minute, "input tokens/min"),
        (limits.output_tokens_per_minute, "output tokens/min"),
    )
    return DOT.join(f"{number(round(value))} {unit}" for value, unit in known if value is not None)
