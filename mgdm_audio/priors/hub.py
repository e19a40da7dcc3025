"""Priors on the Hugging Face hub, by ``owner/name`` or ``owner/name@revision``.

A revision is a branch, a tag or a commit; without one it is the branch main. The files that the
readers of priors open are fetched, and the model card: never a pickle, never code. They stay in the
cache of huggingface_hub, in a folder named by the commit, and are found there without a network.
HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what that library's documentation says.
"""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from mgdm_audio.errors import UserError, described

CARD = "README.md"
_PARTS = ("", "autoencoder/", "unet/", "vae/", "vqvae/")  # see trained_images.py and diffusers.py
_NAMES = ("config.json", "model.safetensors", "diffusion_pytorch_model.safetensors")
FILES = (
    CARD,
    "empty_prompt.safetensors",
    "scheduler_config.json",
    "scheduler/scheduler_config.json",
    *(part + name for part in _PARTS for name in _NAMES),
)
_HUB_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@(\S+))?", re.ASCII)


def is_hub_name(name: str | Path) -> bool:
    """Returns whether a name has the form ``owner/name[@revision]`` and no file has that name.

    A ``Path`` is always a place on the disk.
    """
    return isinstance(name, str) and bool(_HUB_NAME.fullmatch(name)) and not Path(name).exists()


def located(name: str | Path) -> Path:
    """Returns the folder of a prior, which is fetched if the name is one of the hub."""
    return fetch(str(name)) if is_hub_name(name) else Path(name)


@cache  # in one process a name stands for one commit, whatever is pushed meanwhile
def fetch(name: str) -> Path:
    """Returns the folder in the cache with those of ``FILES`` that the repository has.

    Its own name is the commit. Raises UserError, in one line, without the extra ``hub``, for a
    prior or a revision that is not there or not for this user, and where neither the hub nor the
    cache has it.
    """
    library, (repo, revision) = _library(f"{name}: no such folder, and"), _parsed(name)
    try:
        with _quiet():
            folder = library.snapshot_download(
                repo, revision=revision, allow_patterns=list(FILES), library_name="mgdm_audio"
            )
    except Exception as error:  # which, its version and those of its HTTP libraries decide
        raise _failure(f"{name}: no such folder, and", repo, revision, error) from None
    if not Path(folder).is_dir():
        raise UserError(f"{name}: holds no file of a prior; give the name of another")
    return Path(folder)


def origin(folder: Path) -> tuple[str, str] | None:
    """Returns ``(owner/name, commit)`` of a folder that ``fetch`` returned; None for others."""
    folder = folder.resolve()
    if folder.parent.name != "snapshots" or not re.fullmatch(r"[0-9a-f]{40}", folder.name):
        return None
    kind, *repo = folder.parent.parent.name.split("--")
    return ("/".join(repo), folder.name) if kind == "models" and len(repo) == 2 else None


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Uploads those of ``FILES`` that ``folder`` has, as one commit to main of ``owner/name``.

    Returns the commit. Where there is no such repository it is made, ``private`` or public. Whether
    the prior works is not checked. Raises UserError, in one line, as ``require_pushable`` does, and
    where the hub refuses.
    """
    library, repo = require_pushable(folder, name)
    added = [
        library.CommitOperationAdd(path_in_repo=file, path_or_fileobj=folder / file)
        for file in FILES
        if (folder / file).is_file()
    ]
    api = library.HfApi(library_name="mgdm_audio")
    message = f"Upload {folder.resolve().name}"
    try:
        with _quiet():
            api.create_repo(repo, private=private or None, exist_ok=True)
            commit = api.create_commit(repo, added, commit_message=message)
    except Exception as error:  # as above
        raise _failure(f"{name}:", repo, None, error) from None
    return str(commit.oid)


def require_pushable(folder: Path, name: str) -> tuple[Any, str]:
    """Returns the module huggingface_hub, and ``owner/name``.

    Raises UserError without that library, for another form of ``name``, and for a folder without a
    model card.
    """
    repo, revision = _parsed(name)
    if revision is not None:
        raise UserError(f"{name}: what is pushed goes to the branch main; give {repo} alone")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of a prior")
    card = folder / CARD
    if not (card.is_file() and card.read_text(errors="replace").strip()):
        raise UserError(
            f"{card}: missing or empty; write what the prior was trained on and under which "
            "licence it may be used"
        )
    return _library(f"{name}:"), repo


def _parsed(name: str) -> tuple[str, str | None]:
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{name}: is no name on the hub; give owner/name")
    return match[1], match[2]


def _library(start: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"{start} the Hugging Face hub needs its library: pip install 'mgdm_audio[hub]'"
        ) from None
    return huggingface_hub


@contextmanager
def _quiet() -> Iterator[None]:
    """Switches off the bar without a terminal, and warnings of several lines."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    drawn = sys.stderr.isatty() or are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not drawn:
            disable_progress_bars()
        try:
            yield
        finally:
            if not drawn:
                enable_progress_bars()


def _failure(start: str, repo: str, revision: str | None, error: Exception) -> UserError:
    """Returns the error in one line, with the remedy."""
    from huggingface_hub import constants, errors

    where = f"{constants.ENDPOINT}/{repo}"
    login = "log in: hf auth login, or HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        why = f"{where} has no revision {revision or 'main'!r}; give another"
    elif isinstance(error, errors.GatedRepoError):
        why = f"{where} needs its owner's permission; ask for it there, and {login}"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        why = f"no {where} is open to you; correct the name, or {login}"
    elif isinstance(error, errors.LocalEntryNotFoundError):
        offline = constants.HF_HUB_OFFLINE
        reason = "HF_HUB_OFFLINE is set" if offline else _reason(error.__cause__ or error)
        remedy = "unset it" if offline else "connect to the network"
        why = f"{where} is not whole in {constants.HF_HUB_CACHE}, and {reason}; {remedy}"
    else:
        remedy = login if status == 403 else "mend that, or try again later"
        why = f"{where}: {_reason(error)}; {remedy}"
    return UserError(f"{start} {why}")


def _reason(error: BaseException) -> str:
    """Returns the first two lines of an error as one; the second names the object."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".") or described(error)
