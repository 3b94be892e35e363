"""The dataset card: README.md with the front matter that the Hugging Face Hub reads. Pure.

The front matter's keys (license, tags, size_categories, task_categories, configs with data_files) are those of the
Hub's documentation, "Dataset Cards" and "Manually configure your data files". `generated_by` and `synth_job` are ours:
by them a card is known as one that may be written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import yaml

Simulated: TypeAlias = Literal["none", "some", "all"]
NAME = "README.md"
MAKER = "synth-cli"
LICENSE_LABELS = ("license", "licence")
"""The labels of a spec that say under which licence its data may be used."""
LICENSES = frozenset(
    {
        *("afl-3.0", "agpl-3.0", "apache-2.0", "apple-amlr", "apple-ascl", "artistic-2.0", "bigcode-openrail-m"),
        *("bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause"),
        *("bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0"),
        *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0"),
        *("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0"),
        *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "creativeml-openrail-m"),
        *("deepfloyd-if-license", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "gemma", "gfdl", "gpl"),
        *("gpl-2.0", "gpl-3.0", "intel-research", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "llama2"),
        *("llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa"),
        *("odbl", "odc-by", "ofl-1.1", "openrail", "openrail++", "osl-3.0", "other", "pddl", "postgresql", "unknown"),
        *("unlicense", "wtfpl", "zlib"),
    }
)
"""The identifiers that the Hub takes (its documentation, "Licenses"); any other licence is `other` with a name."""
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000)
WHAT: Mapping[str, str] = {
    "rows": "",
    "chat": "Each row is a conversation: `messages`, a list of `role` and `content`.",
    "alpaca": "Each row is an instruction: `instruction`, `input`, `output`.",
    "sharegpt": "Each row is a conversation: `conversations`, a list of `from` and `value`.",
    "dpo": "Each row is a preference pair: `prompt`, the better answer `chosen`, the worse one `rejected`.",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What one model answered for one step, over all runs of the job. `cost` in USD; None where it is not known."""

    step: str
    model: str
    """As the spec names it."""
    engine: str
    answered: str
    """Who answered, by its own word."""
    replies: int
    input_tokens: int
    output_tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that a card says. Nothing here is a secret. `files` are beside the card, the one to load first."""

    name: str
    description: str = ""
    format: str = "rows"
    labels: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    read: int = 0
    rows: int = 0
    filtered: int = 0
    failed: int = 0
    dropped: Sequence[tuple[str, int]] = ()
    """(reason, rows)."""
    asked: Sequence[Asked] = ()
    first: float | None = None
    last: float | None = None
    """When the first and the last answer came, in seconds since the epoch."""
    files: Sequence[str] = ()
    split: str = "train"
    spec: str = ""
    """The spec as YAML."""
    simulated: Simulated = "none"
    """Which of the answers the simulated model gave."""
    limited: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def card(facts: CardFacts) -> str:
    """The card's text. The same facts give the same text: it has no time of its own."""
    body = "\n".join(_body(facts))
    return with_front(front(facts), f"\n{body}\n")


def front(facts: CardFacts) -> dict[str, Any]:
    """The front matter as data."""
    said: dict[str, Any] = {}
    license = license_of(facts.labels)
    if license:
        known = license.lower() if license.lower() in LICENSES else "other"
        said["license"] = known
        if known == "other" and license.lower() != "other":
            said["license_name"] = re.sub(r"[^a-z0-9.+-]+", "-", license.lower()).strip("-")
    said["pretty_name"] = facts.name
    said["tags"] = ["synthetic", MAKER, *(["dpo"] if facts.format == "dpo" else [])]
    if facts.simulated != "none":
        said["tags"].append("simulated")
    if facts.format != "rows":
        said["task_categories"] = ["text-generation"]
    said["size_categories"] = [size_category(facts.rows)]
    if facts.files:
        said["configs"] = [
            {"config_name": "default", "data_files": [{"split": facts.split, "path": facts.files[0]}]},
        ]
    said["generated_by"] = MAKER
    said["synth_job"] = facts.name
    return said


def with_front(front: Mapping[str, Any], body: str) -> str:
    said = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{said}---\n{body}"


def parted(text: str) -> tuple[dict[str, Any], str]:
    """(front matter, body) of a card; without a front matter that can be read, ({}, the whole text)."""
    found = re.match(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        return {}, text
    try:
        said = yaml.safe_load(found[1])
    except yaml.YAMLError:
        return {}, text
    return (said, text[found.end() :]) if isinstance(said, dict) else ({}, text)


def job_of(text: str) -> str | None:
    """The job whose card this is; None if it is somebody else's."""
    said, _ = parted(text)
    return str(said.get("synth_job", "")) if said.get("generated_by") == MAKER else None


def license_of(labels: Mapping[str, str]) -> str:
    return next((labels[name].strip() for name in LICENSE_LABELS if labels.get(name, "").strip()), "")


def size_category(rows: int) -> str:
    """As the Hub writes it: n<1K, 1K<n<10K, … n>1T."""
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B")
    for position, size in enumerate(SIZES):
        if rows < size:
            return f"{names[position - 1]}<n<{names[position]}" if position else "n<1K"
    return "10B<n<100B"


def _body(facts: CardFacts) -> Iterator[str]:
    yield f"# {facts.name}"
    if facts.simulated == "all":
        yield "\n> **SIMULATED**: every answer was made up by the simulator; no model was asked."
    elif facts.simulated == "some":
        yield "\n> **PARTLY SIMULATED**: some of the answers were made up by the simulator."
    if facts.description.strip():
        yield f"\n{facts.description.strip()}"
    if WHAT.get(facts.format):
        yield f"\n{WHAT[facts.format]}"
    yield "\nMade by language models, as the spec below says."
    if not license_of(facts.labels):
        yield "\nNo licence is named; the terms of the models' providers may bind you."
    yield "\n## Rows\n"
    yield from _table(("", "rows"), _counts(facts))
    if facts.asked:
        yield "\n## Models\n"
        yield from _models(facts)
    yield "\n## Made with\n"
    yield from _table(("", ""), _made_with(facts))
    if facts.spec:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", facts.spec)), default=0))
        yield f"\n## Spec\n\n{fence}yaml\n{facts.spec.rstrip()}\n{fence}"


def _counts(facts: CardFacts) -> Iterator[tuple[str, str]]:
    read = f"{facts.read:,}" + (f" (limited to the first {facts.limited:,})" if facts.limited is not None else "")
    yield "in the input", read
    yield "in this dataset", f"{facts.rows:,}"
    if facts.filtered:
        yield "left out by a filter", f"{facts.filtered:,}"
    if facts.failed:
        yield "failed", f"{facts.failed:,}"
    for reason, count in facts.dropped:
        yield f"dropped: {reason}", f"{count:,}"


def _models(facts: CardFacts) -> Iterator[str]:
    rows = [
        (
            each.step,
            each.model,
            each.engine,
            each.answered or "not named",
            f"{each.replies:,}",
            f"{each.input_tokens:,}",
            f"{each.output_tokens:,}",
            _usd(each.cost),
        )
        for each in facts.asked
    ]
    header = ("step", "model", "engine", "answered by", "answers", "tokens in", "tokens out", "cost")
    yield from _table(header, rows)
    when = [datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d") for at in (facts.first, facts.last) if at is not None]
    if when:
        span = when[0] if len(set(when)) == 1 else f"{when[0]} to {when[-1]}"
        yield f"\nAll answers that the job has had ({span}, UTC), those to former versions of its spec included."


def _made_with(facts: CardFacts) -> Iterator[tuple[str, str]]:
    yield "seed", str(facts.seed)
    for name, value in facts.labels.items():
        yield f"label {name}", value
    for name, version in facts.versions.items():
        yield name, version


def _usd(cost: float | None) -> str:
    if cost is None:
        return "unknown"
    return f"${cost:,.2f}" if cost >= 0.01 or not cost else f"${cost:.2g}"


def _table(header: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'|'.join(' --- ' for _ in header)}|"
    for row in rows:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
