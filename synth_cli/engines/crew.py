"""The workers behind an engine, each in its seat: started, lost, and started again a bounded number of times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from synth_cli.core.ports import Worker, WorkerLostError
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.errors import SetupError, SynthError

RESTARTS: Final = 3
"""So often in a row a worker is started again without any answer between."""
PAUSE: Final = 2.0
"""Seconds after a start that failed; twice as long each time. A GPU gives memory back some time after its process."""


class NowhereError(WorkerLostError):
    """There is no place any more where a worker could be started."""


@dataclass(frozen=True, slots=True)
class Hired:
    """A worker that can be asked, and how many requests it takes at once."""

    worker: Worker
    room: int


Say: TypeAlias = Callable[[str], None]
Start: TypeAlias = Callable[[Say], Awaitable[Hired]]
"""Starts a worker and says in a few words how far that is. May wait as long as there is no place for the worker.
Raises `SynthError`, or `WorkerLostError` where the worker died on the way; after `NowhereError` nobody tries again."""


class Seat:
    """A place for one worker. `load` counts the requests that its worker has in flight."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.hired: Hired | None = None
        self.load = 0
        self.alone = False
        """Kept for requests that are asked with nothing beside them."""
        self.said = ""
        self.starts = 0
        self.barren = 0
        """Workers lost since the last answer, but those that taught us which row kills them."""
        self.convictions = 0
        """Rows found since the last answer that kill a worker."""
        self.trouble: Fault | None = None
        """How the last worker ended, or why it could not be started."""
        self.given_up = False

    @property
    def room(self) -> int:
        """How many more requests it takes now."""
        return 0 if self.hired is None or self.alone else self.hired.room - self.load

    def say(self, words: str) -> None:
        self.said = words


class Crew:
    """`changed` is called whenever a worker came or went; `log` takes a line for each worker lost."""

    def __init__(self, starts: Sequence[Start], *, changed: Callable[[], None], log: Say) -> None:
        self.seats = tuple(Seat(start) for start in starts)
        self._changed = changed
        self._log = log
        self._news = asyncio.Event()
        self._filling: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        self._nowhere: Fault | None = None
        self._opened = False

    async def open(self) -> None:
        """Starts all; until the first can be asked. Raises what keeps it from being started."""
        for seat in self.seats:
            self._fill(seat, None)
        while not self.at_work:
            self._news.clear()
            self.check()
            await self._news.wait()
        self._opened = True

    @property
    def at_work(self) -> int:
        """Workers that can be asked."""
        return sum(seat.hired is not None for seat in self.seats)

    def check(self) -> None:
        """Raises what went wrong in starting a worker and is no trouble of the worker's."""
        if self._broken is not None:
            raise self._broken

    def freest(self) -> Seat | None:
        """The seat whose worker takes most more; None where none takes any."""
        best = max(self.seats, key=_room)
        return best if best.room > 0 else None

    def answered(self, seat: Seat) -> None:
        seat.barren = seat.convictions = 0

    def lost(self, seat: Seat, fault: Fault, *, convicted: bool = False) -> None:
        """The seat's worker is gone: another takes its place, unless that happened too often."""
        assert seat.hired is not None
        leaving, seat.hired, seat.alone = seat.hired.worker, None, False
        seat.trouble = fault
        if convicted:
            seat.convictions += 1
            seat.barren = 0
        else:
            seat.barren += 1
        self._log(f"a worker is lost: {fault.message}")
        self._fill(seat, leaving)
        self._told()

    @property
    def given_up(self) -> Fault | None:
        """Why no worker will come any more."""
        if self._nowhere is not None:
            return None if self.at_work else self._nowhere
        if not all(seat.given_up for seat in self.seats):
            return None
        last = self.seats[-1].trouble
        assert last is not None
        times = f"{RESTARTS + 1} times in a row without an answer between"
        return Fault(last.kind, f"the engine died {times}, the last time so: {last.message}")

    @property
    def note(self) -> str:
        """What is not as it should be, such as 'restarting the engine (2nd time)'; empty if all are at work."""
        if len(self.seats) == 1:
            (seat,) = self.seats
            if seat.hired is not None or seat.given_up:
                return ""
            doing = "starting the engine" if seat.trouble is None else f"restarting the engine{_times(seat.starts - 1)}"
            return f"{doing}: {seat.said}" if seat.said else doing
        missing = [seat for seat in self.seats if seat.hired is None]
        if not missing:
            return ""
        said = next((seat.said for seat in missing if seat.said), "")
        present = f"{self.at_work} of {len(self.seats)} workers"
        return f"{present}; {said}" if said else present

    async def close(self) -> None:
        """Ends every worker, and whatever is starting one."""
        for filling in self._filling:
            filling.cancel()
        if self._filling:
            await asyncio.wait(self._filling)
        present = [seat.hired.worker for seat in self.seats if seat.hired is not None]
        for seat in self.seats:
            seat.hired = None
        await asyncio.gather(*map(_dismissed, present))

    def _fill(self, seat: Seat, leaving: Worker | None) -> None:
        filling = asyncio.get_running_loop().create_task(self._filled(seat, leaving))
        self._filling.add(filling)
        filling.add_done_callback(self._after)

    def _after(self, filling: asyncio.Task[None]) -> None:
        self._filling.discard(filling)
        if not filling.cancelled() and filling.exception() is not None:
            self._broken = filling.exception()
        self._told()

    def _told(self) -> None:
        self._news.set()
        self._changed()

    async def _filled(self, seat: Seat, leaving: Worker | None) -> None:
        if leaving is not None:
            await _dismissed(leaving)
        while not self._enough(seat):
            seat.starts += 1
            try:
                seat.hired = await seat.start(seat.say)
            except (SynthError, WorkerLostError) as error:
                if not self._opened:
                    raise _unopened(error) from error
                seat.barren += 1
                seat.trouble = _why(error)
                self._log(f"a worker could not be started: {seat.trouble.message}")
                if isinstance(error, NowhereError):
                    self._nowhere = error.fault
                    return
                await asyncio.sleep(PAUSE * 2 ** (seat.barren - 1))
            else:
                seat.said = ""
                return
            seat.said = ""

    def _enough(self, seat: Seat) -> bool:
        """Whether it was started again often enough; then nobody sits there any more."""
        seat.given_up = max(seat.barren, seat.convictions) > RESTARTS
        return seat.given_up


def _why(error: SynthError | WorkerLostError) -> Fault:
    return error.fault if isinstance(error, WorkerLostError) else Fault(FaultKind.LOST, error.message)


def _unopened(error: SynthError | WorkerLostError) -> SynthError:
    if isinstance(error, SynthError):
        return error
    return SetupError(f"the engine could not be started: {error.fault.message}")


async def _dismissed(worker: Worker) -> None:
    """Closed, as far as one can that may be gone already."""
    with suppress(WorkerLostError):
        await worker.close()


def _room(seat: Seat) -> int:
    return seat.room


def _times(number: int) -> str:
    if number <= 1:
        return ""
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f" ({number}{ending} time)"
