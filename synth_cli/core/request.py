"""What is asked: `Terms` are shared by many requests, a `Request` adds one row's messages and its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

import orjson

from synth_cli.core.reply import Json

Message: TypeAlias = Mapping[str, Any]
"""`{role, content, …}` in OpenAI's shape; local files and images are already data URLs."""

ID_BYTES = 16
SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the answer must be, before any provider's dialect: each codec lowers it as well as the provider allows.

    `value` is a JSON Schema (kind `schema`), a list of strings (`choice`), a pattern that matches the whole
    answer (`regex`), or a grammar in GBNF or Lark (`grammar`).
    """

    kind: Literal["schema", "choice", "regex", "grammar"]
    value: Json
    name: str = "answer"


@dataclass(frozen=True)
class Terms:
    """What a step's requests have in common. Secrets, ports and addresses of simulators are not part of it."""

    backend: str
    model: str
    endpoint: str = ""
    """The spec's `base_url`, or empty for the backend's own address."""
    params: Mapping[str, Any] = field(default_factory=dict)
    constraint: Constraint | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    tool_choice: Json = None
    completion: bool = False
    """Raw completion: `Request.prompt` is sent to the completions endpoint instead of messages."""

    @cached_property
    def digest(self) -> bytes:
        """The hash of everything here, computed once for all the requests that share it."""
        constraint = self.constraint and (self.constraint.kind, self.constraint.value)
        parts = (self.backend, self.model, self.endpoint, self.params, constraint, self.tools, self.tool_choice)
        return blake2b(orjson.dumps((*parts, self.completion), option=SORTED), digest_size=32).digest()


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that has no identity yet: what is left is to tell it apart from its equals."""

    terms: Terms
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    sample: int = 0
    voice: int = 0
    """Which of the step's models is asked."""

    def content(self, epoch: int) -> bytes:
        """16 bytes that are equal exactly for equal requests of one epoch."""
        digest = blake2b(self.terms.digest, digest_size=ID_BYTES)
        digest.update(orjson.dumps((self.messages, self.prompt, self.sample, epoch), option=SORTED))
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Request:
    """One request with its identity. `seed` is the parameters' seed + sample + draw, when they have a seed; `anew`
    counts on from there."""

    id: bytes
    terms: Terms
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    seed: int | None = None

    def asking(self, messages: tuple[Message, ...]) -> Request:
        """The same request with other messages: a re-ask that shows the model what was wrong."""
        return replace(self, messages=messages)

    def anew(self, answers: int = 1) -> Request:
        """The same request after so many answers that were not what was asked for: with the same seed, a model that
        keeps to it would only say the same again."""
        return self if self.seed is None or not answers else replace(self, seed=self.seed + answers * STRIDE)

    @property
    def input_bytes(self) -> int:
        """UTF-8 bytes of all text sent: an upper bound of the input tokens, used for budgets."""
        sent = orjson.dumps((self.messages, self.prompt, self.terms.tools), option=SORTED)
        return len(sent)


STRIDE = 1_000_003
"""Between the seeds of one request's answers: far more than lies between the seeds of a row's samples."""
Draw: TypeAlias = int | bytes
"""What tells equal requests apart: how many equal ones came before in the input, or, behind an answer, the 16 bytes of
the row or request that this one was made of."""
OFFSET_BYTES = 3


def apart(draw: Draw, salt: int) -> Draw:
    """The draw of the `salt`-th other step that asks the very same; the first one's stays as it is."""
    if not salt:
        return draw
    told = draw.to_bytes(8, "big") if isinstance(draw, int) else draw
    return blake2b(told + salt.to_bytes(8, "big"), digest_size=ID_BYTES, person=b"step").digest()


def identify(draft: Draft, content: bytes, draw: Draw) -> Request:
    """The request that this draft is."""
    digest = blake2b(content, digest_size=ID_BYTES)
    if isinstance(draw, int):
        digest.update(draw.to_bytes(8, "big"))
        offset = draw
    else:
        digest.update(draw)
        offset = int.from_bytes(draw[:OFFSET_BYTES], "big")
    seed = draft.terms.params.get("seed")
    own = seed + draft.sample + offset if isinstance(seed, int) and not isinstance(seed, bool) else None
    return Request(digest.digest(), draft.terms, draft.messages, draft.prompt, own)
