"""The dataset card that a run writes beside its data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import last_run, rows, spec, synth, write
from scripted_server import Asked, Say, echo, serving

from synth_cli.outputs import publish
from synth_cli.outputs.card import job_of, parted


def carded(url: str, **more: Any) -> dict[str, Any]:
    return spec(url, output={"path": ["out/words.jsonl", "out/words.parquet"], "card": True}, **more)


def test_a_card_stands_beside_the_data(tmp_path: Path) -> None:
    """Counts, who answered, tokens and cost, labels, and the spec without its key."""

    def script(asked: Asked) -> Say:
        return Say(None, 400, {"error": {"message": "no"}}) if "two" in asked.user else echo(asked)

    with serving(script) as server:
        made = carded(
            server.url,
            name="words",
            description="Words, said again.",
            labels={"license": "MIT", "team": "x"},
            backend_params={"in_mtok_cost": 1000, "out_mtok_cost": 2000},
        )
        called = synth("run", write(tmp_path, made))
    assert called.code == 1
    text = (tmp_path / "out" / "README.md").read_text()
    said, body = parted(text)
    assert (said["license"], said["size_categories"], job_of(text)) == ("mit", ["n<1K"], "words")
    assert said["configs"][0]["data_files"] == [{"split": "train", "path": "words.parquet"}]
    assert "Words, said again." in body
    assert "| in the input | 3 |\n| in this dataset | 2 |\n| failed | 1 |" in body
    assert "| main | openai/m | online | m | 2 | 20 | 10 | $0.04 |" in body
    assert "| label team | x |" in body
    _, _, fenced = body.partition("```yaml\n")
    assert yaml.safe_load(fenced.partition("```")[0])["model"]["api_key"] == "(secret)"
    assert "sk-quite-secret" not in text
    assert "the dataset card is" in called.err


def test_the_same_data_has_the_same_card(tmp_path: Path) -> None:
    """Running again asks nothing and changes no byte."""
    with serving() as server:
        path = write(tmp_path, carded(server.url))
        assert synth("run", path).code == 0
        first = (tmp_path / "out" / "README.md").read_bytes()
        assert synth("run", path).code == 0
    assert len(server.asked) == 3
    assert (tmp_path / "out" / "README.md").read_bytes() == first


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("# My own words\n", "was not written by synth"),
        ("---\ngenerated_by: synth-cli\nsynth_job: other\n---\n", "is the card of the job 'other'"),
    ],
)
def test_a_readme_of_somebody_else_is_never_overwritten(tmp_path: Path, there: str, why: str) -> None:
    """The data is published, the file stays, and the report says where the card is."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text(there)
    with serving() as server:
        called = synth("run", write(tmp_path, carded(server.url)), "--json")
    assert called.code == 0
    assert (tmp_path / "out" / "README.md").read_text() == there
    assert len(rows(tmp_path / "out" / "words.jsonl")) == 3
    (note,) = called.json["notes"]
    assert why in note
    assert job_of((last_run(tmp_path) / "README.md").read_text()) == "job"


def test_what_is_not_published_has_no_card(tmp_path: Path) -> None:
    """Below the floor the old card stays with the old data."""
    (tmp_path / "out").mkdir()
    old = "---\ngenerated_by: synth-cli\nsynth_job: job\n---\nold\n"
    (tmp_path / "out" / "README.md").write_text(old)
    with serving() as server:
        assert synth("run", write(tmp_path, carded(server.url, accept={"min_rows": 4}))).code == 1
    assert (tmp_path / "out" / "README.md").read_text() == old


def test_a_run_that_dies_while_it_publishes_leaves_no_data_without_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card is one of the files of the publication: the next run moves what the dead one did not."""
    with serving() as server:
        path = write(tmp_path, carded(server.url))
        put = publish.put
        moved: list[str] = []

        def dying(candidate: Path, target: str, base: Path) -> None:
            if moved:
                raise KeyboardInterrupt
            moved.append(target)
            put(candidate, target, base)

        with monkeypatch.context() as patch:
            patch.setattr(publish, "put", dying)
            assert synth("run", path).code != 0
        assert not (tmp_path / "out" / "README.md").exists()
        assert synth("run", path, "--no-calls").code == 0
    assert len(server.asked) == 3
    assert job_of((tmp_path / "out" / "README.md").read_text()) == "job"


def test_a_simulated_card_says_so(tmp_path: Path) -> None:
    """`--simulate` and `model: simulator` alike."""
    assert synth("run", write(tmp_path, carded("http://127.0.0.1:9/v1")), "--simulate").code == 0
    assert "> **SIMULATED**" in (tmp_path / "out" / "README.md").read_text()


def test_a_lesser_run_leaves_the_card_of_the_real_data(tmp_path: Path) -> None:
    """Also where it writes its rows to a file of its own beside them."""
    with serving() as server:
        path = write(tmp_path, carded(server.url))
        assert synth("run", path).code == 0
        first = (tmp_path / "out" / "README.md").read_bytes()
        simulated = synth("run", path, "--simulate", "--output", tmp_path / "out" / "pretend.jsonl")
        limited = synth("run", path, "--limit", "1", "--output", tmp_path / "out" / "few.jsonl")
    assert [simulated.code, limited.code] == [0, 0]
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [
        "README.md",
        "few.jsonl",
        "pretend.jsonl",
        "words.jsonl",
        "words.parquet",
    ]
    assert (tmp_path / "out" / "README.md").read_bytes() == first
    assert "holds 3 real rows: a simulated run does not replace it; the card of this one is" in " ".join(
        simulated.err.split()
    )


def test_a_shard_has_no_card(tmp_path: Path) -> None:
    """It is a part of a dataset; several of them would take turns with one file."""
    with serving() as server:
        assert synth("run", write(tmp_path, carded(server.url)), "--shard", "1/2").code == 0
    assert not (tmp_path / "out" / "README.md").exists()


def test_the_card_of_a_chain_says_who_answered_each_step(tmp_path: Path) -> None:
    """Each step with its models, tokens and cost; a pool's members apart, a step without a model not at all."""

    with serving() as server:
        place = {"base_url": server.url, "api_key": "sk-quite-secret"}
        chain = {
            "models": {"first": {"name": "one", **place}, "second": {"name": "two", **place}},
            "input": {"rows": [{"word": "a"}, {"word": "b"}]},
            "steps": [
                {"name": "say", "model": ["first", "second"], "samples": 2, "prompt": "Say {{ word }}."},
                {"name": "short", "type": "map", "columns": {"said": "{{ response | upper }}"}},
                {"name": "again", "model": "simulator", "prompt": "{{ said }}", "columns": {"more": "{{ response }}"}},
            ],
            "output": {"path": "out/words.jsonl", "card": True},
        }
        called = synth("run", write(tmp_path, chain))
    assert called.code == 0, called.err
    text = (tmp_path / "out" / "README.md").read_text()
    shown = [line.split(" | ")[:5] for line in text.splitlines() if line.startswith(("| say", "| again", "| short"))]
    assert sorted(shown) == [
        ["| again", "simulator/simulator", "online", "simulator", "4"],
        ["| say", "openai/one", "online", "one", "2"],
        ["| say", "openai/two", "online", "two", "2"],
    ]
    assert "> **PARTLY SIMULATED**" in text
    assert "| in the input | 2 |\n| in this dataset | 4 |" in text


def test_the_card_loads_with_its_data(tmp_path: Path) -> None:
    """`datasets` reads the folder by the card: one split, each row once, though there are two files."""
    with serving() as server:
        assert synth("run", write(tmp_path, carded(server.url))).code == 0
    code = (
        "import sys, datasets; found = datasets.load_dataset(sys.argv[1], cache_dir=sys.argv[2]); "
        "print({split: len(rows) for split, rows in found.items()})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out", tmp_path / "cache"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "{'train': 3}\n", done.stderr
