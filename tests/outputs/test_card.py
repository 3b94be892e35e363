"""The dataset card."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synth_cli.outputs.card import LICENSES, Asked, CardFacts, card, front, job_of, parted, size_category, with_front

FACTS = CardFacts(
    name="recipes",
    description="Recipes for each cuisine.",
    format="dpo",
    labels={"license": "CC-BY-4.0", "team": "data | x"},
    seed=7,
    read=1200,
    rows=1100,
    filtered=50,
    failed=20,
    dropped=(("a tie: all scores are equal", 30),),
    asked=(
        Asked("write", "openai/gpt-5-mini", "online", "gpt-5-mini-2025", 1200, 61_200, 120_400, 0.4211),
        Asked("judge", "vllm/org/m", "vllm", "", 1180, 10, 20, None),
    ),
    first=1_800_000_000.0,
    last=1_800_100_000.0,
    files=("recipes.parquet", "recipes.jsonl"),
    spec="prompt: |\n  ```python\n  1\n  ```\n",
    versions={"synth-cli": "0.1.0"},
)
TEXT = """---
license: cc-by-4.0
pretty_name: recipes
tags:
- synthetic
- synth-cli
- dpo
task_categories:
- text-generation
size_categories:
- 1K<n<10K
configs:
- config_name: default
  data_files:
  - split: train
    path: recipes.parquet
generated_by: synth-cli
synth_job: recipes
---

# recipes

Recipes for each cuisine.

Each row is a preference pair: `prompt`, the better answer `chosen`, the worse one `rejected`.

Made by language models, as the spec below says.

## Rows

|  | rows |
| --- | --- |
| in the input | 1,200 |
| in this dataset | 1,100 |
| left out by a filter | 50 |
| failed | 20 |
| dropped: a tie: all scores are equal | 30 |

## Models

| step | model | engine | answered by | answers | tokens in | tokens out | cost |
| --- | --- | --- | --- | --- | --- | --- | --- |
| write | openai/gpt-5-mini | online | gpt-5-mini-2025 | 1,200 | 61,200 | 120,400 | $0.42 |
| judge | vllm/org/m | vllm | not named | 1,180 | 10 | 20 | unknown |

All answers that the job has had (2027-01-15 to 2027-01-16, UTC), those to former versions of its spec included.

## Made with

|  |  |
| --- | --- |
| seed | 7 |
| label license | CC-BY-4.0 |
| label team | data \\| x |
| synth-cli | 0.1.0 |

## Spec

````yaml
prompt: |
  ```python
  1
  ```
````
"""


def test_the_whole_card() -> None:
    """Front matter for the Hub, counts, models with tokens and cost, labels, versions, and the spec in a fence of its
    own length."""
    assert card(FACTS) == TEXT


def test_a_simulated_card_says_so() -> None:
    """In the front matter and on its first lines."""
    text = card(replace(FACTS, simulated="all", limited=3, labels={}))
    assert front(replace(FACTS, simulated="some"))["tags"] == ["synthetic", "synth-cli", "dpo", "simulated"]
    assert "> **SIMULATED**: every answer was made up" in text
    assert "> **PARTLY SIMULATED**: some of the answers" in card(replace(FACTS, simulated="some"))
    assert "(limited to the first 3)" in text
    assert "No licence is named" in text


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({}, {}),
        ({"license": " "}, {}),
        ({"license": "MIT"}, {"license": "mit"}),
        ({"licence": "apache-2.0"}, {"license": "apache-2.0"}),
        ({"license": "other"}, {"license": "other"}),
        ({"license": "Our Own, v2"}, {"license": "other", "license_name": "our-own-v2"}),
    ],
)
def test_the_licence_is_a_label(labels: dict[str, str], said: dict[str, str]) -> None:
    """One that the Hub knows by name, or `other` with a name of its own; none is made up."""
    found = front(replace(FACTS, labels=labels))
    assert {key: found[key] for key in ("license", "license_name") if key in found} == said
    assert all(name == name.lower() for name in LICENSES)


@pytest.mark.parametrize(
    ("text", "job"),
    [
        (TEXT, "recipes"),
        (TEXT.replace("\n", "\r\n"), "recipes"),
        ("\ufeff" + TEXT, "recipes"),
        ("# My data\n", None),
        ("---\nlicense: mit\n---\n# Mine\n", None),
        ("---\n: [\n---\ngenerated_by: synth-cli\n", None),
        ("", None),
    ],
)
def test_a_card_is_known_as_ours_by_its_front_matter(text: str, job: str | None) -> None:
    """Only what we have written may be written anew."""
    assert job_of(text) == job


def test_a_card_is_parted_and_put_together() -> None:
    """Front matter as data and the body as it is."""
    said, body = parted("---\nlicense: mit\nx: [1, 2]\n---\n\n# A\n---\n")
    assert (said, body) == ({"license": "mit", "x": [1, 2]}, "\n# A\n---\n")
    assert parted(with_front(said, body)) == (said, body)


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (12_345, "10K<n<100K"), (5_000_000, "1M<n<10M")],
)
def test_size_category(rows: int, category: str) -> None:
    """As the Hub writes sizes."""
    assert size_category(rows) == category
