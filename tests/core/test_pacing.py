from __future__ import annotations

import pytest

from synth_cli.core.pacing import Estimate, Pacer, PaceSettings, input_tokens
from synth_cli.core.ports import RateLimits
from synth_cli.core.reply import Fault, FaultKind, Usage
from synth_cli.core.request import Message, Request, Terms


def request(*messages: Message, prompt: str | None = None, **params: object) -> Request:
    return Request(b"id", Terms("openai", "m", params=params), messages, prompt)


ASKED = request({"role": "user", "content": "x" * 400}, max_tokens=200)


def departures(pacer: Pacer, seconds: float, *, used: Usage | None = None, late: float = 0.0) -> list[float]:
    """When requests leave if there are always more, each timer `late`; each is answered at once with `used`."""
    now, times = 0.0, []
    while True:
        now = max(now, pacer.ready(now) + late)
        if now >= seconds:
            return times
        while pacer.ready(now) <= now:
            estimate = pacer.estimate(ASKED)
            pacer.leave(estimate, now)
            pacer.settle(estimate, used, now)
            times.append(now)


def busiest(times: list[float], window: float) -> int:
    """Most departures in any window of so many seconds."""
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - window:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("late", [0.0, 0.004, 0.03])
def test_requests_per_minute_are_used_and_kept(late: float) -> None:
    """Of 3,000 requests a minute at least 95% are used over two minutes, and no minute and no second has more."""
    times = departures(Pacer(PaceSettings(requests_per_minute=3000), 0.0), 120, late=late)
    assert len(times) >= 0.95 * 6000
    assert busiest(times, 60) <= 3000
    assert busiest(times, 1) <= 51


def test_tokens_per_minute_are_used_and_kept() -> None:
    """What answers really used counts, not what was estimated: at least 95% of the limit, never more."""
    used = Usage(input=130, output=170)
    times = departures(Pacer(PaceSettings(tokens_per_minute=300_000), 0.0), 120, used=used)
    assert 0.95 * 600_000 <= len(times) * 300 <= 600_000


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (PaceSettings(input_tokens_per_minute=13_000, output_tokens_per_minute=1_000_000), 13_000 / 130),
        (PaceSettings(input_tokens_per_minute=1_000_000, output_tokens_per_minute=17_000), 17_000 / 170),
        (PaceSettings(requests_per_minute=50, tokens_per_minute=1_000_000), 50),
    ],
)
def test_the_tightest_limit_decides(settings: PaceSettings, expected: float) -> None:
    """With several limits the rate is that of the tightest one."""
    times = departures(Pacer(settings, 0.0), 600, used=Usage(input=130, output=170))
    assert 0.95 * expected <= len(times) / 10 <= expected


def test_without_limits_nothing_waits() -> None:
    """A server that says nothing is used at full speed."""
    pacer = Pacer(PaceSettings(), 5.0)
    for _ in range(10_000):
        pacer.leave(pacer.estimate(ASKED), 5.0)
    assert pacer.ready(5.0) == 5.0


def test_idle_time_is_caught_up_with_for_a_moment_only() -> None:
    """After a minute's rest no burst leaves that a short window would refuse."""
    pacer = Pacer(PaceSettings(requests_per_minute=3000), 0.0)
    burst = 0
    while pacer.ready(60.0) <= 60.0:
        pacer.leave(pacer.estimate(ASKED), 60.0)
        burst += 1
    assert burst == 13


def test_limits_are_learnt_from_headers() -> None:
    """What the user did not fix is taken from the provider, and follows it when it changes."""
    pacer = Pacer(PaceSettings(), 0.0)
    pacer.learn(RateLimits(requests_per_minute=600), 0.0, 0.0)
    first = len(departures(pacer, 60))
    pacer.learn(RateLimits(requests_per_minute=1200), 60.0, 60.0)
    pacer.leave(Estimate(), 60.0)
    assert first == pytest.approx(588, abs=1)
    assert pacer.note(60.0) == "paced by the provider: 1,200 requests/min"


def test_the_users_limit_wins() -> None:
    """A limit in the spec is kept, whatever the provider would allow."""
    pacer = Pacer(PaceSettings(requests_per_minute=60), 0.0)
    pacer.learn(RateLimits(requests_per_minute=60_000), 0.0, 0.0)
    pacer.leave(Estimate(), 0.0)
    assert pacer.note(0.0) == "paced: 60 requests/min"


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        (RateLimits(requests_per_minute=3000, remaining_requests=1, reset_requests=60), 0.0),
        (RateLimits(requests_per_minute=3000, remaining_requests=0, reset_requests=60), 1.0),
        (RateLimits(requests_per_minute=3000, remaining_requests=0, reset_requests=0.2), 0.2),
        (RateLimits(remaining_tokens=0, reset_tokens=12), 12.0),
        (RateLimits(remaining_requests=0), 1.0),
        (RateLimits(remaining_requests=0, reset_requests=86_400), 60.0),
    ],
)
def test_nothing_remaining_pauses(said: RateLimits, wait: float) -> None:
    """0 remaining pauses until the reset, but no longer than a steadily refilled bucket takes to hold something."""
    pacer = Pacer(PaceSettings(requests_per_minute=1e9), 0.0)
    pacer.learn(said, 0.0, 0.0)
    assert pacer.ready(0.0) == pytest.approx(wait)


def test_a_fixed_window_is_waited_for() -> None:
    """A server that counts in windows (its reset is far although hardly anything is used) is left alone to its end."""
    pacer = Pacer(PaceSettings(requests_per_minute=1e9), 0.0)
    pacer.learn(RateLimits(requests_per_minute=3000, remaining_requests=2999, reset_requests=55), 0.0, 0.0)
    pacer.learn(RateLimits(requests_per_minute=3000, remaining_requests=0, reset_requests=40), 15.0, 15.0)
    assert pacer.ready(15.0) == 55.0


def test_one_pause_per_round_trip() -> None:
    """Answers to what was sent before the pause say nothing new and do not prolong it."""
    pacer = Pacer(PaceSettings(), 0.0)
    for now in (0.0, 0.3, 0.9):
        pacer.learn(RateLimits(requests_per_minute=60_000, remaining_requests=0, reset_requests=60), 0.0, now)
    assert pacer.ready(0.9) == 1.0


def test_a_request_above_the_whole_limit_is_refused_in_words() -> None:
    """It could never be sent: that is said, with the limit's name, and nothing hangs."""
    large = request({"role": "user", "content": "x" * 40_000}, max_tokens=200)
    fixed = Pacer(PaceSettings(tokens_per_minute=10_000), 0.0)
    learnt = Pacer(PaceSettings(), 0.0)
    learnt.learn(RateLimits(input_tokens_per_minute=8000), 0.0, 0.0)
    assert [fixed.refusal(fixed.estimate(large)), learnt.refusal(learnt.estimate(large))] == [
        Fault(
            FaultKind.TOO_LARGE,
            "the request needs about 10,200 tokens, but max_tokens_per_minute is 10,000; raise it, or shorten the "
            "prompt or max_tokens",
        ),
        Fault(
            FaultKind.TOO_LARGE,
            "the request needs about 10,000 input tokens, but the provider allows 8,000 a minute; shorten the prompt "
            "or max_tokens",
        ),
    ]
    assert fixed.refusal(fixed.estimate(ASKED)) is None


def test_output_is_estimated_by_what_answers_used() -> None:
    """The estimate follows the mean of the answers, and never exceeds max_tokens."""
    pacer = Pacer(PaceSettings(tokens_per_minute=1e9), 0.0)
    unbounded = request({"role": "user", "content": ""})
    before = pacer.estimate(unbounded).output
    for _ in range(200):
        pacer.settle(Estimate(), Usage(output=500), 0.0)
    after = [pacer.estimate(unbounded).output, pacer.estimate(ASKED).output]
    assert before == 256
    assert after == [pytest.approx(500), 200]


def test_input_is_estimated_by_bytes() -> None:
    """Four UTF-8 bytes a token, of texts and text parts; an image counts a constant, not its base64 form."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    parts = [{"type": "text", "text": "abcd"}, image]
    messages = ({"role": "system", "content": "日本"}, {"role": "user", "content": parts}, {"role": "assistant"})
    assert [input_tokens(request(*messages)), input_tokens(request(prompt="12345678"))] == [1002.5, 2.0]


def test_a_found_pace_is_kept_raised_and_forgotten() -> None:
    """A rate that a silent server let through is kept, raised while nothing is refused, dropped once it is idle."""
    pacer = Pacer(PaceSettings(), 0.0)
    pacer.find(600, 0.0)
    kept = len(departures(pacer, 60))
    note = pacer.note(59.99)
    pacer.probe(60.0)
    raised = pacer.ready(60.0) - 60.0
    pacer.probe(70.0)
    for _ in range(100):
        pacer.leave(Estimate(), 70.0)
    assert kept == pytest.approx(588, abs=1)
    assert note == "slowed because the provider refuses more: 600 requests/min"
    assert raised < 0.1
    assert pacer.ready(70.0) <= 70.0


def test_a_found_pace_is_not_lowered_below_what_was_found() -> None:
    """Requests refused by chance, not for their number, cannot bring the pace down to a crawl."""
    pacer = Pacer(PaceSettings(), 0.0)
    pacer.find(600, 0.0)
    for _ in range(2):
        pacer.probe(0.0)
    for _ in range(1000):
        pacer.ease(0.0)
    assert len(departures(pacer, 60)) == pytest.approx(588, abs=1)
