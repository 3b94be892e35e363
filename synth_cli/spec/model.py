"""What a spec may say. Each field's description is its documentation, its JSON Schema text and its error text.

Values are frozen and as the user wrote them, after ${NAME}, file://, extends, profile and --set: templates are
still text (`Template`), defaults of the job are merged into a step by `Spec.resolved`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr

from synth_cli.spec.backend import BackendParams, engines_of
from synth_cli.spec.numbers import Duration, Number, Whole, as_number

Template: TypeAlias = Any
"""A Jinja template (text), or any YAML value whose texts are templates."""
Expression: TypeAlias = StrictStr | StrictBool
"""A Jinja expression, with or without the braces."""
Expressions: TypeAlias = Expression | Annotated[list[Expression], Field(min_length=1)]
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
Name: TypeAlias = Annotated[StrictStr, Field(pattern=NAME)]
"""Of a job, whose state folder it names, or a step."""
Engine: TypeAlias = Literal["online", "batch", "vllm"]


class Node(BaseModel):
    """A mapping of the spec: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False, protected_namespaces=()
    )


class Model(Node):
    """A model with its own settings, merged over the step's."""

    name: StrictStr = Field(description="provider/name as LiteLLM has it (vllm/name runs here), or a known bare name.")
    backend: StrictStr | None = Field(None, description="Protocol that speaks to it; default: from the provider.")
    engine: Engine | None = Field(None, description="online, batch or vllm, for this model.")
    base_url: StrictStr | None = Field(None, description="Shorthand for backend_params.base_url.")
    api_key: StrictStr | None = Field(None, description="Shorthand for backend_params.api_key (a secret).", repr=False)
    headers: dict[str, StrictStr] | None = Field(None, description="Extra HTTP headers for this endpoint.", repr=False)
    generation_params: dict[str, Any] | None = Field(None, description="Merged over the step's.")
    backend_params: BackendParams | None = Field(None, description="Merged over the step's.")


ModelRef: TypeAlias = StrictStr | Model
INHERITED = ("model", "engine", "generation_params", "backend_params", "fallback", "on_failure", "carry")
"""The step keys that may stand at the top beside `steps`, as defaults."""


class Turn(Node):
    """One side of a conversation."""

    model: ModelRef | None = Field(None, description="Who speaks; default: the step's model.")
    system: Template = Field(None, description="System prompt of this side.")


class Turns(Node):
    """A conversation between two models."""

    user: Turn = Field(description="The user's side.")
    assistant: Turn = Field(description="The assistant's side.")
    start: Template = Field(None, description="The user's first message.")
    max: Whole = Field(8, ge=1, description="Most messages in the conversation.")
    until: Expression | None = Field(None, description="Ends the conversation when true; `response` is the latest.")


class Refine(Node):
    """An answer fed back to improve it."""

    times: Whole = Field(1, ge=1, description="Most passes after the first answer.")
    prompt: Template = Field(description="The user turn of each pass; sees `response`.")
    until: Expression | None = Field(None, description="Ends the passes when true.")


class Prompt(Node):
    """A system and a user turn."""

    system: StrictStr | None = Field(None, description="The system turn.")
    user: StrictStr = Field(description="The user turn.")


class ChatMessage(Node):
    """One message; content is a template or a list of parts `{type: text, text}`, `{type: image|file, source}`."""

    role: StrictStr = Field(description="system, user, assistant or tool.")
    content: Template = Field(None, description="A template, or a list of parts.")
    name: Template = Field(None, description="The participant's name.")
    tool_calls: Template = Field(None, description="Calls that an assistant message made.")
    tool_call_id: Template = Field(None, description="The call that a tool message answers.")
    reasoning_content: Template = Field(None, description="Reasoning of an assistant message, where a server takes it.")


class Response(Node):
    """What a valid answer is: at most one of schema, choice, regex, grammar."""

    schema_: Any = Field(None, alias="schema", description="Mini-language, JSON Schema, file:// or python: model.")
    choice: list[StrictStr] | StrictStr | None = Field(None, description="The answers allowed: a list or a template.")
    regex: StrictStr | None = Field(None, description="A pattern that matches the whole answer.")
    grammar: StrictStr | None = Field(None, description="A grammar of the whole answer, in GBNF or Lark.")
    check: Expressions | None = Field(None, description="Expressions that must all be true of a valid answer.")
    feedback: StrictBool = Field(False, description="A re-ask shows the model what was wrong.")


class StepKeys(Node):
    """The keys of a step; in a spec without `steps` they stand at the top."""

    model: ModelRef | list[ModelRef] | None = Field(None, description="A name, a model mapping, or a pool of these.")
    engine: Engine | None = Field(None, description="online, batch or vllm; default online.")
    generation_params: dict[str, Any] | None = Field(None, description="Sampling parameters, sent as they are.")
    backend_params: BackendParams | None = Field(None, description="How the engine works.")
    prompt: StrictStr | Prompt | None = Field(None, description="The user turn, or {system, user}.")
    messages: StrictStr | list[ChatMessage] | None = Field(None, description="A list of messages, or one template.")
    prompt_format: StrictStr = Field(
        "chat", description="chat, or a raw completion prompt: none, chatml, llama2, zephyr, or a template."
    )
    tools: StrictStr | list[dict[str, Any]] | None = Field(None, description="Function definitions for the model.")
    tool_choice: Any = Field(None, description="auto, none, required, or one function.")
    samples: Whole = Field(1, ge=1, description="Generations per row.")
    group_samples: StrictBool = Field(False, description="One row; its response columns are lists of the samples'.")
    response: Response | None = Field(None, description="What a valid answer is.")
    each: Expression | None = Field(None, description="A list: one output row per item, seen as `item`.")
    columns: dict[str, Template] | None = Field(None, description="Output columns, computed in order.")
    carry: StrictBool | list[StrictStr] = Field(True, description="Which input columns go along.")
    keep_if: Expression | None = Field(None, description="Rows where it is false are left out.")
    parse: StrictStr | None = Field(None, description="path.py:function or package.module:function.")
    fallback: list[ModelRef] | None = Field(None, description="Who answers when the first one's answer failed.")
    refine: Refine | None = Field(None, description="Feeds an answer back to improve it.")
    turns: Turns | None = Field(None, description="A conversation between two models.")
    on_failure: Literal["drop", "keep", "stop"] = Field("drop", description="What becomes of a failed row.")


class Step(StepKeys):
    """One step of several."""

    name: Name = Field("main", description="Names the step for `from` and --set.")
    type: Literal["llm", "map", "sample", "dedup", "group", "python"] = Field("llm", description="What it does.")
    from_: StrictStr | list[StrictStr] | None = Field(None, alias="from", description="Whose rows; default: previous.")
    by: StrictStr | list[StrictStr] | None = Field(
        None, description="Key columns of group, and of dedup (all by default)."
    )
    method: Literal["exact", "minhash"] | None = Field(
        None, description="How dedup compares: exact (default), or minhash for near-duplicates."
    )
    threshold: Number | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of common 5-character pieces, case and punctuation aside, from which minhash drops; 0.8.",
    )
    function: StrictStr | None = Field(None, description="path.py:name of a python step.")


SOURCES = ("path", "dataset", "rows", "count", "matrix", "sql")
"""The keys of an input that say where its rows come from."""
OVERRIDE = "generation_params"
"""The input column of a row's own sampling parameters; it is for the model and goes no further."""


class Input(Node):
    """Where rows come from: exactly one source, or none for one empty row."""

    path: StrictStr | None = Field(None, description="csv, tsv, json, jsonl (also .gz, .zst), parquet, a glob, a URL.")
    dataset: StrictStr | Dataset | None = Field(None, description="A Hugging Face dataset.")
    rows: list[dict[str, Any]] | None = Field(None, description="Rows written in the spec.")
    count: Whole | None = Field(None, ge=0, description="n rows that have only `index`.")
    matrix: dict[str, list[Any]] | None = Field(None, description="The product of lists.")
    sql: Sql | None = Field(None, description="A query's result.")
    columns: dict[str, Any] | None = Field(None, description="Samplers, drawn from seed and row.")
    where: Expression | None = Field(None, description="Keeps rows where it is true.")
    shuffle: StrictBool = Field(False, description="Shuffles rows, by the job's seed.")
    skip: Whole = Field(0, ge=0, description="Leaves out the first n rows.")
    take: Whole | None = Field(None, ge=0, description="Takes at most n rows.")
    key: StrictStr | list[StrictStr] | None = Field(None, description="Columns that identify a row.")


class Dataset(Node):
    """A Hugging Face dataset."""

    name: StrictStr = Field(description="Repository, or a folder on this machine.")
    config: StrictStr | None = Field(None, description="Its configuration.")
    split: StrictStr = Field("train", description="Its split.")
    revision: StrictStr | None = Field(None, description="Branch, tag or commit.")
    streaming: StrictBool = Field(False, description="Reads without downloading the whole.")


class Sql(Node):
    """A query."""

    url: StrictStr = Field(description="SQLAlchemy URL (a secret).", repr=False)
    query: StrictStr = Field(description="The SELECT.")


class Push(Node):
    """A Hugging Face repository to push to."""

    repo: StrictStr = Field(description="owner/name.")
    private: StrictBool = Field(True, description="Whether the repository is private.")
    split: StrictStr = Field("train", description="The split to write.")


SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".csv")
"""What an output's name ends in, in any case of letters: it says the format."""


class Output(Node):
    """Where rows go."""

    path: StrictStr | list[StrictStr] | None = Field(None, description="File(s); the suffix decides the format.")
    metadata: StrictBool = Field(False, description="Adds a `_synth` column.")
    format: Literal["rows", "chat", "alpaca", "sharegpt", "dpo"] = Field("rows", description="A trainer's shape.")
    map: dict[str, StrictStr] | None = Field(None, description="Columns to use for the format.")
    card: StrictBool = Field(False, description="Writes a dataset card beside the data.")
    push: Push | None = Field(None, description="Pushes the dataset to a hub.")


class Accept(Node):
    """When the output is published."""

    min_rows: Whole | None = Field(None, ge=0, description="At least so many output rows.")
    max_error_rate: Number | None = Field(None, ge=0, le=1, description="At most so many failed / input rows.")


class TargetRows(Node):
    """Draw inputs until so many rows passed."""

    rows: Whole = Field(ge=1, description="Accepted rows wanted.")
    max_candidates: Whole | None = Field(None, ge=1, description="Most inputs drawn.")


class Budget(Node):
    """What a round may cost."""

    max_cost_usd: Number | None = Field(None, ge=0, description="USD over the round.")
    max_tokens: Whole | None = Field(None, ge=0, description="Tokens, in and out, over the round.")
    max_time: Duration | None = Field(None, description="Per run: 90s, 30m, 5h, 2d or seconds; kept in seconds.")


class Spec(StepKeys):
    """A job."""

    version: Annotated[Literal[1], BeforeValidator(as_number)] = Field(1, description="Of the language.")
    name: Name | None = Field(None, description="Names the state folder; default: the file's stem.")
    description: StrictStr | None = Field(None, description="For people.")
    vars: dict[str, Any] = Field(default_factory=dict, description="Constants for templates.")
    labels: dict[str, StrictStr] = Field(default_factory=dict, description="Go into reports, cards and batches.")
    seed: Whole = Field(0, description="Of everything that is drawn.")
    profiles: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Named overrides.", repr=False)
    extends: StrictStr | None = Field(None, description="A spec that this one overrides.")
    models: dict[str, ModelRef] = Field(default_factory=dict, description="Models named once.")
    input: Input | None = Field(None, description="Where rows come from.")
    steps: list[Step] | None = Field(None, min_length=1, description="Steps in order.")
    output: Output = Field(default_factory=lambda: Output.model_validate({}), description="Where rows go.")
    accept: Accept | None = Field(None, description="When the output is published.")
    target_rows: TargetRows | None = Field(None, description="Accepted rows wanted.")
    budget: Budget | None = Field(None, description="What a round may cost.")

    def resolved(self) -> tuple[Step, ...]:
        """The steps with the top level's defaults merged in; a spec without `steps` is one step named `main`."""
        own = {name: getattr(self, name) for name in StepKeys.model_fields if name in self.model_fields_set}
        if self.steps is None:
            return (Step.model_construct(_fields_set={*own}, **{**_defaults(Step), **own}),)
        return tuple(_inherit(own, step, self.models) for step in self.steps)

    def named(self, ref: ModelRef) -> Model:
        """The model that a step means: one of `models` under what the step says beside its name, or as it is written.

        What `models` calls a name is a provider's own name: it leads to no other.
        """
        return _named(ref, self.models)


def _defaults(node: type[Node]) -> dict[str, Any]:
    return {name: field.get_default(call_default_factory=True) for name, field in node.model_fields.items()}


def _named(ref: ModelRef, models: Mapping[str, ModelRef]) -> Model:
    model = ref if isinstance(ref, Model) else Model(name=ref)
    if model.name not in models:
        return model
    known = models[model.name]
    base = known if isinstance(known, Model) else Model(name=known)
    said = {name: getattr(model, name) for name in model.model_fields_set - {"name"}}
    if base.generation_params and model.generation_params:
        said["generation_params"] = {**base.generation_params, **model.generation_params}
    if base.backend_params and model.backend_params:
        said["backend_params"] = base.backend_params.overlaid(model.backend_params)
    return base.model_copy(update=said)


def _engines(step: Step, models: Mapping[str, ModelRef]) -> set[Engine]:
    """The engines that a step's models run on: a pool, a fallback or a side of a conversation has its own."""
    refs: list[ModelRef | None] = [*step.model] if isinstance(step.model, list) else [step.model]
    refs += step.fallback or []
    if step.turns is not None:
        refs += [side.model for side in (step.turns.user, step.turns.assistant) if side.model is not None]
    return {_engine(step, None if ref is None else _named(ref, models)) for ref in refs}


def _engine(step: Step, model: Model | None) -> Engine:
    settings = (step.backend_params, model.backend_params if model is not None else None)
    served = any(params is not None and params.base_url for params in settings)
    return engine_of(step, model, served=served or (model is not None and bool(model.base_url)))


HERE = "vllm/"
"""Before a model's name: `backend: vllm`, as a provider is said."""


def backend_of(step: Step, model: Model | None) -> str | None:
    """The backend that the spec says; None leaves it to the model's name."""
    if model is not None and model.backend is not None:
        return model.backend
    here = ((model.engine if model is not None else None) or step.engine) == "vllm"
    return "vllm" if here or (model is not None and model.name.startswith(HERE)) else None


def engine_of(step: Step, model: Model | None, *, served: bool) -> Engine:
    """What a model runs on in a step: the backend vllm with a `base_url` is a server (`served`), asked online."""
    engine = (model.engine if model is not None else None) or step.engine
    if engine == "vllm" or (engine is None and backend_of(step, model) == "vllm"):
        return "online" if served else "vllm"
    return engine or "online"


def _inherit(top: dict[str, Any], step: Step, models: Mapping[str, ModelRef]) -> Step:
    """A step over the top level's defaults: the two params mappings merge by key, the rest replace.

    An inherited parameter of another engine than the step's is left out.
    """
    given = step.model_fields_set
    update: dict[str, Any] = {name: top[name] for name in INHERITED if name in top and name not in given}
    if "generation_params" in top and "generation_params" in given:
        update["generation_params"] = {**(top["generation_params"] or {}), **(step.generation_params or {})}
    inherited: BackendParams | None = top.get("backend_params")
    if inherited is not None:
        engines = _engines(step.model_copy(update={**update, "backend_params": step.backend_params}), models)
        fitting = [name for name in inherited.model_fields_set if not engines.isdisjoint(engines_of(name))]
        kept = BackendParams.model_construct(**{name: getattr(inherited, name) for name in fitting})
        own = step.backend_params
        update["backend_params"] = kept if own is None else kept.overlaid(own)
    return step.model_copy(update=update)


Input.model_rebuild()
