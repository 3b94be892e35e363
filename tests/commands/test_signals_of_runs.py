"""^C and SIGTERM: the first stops taking work and flushes, the second leaves now; both can be resumed."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from command_line import rows, spec, started, synth, write
from scripted_server import Asked, Say, serving

TWENTY = {"rows": [{"word": f"w{n:02}"} for n in range(20)]}


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_what_is_in_flight_settle(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    """Nothing more is sent, what was sent is kept, and the next run asks only for the rest."""
    release = threading.Event()

    def script(asked: Asked) -> Say:
        return Say(asked.user, after=0.5 if not release.is_set() else 0)

    with serving(script) as server:
        path = write(tmp_path, spec(server.url, input=TWENTY, backend_params={"max_concurrent_requests": 4}))
        process = started("run", path, cwd=tmp_path)
        assert server.reached.wait(20)
        process.send_signal(signum)
        _, err = process.communicate(timeout=20)
        sent = len(server.asked)
        release.set()
        status = synth("status", path, "--json").json
        again = synth("run", path, "--json").json
    assert process.returncode == code
    assert 1 <= sent <= 4
    assert (status["round_open"], status["answers"], status["last_exit_code"]) == (True, sent, code)
    assert "synth run job.yaml" in err
    assert again["traffic"]["requests"] == 20 - sent
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == [row["word"] for row in TWENTY["rows"]]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_leaves_now(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    """A stalled server does not hold a run that was told twice; what was answered before is kept."""

    def script(asked: Asked) -> Say:
        return Say(asked.user, after=0 if asked.number < 5 or done.is_set() else 60)

    done = threading.Event()
    with serving(script) as server:
        path = write(tmp_path, spec(server.url, input=TWENTY, backend_params={"max_concurrent_requests": 1}))
        process = started("run", path, cwd=tmp_path)
        for _ in range(200):
            if len(server.asked) >= 6:
                break
            threading.Event().wait(0.05)
        process.send_signal(signum)
        assert process.stderr is not None
        while "once more to leave now" not in process.stderr.readline():
            pass
        process.send_signal(signum)
        _, err = process.communicate(timeout=20)
        done.set()
        assert process.returncode == code
        assert "run again to go on" in err
        assert synth("run", path).code == 0
    assert len(server.asked) == 6 + 15
    assert len(rows(tmp_path / "job.jsonl")) == 20


def test_a_signal_during_a_long_wait_ends_the_run(tmp_path: Path) -> None:
    """A run that waits for a Retry-After of an hour ends at once when asked to."""
    with serving(lambda _: Say(None, 429, {"error": {"message": "later"}}, {"retry-after": "3600"})) as server:
        path = write(tmp_path, spec(server.url))
        process = started("run", path, cwd=tmp_path)
        assert server.reached.wait(20)
        for _ in range(200):
            if len(server.asked) >= 3:
                break
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_rows_are_written_publishes_nothing(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    """After the last answer, in the middle of a user's own function: the run ends in order, and is continued."""
    (tmp_path / "code.py").write_text(
        "import pathlib, time\n"
        "def rows(row, response):\n"
        "    begun = pathlib.Path(__file__).with_name('begun')\n"
        "    if not begun.exists():\n"
        "        begun.touch()\n"
        "        time.sleep(60)\n"
        "    return {'said': response}\n"
    )
    with serving() as server:
        path = write(tmp_path, spec(server.url, parse="code.py:rows"))
        process = started("run", path, cwd=tmp_path)
        for _ in range(400):
            if (tmp_path / "begun").exists():
                break
            threading.Event().wait(0.05)
        process.send_signal(signum)
        _, err = process.communicate(timeout=20)
        assert process.returncode == code
        assert "Traceback" not in err
        assert not (tmp_path / "job.jsonl").exists()
        assert synth("status", path, "--json").json["last_exit_code"] == code
        assert synth("run", path).code == 0
    assert len(server.asked) == 3
    assert len(rows(tmp_path / "job.jsonl")) == 3


def test_the_simulator_stops_in_order(tmp_path: Path) -> None:
    """`synth simulator` ends with 130 on ^C, without a traceback."""
    process = started("simulator", "--port", "0", cwd=tmp_path)
    assert process.stderr is not None
    lines = [process.stderr.readline()]
    while "http://" not in lines[-1]:
        lines.append(process.stderr.readline())
        assert len(lines) < 20
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
