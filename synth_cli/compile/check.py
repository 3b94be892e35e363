"""What is wrong with a spec beyond its shape: every problem, without calling anything or importing anybody's code."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from synth_cli.compile.checked_models import named_problems
from synth_cli.compile.checked_step import Rooms, StepChecks, sampled
from synth_cli.compile.flow import INPUT, Columns, joined, sources_of
from synth_cli.compile.inputs import known_columns
from synth_cli.compile.names import Known, Texts
from synth_cli.errors import Problem, SynthError
from synth_cli.spec import formats, hub
from synth_cli.spec.load import Loaded
from synth_cli.spec.model import Input
from synth_cli.template import Templates

__all__ = ["Rooms", "problems"]


def problems(loaded: Loaded, rooms: Rooms) -> Iterator[Problem]:
    """All problems of a spec whose shape is right."""
    spec = loaded.spec
    texts = Texts(loaded, Templates(vars=spec.vars, seed=spec.seed))
    flow = {INPUT: Columns((yield from _input(spec.input, texts)))}
    yield from named_problems(loaded, rooms.provider_of)
    latest = INPUT
    for position, step in enumerate(spec.resolved()):
        # a name that no step has was found when the spec was read
        sources = sources_of(step, latest)
        reaching = joined([(source, flow.get(source, Columns())) for source in sources])
        checks = StepChecks(texts, step, loaded.at(position), reaching, rooms)
        yield from checks.problems()
        flow[step.name] = reaching.after(step, checks.output())
        latest = step.name
    final = flow[latest]
    yield from map(loaded.places.of, formats.problems(spec.output, None if final.some else final.every))
    yield from map(loaded.places.of, hub.problems(spec.output.push))


def _input(source: Input | None, texts: Texts) -> Generator[Problem, None, frozenset[str] | None]:
    """Yields the problems of the input and returns its columns."""
    loaded, columns = texts.loaded, None
    own = None if source is None else source.model_copy(update={"columns": None})
    try:
        columns = known_columns(own, folder=loaded.folder)
    except SynthError as error:
        yield loaded.places.problem(("input",), error.message, error.hint)
    if source is None:
        return columns
    yield from sampled(texts, ("input", "columns"), source.columns, Known(columns))
    columns = None if columns is None else columns | frozenset(source.columns or ())
    yield from texts.expression(("input", "where"), source.where, Known(columns))
    for name in [source.key] if isinstance(source.key, str) else source.key or ():
        if columns is not None and name not in columns:
            yield texts.unknown(("input", "key"), name, columns)
    return columns
