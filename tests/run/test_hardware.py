"""What of a machine is found, and how a step's wishes are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synth_cli.core.machine import GIB, Gpu
from synth_cli.run.hardware import chosen, machine, model_config, nvidia_gpus

TABLE = """\
GPU-aaaa1111, NVIDIA H200, 143771, 143000
GPU-bbbb2222, NVIDIA H200, 143771, 12
GPU-bbcc3333, NVIDIA GB10, [N/A], [N/A]
"""
GPUS = tuple(Gpu(name) for name in "abc")
UUIDS = ("GPU-aaaa1111", "GPU-bbbb2222", "GPU-bbcc3333")


def test_what_the_driver_prints() -> None:
    """A line for each GPU, in MiB; memory that it does not tell is 0."""
    mib = GIB // 1024
    assert nvidia_gpus(TABLE) == [
        ("GPU-aaaa1111", Gpu("NVIDIA H200", 143771 * mib, 143000 * mib)),
        ("GPU-bbbb2222", Gpu("NVIDIA H200", 143771 * mib, 12 * mib)),
        ("GPU-bbcc3333", Gpu("NVIDIA GB10", 0, 0)),
    ]
    assert nvidia_gpus("No devices were found\n") == []


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("", ""),
        ("0", "a"),
        ("2,0", "ca"),
        (" 1 , 2 ", "bc"),
        ("0,7,1", "a"),
        ("-1", ""),
        ("0,-1,1", "a"),
        ("GPU-bbbb", "b"),
        ("GPU-bb", ""),
        ("GPU-aaaa1111,GPU-bbcc", "ac"),
    ],
)
def test_a_variable_chooses_gpus(variable: str, names: str) -> None:
    """By number or by the beginning of their names, up to the first that there is not."""
    assert "".join(gpu.name for gpu in chosen(variable, UUIDS, GPUS)) == names


def test_a_slice_of_a_gpu_is_one() -> None:
    """What it has is not told."""
    assert list(chosen("MIG-1234", UUIDS, GPUS)) == [Gpu("MIG-1234")]


def test_this_machine_can_be_looked_at() -> None:
    """Whatever it has; hidden GPUs are not found."""
    here = machine({"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""})
    assert here.gpus == ()


def config_in(folder: Path, said: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(said if isinstance(said, str) else json.dumps(said))


@pytest.mark.parametrize(
    "environ",
    [
        {"HF_HUB_CACHE": "{home}/.cache/huggingface/hub"},
        {"HF_HOME": "{home}/.cache/huggingface"},
        {"XDG_CACHE_HOME": "{home}/.cache"},
        {"HOME": "{home}"},
    ],
)
def test_what_was_downloaded_is_found(tmp_path: Path, environ: dict[str, str]) -> None:
    """Wherever the hub's library was told to keep it, by branch or by commit."""
    repository = tmp_path / ".cache" / "huggingface" / "hub" / "models--org--tiny"
    config_in(repository / "snapshots" / "c0ffee", {"n_positions": 5})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    told = {name: value.format(home=tmp_path) for name, value in environ.items()}
    assert model_config("org/tiny", tmp_path, told) == {"n_positions": 5}
    assert model_config("org/tiny", tmp_path, told, "c0ffee") == {"n_positions": 5}
    assert model_config("org/tiny", tmp_path, told, "other") is None
    assert model_config("org/tiny", tmp_path, {}) is None


def test_a_folder_comes_first(tmp_path: Path) -> None:
    """Its name may be relative to the spec; what is no config is none."""
    config_in(tmp_path / "tiny", {"n_positions": 7})
    config_in(tmp_path / "list", [])
    config_in(tmp_path / "torn", "{")
    assert model_config("./tiny", tmp_path, {}) == {"n_positions": 7}
    assert model_config("list", tmp_path, {}) is None
    assert model_config("torn", tmp_path, {}) is None
