"""Rows of a Hugging Face dataset: of the hub, or of a folder or file on this machine. The only import of `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synth_cli.compile.inputs.arrow import BATCH, HEAVY_BATCH, rows
from synth_cli.errors import SetupError, UsageError
from synth_cli.spec.model import Dataset

BUILDERS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".arrow": "arrow",
    ".txt": "text",
}


def of(source: str | Dataset) -> Dataset:
    return Dataset.model_validate({"name": source}) if isinstance(source, str) else source


def records(source: Dataset, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of one split. An image, sound or file is `{bytes, path}`, the very bytes that the dataset holds."""
    import datasets

    datasets.disable_progress_bars()
    split = _opened(source, folder)
    features = split.features or {}
    heavy = any(_weighs(feature) for feature in features.values())
    # as Arrow tables nothing is decoded: an image is not unpacked only to be packed again for the model
    batches = split.with_format("arrow").iter(batch_size=HEAVY_BATCH if heavy else BATCH)
    try:
        yield from rows(batches, f"dataset {source.name}")
    except OSError as error:
        raise SetupError(
            f"input.dataset: reading {source.name} broke off: {error}", hint="run again to go on"
        ) from None


def _weighs(feature: Any) -> bool:
    text = str(feature)
    return any(kind in text for kind in ("Image(", "Audio(", "Video(", "Pdf(", "binary"))


def _opened(source: Dataset, folder: Path) -> Any:
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    name, local = source.name, folder / source.name
    try:
        if (local / "dataset_dict.json").is_file() or (local / "state.json").is_file():
            return _saved(source, local)
        return _loaded(source, local)
    except UsageError:
        raise
    except DatasetNotFoundError as error:
        hint = "check the name; for a private or gated dataset set HF_TOKEN; a folder is relative to the spec"
        raise UsageError(f"input.dataset: {error}", hint=hint) from None
    except ConnectionError as error:
        hint = "is there a network? A dataset that was loaded before needs none"
        raise SetupError(f"input.dataset: cannot reach {name}: {error}", hint=hint) from None
    except (OSError, ValueError, RuntimeError, ImportError, DatasetsError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, ImportError):
            # such as Pillow, which `datasets` wants for folders of images and brings only on demand
            hint = "install the package it names, with pip install"
            raise SetupError(f"input.dataset: cannot load {name}: {cause}", hint=hint) from None
        raise UsageError(f"input.dataset: cannot load {name}: {cause}", hint="check name, config and split") from None


def _loaded(source: Dataset, local: Path) -> Any:
    import datasets

    name: str = source.name
    files: dict[str, str] | None = None
    if local.is_file():
        if local.suffix.lower() not in BUILDERS:
            raise UsageError(f"input.dataset: {name} is a file of no known kind", hint="read it with input.path")
        name, files = BUILDERS[local.suffix.lower()], {"train": str(local)}
    elif local.is_dir():
        name = str(local)
    elif name.startswith((".", "/", "~")):
        raise UsageError(f"input.dataset: there is no folder {local}", hint="a folder is relative to the spec")
    return datasets.load_dataset(
        name,
        source.config,
        data_files=files,
        split=source.split,
        revision=source.revision,
        streaming=source.streaming,
    )


def _saved(source: Dataset, local: Path) -> Any:
    """A folder that `save_to_disk` wrote; a single dataset in it has no splits to choose from."""
    import datasets

    saved = datasets.load_from_disk(str(local))
    if not isinstance(saved, datasets.DatasetDict):
        return saved
    if source.split not in saved:
        hint = f"it has: {', '.join(saved)}"
        raise UsageError(f"input.dataset: {source.name} has no split {source.split!r}", hint=hint)
    return saved[source.split]
