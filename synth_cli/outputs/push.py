"""Pushing an output to a dataset repository of the Hugging Face Hub. The only import of huggingface_hub.

File and card go in one commit, so that the repository has both or neither. The file is `data/<split>.<suffix>`, a
name by which the Hub knows the split (its documentation, "File names and splits"); where the repository's README.md
lists data files, the split is listed there too, and other splits stay.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_cli.errors import AuthError, BelowFloor
from synth_cli.outputs.card import NAME, job_of, parted, with_front
from synth_cli.spec.model import SUFFIXES

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""The Hub client's own variables."""
TRUE = frozenset({"1", "on", "yes", "true"})
WORDS = 300
"""Characters kept of what the Hub said."""


@dataclass(frozen=True, slots=True)
class Cargo:
    """What goes to a repository: a file with the rows of a split, and the card, or none."""

    repo: str
    private: bool
    split: str
    file: Path
    suffix: str
    card: str | None
    job: str
    message: str
    """Of the commit."""

    @property
    def path(self) -> str:
        """The file's place in the repository."""
        return path_of(self.split, self.suffix)


@dataclass(frozen=True, slots=True)
class Arrived:
    url: str
    notes: tuple[str, ...] = ()


def path_of(split: str, suffix: str) -> str:
    return f"data/{split}{suffix}"


def offline(environ: Mapping[str, str]) -> str | None:
    """The variable that forbids the Hub client to use the network; None if none does."""
    return next((name for name in OFFLINE if environ.get(name, "").lower() in TRUE), None)


def token_of(environ: Mapping[str, str]) -> str | None:
    """The token of the environment, or that of `hf auth login`; None if there is neither. No network."""
    given = next((environ[name].strip() for name in TOKENS if environ.get(name, "").strip()), None)
    if given is not None:
        return given
    _quiet()
    from huggingface_hub import get_token

    found: str | None = get_token()
    return found


def push(cargo: Cargo, *, endpoint: str | None, token: str | None) -> Arrived:
    """Makes the repository if there is none, and commits. `endpoint` None is the Hub's own.

    A repository that is there keeps its visibility. Raises AuthError when the Hub refuses the token, BelowFloor for
    whatever else keeps it from arriving: the repository is then as it was.
    """
    _quiet()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    with _explained(cargo.repo), warnings.catch_warnings():
        # the Hub's advice about a card's metadata is for who writes it by hand
        warnings.simplefilter("ignore")
        api = HfApi(endpoint=endpoint, token=token, library_name="synth-cli")
        url = api.create_repo(cargo.repo, repo_type="dataset", private=cargo.private, exist_ok=True)
        there = set(api.list_repo_files(cargo.repo, repo_type="dataset"))
        text = _text(api, cargo.repo, token) if NAME in there else None
        readme, notes = merged(text, cargo)
        operations: list[Any] = [CommitOperationAdd(cargo.path, str(cargo.file))]
        if readme is not None:
            operations.append(CommitOperationAdd(NAME, readme.encode()))
        former = {path_of(cargo.split, suffix) for suffix in SUFFIXES} - {cargo.path}
        operations += [CommitOperationDelete(path) for path in sorted(former & there)]
        api.create_commit(cargo.repo, operations, commit_message=cargo.message, repo_type="dataset")
    return Arrived(str(url), notes)


def merged(there: str | None, cargo: Cargo) -> tuple[str | None, tuple[str, ...]]:
    """The repository's README.md as it is to be (None: as it is), and what people should know of it.

    Somebody else's keeps its words; only its list of data files gains the split. Of ours the other splits are kept.
    """
    if there is None:
        return cargo.card, ()
    theirs, body = parted(there)
    listed = theirs.get("configs")
    if cargo.card is not None and job_of(there) == cargo.job:
        ours, own = parted(cargo.card)
        return with_front({**ours, "configs": _listing(listed, cargo)}, own), ()
    notes: tuple[str, ...] = ()
    if cargo.card is not None:
        notes = (f"the {NAME} of {cargo.repo} is not the card of this job, so its words stay as they are",)
    if not listed:
        return None, notes
    # `datasets` writes down the columns and sizes of what it pushes; with other data in its place they are wrong
    kept = {key: value for key, value in theirs.items() if key != "dataset_info"}
    text = with_front({**kept, "configs": _listing(listed, cargo)}, body)
    return (None if parted(text) == (theirs, body) else text), notes


def _listing(configs: Any, cargo: Cargo) -> list[Any]:
    """The `configs` of a card with this split's file in the default one."""
    known = [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []
    chosen = next((each for each in known if each.get("default") or each.get("config_name") == "default"), None)
    if chosen is None:
        return [{"config_name": "default", "data_files": _with_split((), cargo)}, *known]
    return [
        {**each, "data_files": _with_split(each.get("data_files"), cargo)} if each is chosen else each for each in known
    ]


def _with_split(files: Any, cargo: Cargo) -> list[dict[str, Any]]:
    match files:
        case dict():
            listed = [{"split": split, "path": path} for split, path in files.items()]
        case str():
            listed = [{"split": "train", "path": files}]
        case _:
            listed = [each if isinstance(each, dict) else {"split": "train", "path": each} for each in files or ()]
    mine = {"split": cargo.split, "path": cargo.path}
    if not any(each.get("split") == cargo.split for each in listed):
        return [*listed, mine]
    return [mine if each.get("split") == cargo.split else each for each in listed]


def _text(api: Any, repo: str, token: str | None) -> str:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    url = hf_hub_url(repo, NAME, repo_type="dataset", endpoint=api.endpoint)
    response = get_session().get(url, headers=build_hf_headers(token=token))
    hf_raise_for_status(response)
    return str(response.text)


def _quiet() -> None:
    """Before the client is imported: it reports to nobody, and what it shows is not for a run's log."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # the client's errors are of its own classes, of the HTTP library that its version uses, and of its uploader
        response = getattr(error, "response", None)
        said = getattr(error, "server_message", None) or str(error).strip().partition("\n")[0] or type(error).__name__
        words = " ".join(str(said).split())[:WORDS]
        status = getattr(response, "status_code", None)
        if status in (401, 403):
            raise AuthError(
                f"the Hub refuses to take {repo}: HTTP {status}: {words}",
                hint="give a token that may write there: HF_TOKEN, or hf auth login; the output itself is written",
            ) from error
        raise BelowFloor(
            f"not pushed to {repo}: {f'HTTP {status}: ' if status else ''}{words}",
            hint="the output itself is written; to push it run again: what is answered is not asked again",
        ) from error
