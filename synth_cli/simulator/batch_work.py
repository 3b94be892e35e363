"""One request of a batch worked off: the model's answer, and what the settings let go wrong with it."""

from __future__ import annotations

import orjson

from synth_cli.simulator.asked import Refused, server_error
from synth_cli.simulator.batch import Batch, Dialect
from synth_cli.simulator.batch_files import Results
from synth_cli.simulator.counts import Counts
from synth_cli.simulator.draw import Draw, mix, number_of, tag
from synth_cli.simulator.faults import Trouble, faultless, spoilt, troubled
from synth_cli.simulator.model import Model
from synth_cli.simulator.settings import BATCH_SHARES, Settings

PLACE = tag("batch")
MOST_LATE = 64
SPOILING = frozenset({Trouble.INVALID, Trouble.LENGTH, Trouble.FILTER})


class Worker:
    """Works for one batch. What goes wrong is drawn from a request's content and how often it came."""

    def __init__(self, batch: Batch, dialect: Dialect, settings: Settings, model: Model, counts: Counts) -> None:
        self.batch = batch
        self.dialect = dialect
        self.settings = settings
        self.model = model
        self.counts = counts
        self.sound = faultless(settings)
        self.smooth = not any(getattr(settings, name) for name in BATCH_SHARES)
        self.malformed = settings.batch_malformed

    def work(self, raw: bytes, number: int, results: Results) -> None:
        """A request without any result is not worked on, so nobody pays for it."""
        batch, settings, counts, dialect = self.batch, self.settings, self.counts, self.dialect
        line = dialect.line(orjson.loads(raw), batch)
        content = number_of(orjson.dumps(line.body))
        turn = counts.turns(content) + 1
        counts.turn(content)
        mishap = None if self.smooth else mishap_of(settings, content, turn)
        if mishap == "batch_share_missing":
            return
        try:
            if mishap == "batch_share_error":
                raise server_error()
            trouble = None if self.sound else troubled(settings, content, turn)
            trouble = trouble if trouble in SPOILING else None
            asked = dialect.read(line, batch)
            choices = [
                choice
                for one in asked
                for choice in self.model.answer(
                    one, settings, salt=turn if settings.vary else 0, invalid=trouble is Trouble.INVALID
                )
            ]
        except Refused as refused:
            batch.errored += 1
            results.bad.write(dialect.refused(line.key, refused, number))
            return
        if trouble in (Trouble.LENGTH, Trouble.FILTER):
            choices = [spoilt(choice, trouble) for choice in choices]
        tokens = sum(choice.tokens for choice in choices)
        batch.succeeded += 1
        batch.tokens_in += sum(one.prompt_tokens for one in asked)
        batch.tokens_out += tokens
        counts.pay(content, line.key)
        written = dialect.answered(line.key, asked, choices, content)
        if self.malformed and turn == 1:
            self.malformed -= 1
            results.good.write(written[: len(written) // 2] + b"\n")
            return
        if trouble is None:
            counts.answer(content, tokens)
        results.good.write(written)
        if mishap == "batch_share_duplicate":
            if len(results.late) < MOST_LATE:
                results.late.append(written)
            else:
                results.good.write(written)
        elif mishap == "batch_share_unknown":
            unknown = f"{mix(content):016x}{content:016x}"
            results.good.write(dialect.answered(unknown, asked, choices, mix(content)))


def mishap_of(settings: Settings, content: int, turn: int) -> str | None:
    drawn = Draw(mix(content ^ PLACE ^ mix(settings.seed + (turn << 32)))).unit()
    for name in BATCH_SHARES:
        share: float = getattr(settings, name)
        if drawn < share:
            return name
        drawn -= share
    return None
