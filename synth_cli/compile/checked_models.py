"""What is wrong with the models that a step asks, and with the parameters that go with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from synth_cli.compile import local
from synth_cli.compile.models import refs_of
from synth_cli.compile.plan import ProviderOf, settings_of
from synth_cli.errors import Problem, SynthError
from synth_cli.spec.backend import BackendParams, engines_of
from synth_cli.spec.hints import suggest
from synth_cli.spec.load import Loaded
from synth_cli.spec.model import Model, ModelRef, Step, backend_of, engine_of
from synth_cli.spec.places import Where


def named_problems(loaded: Loaded, provider_of: ProviderOf) -> Iterator[Problem]:
    """Of the models that the spec names once."""
    models = loaded.spec.models
    for name, ref in models.items():
        where = ("models", name)
        known = ref if isinstance(ref, str) else ref.name
        if known in models and known != name:
            place = where if isinstance(ref, str) else (*where, "name")
            message = f"'{known}' is a name that 'models' gives, not a model"
            yield loaded.places.problem(place, message, "write the model itself: provider/name")
        else:
            yield from _provider(ref, where, loaded, Step(name="main"), provider_of)


class ModelChecks:
    """Of one step. `own` is where its keys stand."""

    def __init__(self, step: Step, own: Where, loaded: Loaded, provider_of: ProviderOf, known: local.Local) -> None:
        self._step, self._own, self._loaded = step, own, loaded
        self._provider_of, self._local = provider_of, known

    def problems(self) -> Iterator[Problem]:
        step, loaded = self._step, self._loaded
        engines: dict[str, None] = {}
        for place, ref in refs_of(step):
            where = written(loaded, self._own, place)
            name = ref if isinstance(ref, str) else ref.name
            named = name in loaded.spec.models
            if not named:
                yield from _provider(ref, where, loaded, step, self._provider_of)
            model = loaded.spec.named(ref)
            settings = settings_of(step, model)
            engine = engine_of(step, model, served=bool(settings.base_url))
            engines[engine] = None
            # the one that wins first
            places: list[Where] = [where] if isinstance(ref, Model) or not named else []
            places += [("models", name)] if named else []
            for above in places:
                params = _params_at(above, where, ref, loaded)
                yield from self._engine_params(params, [engine], (*above, "backend_params"))
            yield from self._lengths(model, settings, places)
            if engine == "vllm":
                yield from local.problems(step, model, [*places, self._own, ()], loaded, self._local)
        if engines:
            yield from self._engine_params(step.backend_params, [*engines], (*self._own, "backend_params"))

    def _engine_params(self, params: BackendParams | None, engines: Sequence[str], where: Where) -> Iterator[Problem]:
        if params is None:
            return
        for name in sorted(params.model_fields_set):
            belongs = engines_of(name)
            inherited = self._own and where[:1] == ("steps",) and not self._loaded.places.find((*where, name))[2]
            if inherited or getattr(params, name) is None or not set(engines).isdisjoint(belongs):
                continue
            whose = f"engine{'s' if len(belongs) > 1 else ''} {' and '.join(belongs)}"
            have = f"this step's {'are' if len(engines) > 1 else 'is'} {' and '.join(engines)}"
            yield self._loaded.places.problem((*where, name), f"'{name}' belongs to the {whose}; {have}")

    def _lengths(self, model: Model, settings: BackendParams, places: Sequence[Where]) -> Iterator[Problem]:
        params = {**(self._step.generation_params or {}), **(model.generation_params or {})}
        for name in ("max_tokens", "min_tokens"):
            other = getattr(settings, name)
            if other is None or name not in params or params[name] == other:
                continue
            found = [(*place, "backend_params", name) for place in (*places, self._own, ())]
            where = next((place for place in found if self._loaded.places.find(place)[2]), found[-1])
            message = f"{name} is {other} here and {params[name]} in generation_params"
            yield self._loaded.places.problem(where, message)


def written(loaded: Loaded, own: Where, place: Where) -> Where:
    """Where a key of a step stands: in the step, or at the top from which it is inherited."""
    if own and not loaded.places.find((*own, place[0]))[2] and loaded.places.find((place[0],))[2]:
        return place
    return (*own, *place)


def _params_at(above: Where, where: Where, ref: ModelRef, loaded: Loaded) -> BackendParams | None:
    said = ref if above == where else loaded.spec.models[str(above[1])]
    return said.backend_params if isinstance(said, Model) else None


def _provider(ref: ModelRef, where: Where, loaded: Loaded, step: Step, provider_of: ProviderOf) -> Iterator[Problem]:
    """Whether somebody is known to have this model."""
    model = ref if isinstance(ref, Model) else Model(name=ref)
    try:
        provider_of(model.name, backend_of(step, model), base_url=settings_of(step, model).base_url)
    except SynthError as error:
        near = suggest(model.name, loaded.spec.models)
        hint = f"did you mean '{near}', which 'models' names?" if near else error.hint
        place = where if isinstance(ref, str) else (*where, "backend" if "backend" in error.message else "name")
        yield loaded.places.problem(place, error.message, hint)
