"""Saved optimizers on the Hugging Face Hub: `l2o.load("hf://user/name")` and `push_to_hub`.

The package `huggingface_hub` is imported when it is needed. One file of a repository is read,
`optimizer.npz`, which holds arrays and JSON values; nothing else is downloaded, and no code runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from l2o.errors import UserError
from l2o.version import __version__

PREFIX = "hf://"
FILE, CARD = "optimizer.npz", "README.md"
# A part of a name. It never begins with a dot: `..` in a revision would lead out of the cache.
_PART = r"\w[\w.-]*"
_ADDRESS = re.compile(
    rf"{PREFIX}(?P<repository>{_PART}/{_PART})(@(?P<revision>{_PART}(/{_PART})*))?", re.ASCII
)


def is_address(source: object) -> bool:
    """Returns whether a source of learned weights is on the Hub."""
    return isinstance(source, str) and source.startswith(PREFIX)


def parse(address: str) -> tuple[str, str | None]:
    """Returns the repository and the revision, if there is one, that an address names.

    Args:
        address: `hf://user/name` or `hf://user/name@revision`.

    Raises:
        UserError: If it has another form.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UserError(
            f"{address} names no repository: expected {PREFIX}user/name, or "
            f"{PREFIX}user/name@revision, where revision is a branch, a tag or a commit"
        )
    return found["repository"], found["revision"]


def address_of(name: str) -> str:
    """Returns the address of a repository: `hf://user/name` for `user/name`."""
    return f"{PREFIX}{str(name).removeprefix(PREFIX)}"


def name_of(address: str) -> str:
    """Returns the last part of a repository's name.

    Raises:
        UserError: As `parse`.
    """
    return parse(address)[0].rpartition("/")[2]


def fetch(address: str) -> Path:
    """Returns the saved optimizer of a repository: a file in the cache of `huggingface_hub`.

    Without a network, a file that is in the cache already is taken.

    Args:
        address: As for `parse`.

    Raises:
        UserError: If there is no such repository, revision or file, the network or
            `huggingface_hub` is missing, or the address has another form.
    """
    repository, revision = parse(address)
    hub = _package(address)
    try:
        path = _api(hub).hf_hub_download(repository, FILE, revision=revision)
    except Exception as error:
        raise _told(error, hub, address, f"cannot fetch {address}") from None
    return Path(path)


def push(
    name: str,
    content: bytes,
    card_after: Callable[[str | None], str],
    private: bool,
    card: str | None,
) -> str:
    """Writes a saved optimizer and its card to a repository, in one commit.

    Args:
        name: `user/name`; the repository is made if there is none.
        content: The bytes of `optimizer.npz`.
        card_after: Returns the new card, of one that was written before or of None.
        private: Whether a repository that is made is private.
        card: What is given to `card_after`; None: the card of the repository, if it has one.

    Returns:
        The address of the commit.

    Raises:
        UserError: If the name has another form, the network, `huggingface_hub` or the permission
            to write is missing.
    """
    address = address_of(name)
    repository, revision = parse(address)
    if revision is not None:
        raise UserError(
            f"{name} names a revision: expected user/name, whose main branch is written"
        )
    hub = _package(address)
    api = _api(hub)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        text = card_after(_card_there(hub, api, repository) if card is None else card)
        add = hub.CommitOperationAdd
        commit = api.create_commit(
            repository,
            [add(FILE, content), add(CARD, text.encode())],
            commit_message=f"Saved by l2o {__version__}",
        )
    except Exception as error:
        raise _told(error, hub, address, f"cannot push to {address}") from None
    return f"{address}@{commit.oid}"


def _card_there(hub: Any, api: Any, repository: str) -> str | None:
    """Returns the card of a repository; None if there is none."""
    try:
        path = api.hf_hub_download(repository, CARD)
    except hub.errors.EntryNotFoundError as error:
        if isinstance(error, hub.errors.LocalEntryNotFoundError):
            raise  # the network
        return None
    return Path(path).read_text("utf-8", errors="replace")


def _package(address: str) -> Any:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(f"{address} needs huggingface_hub: pip install huggingface_hub")
    importlib.import_module("huggingface_hub.errors")
    return importlib.import_module("huggingface_hub")


def _api(hub: Any) -> Any:
    return hub.HfApi(library_name="l2o", library_version=__version__)


def _told(error: Exception, hub: Any, address: str, what: str) -> UserError:
    """Returns what the client has raised as one line."""
    repository, revision = parse(address)
    kinds = hub.errors
    if isinstance(error, kinds.LocalEntryNotFoundError):
        reason = (
            "there is no connection to the Hub, and it is not in the cache; expected a network, or "
            "that it was loaded before"
        )
    elif isinstance(error, kinds.GatedRepoError):
        reason = (
            "its owner decides who may read it: ask for access on its page, then `hf auth login`"
        )
    elif isinstance(error, kinds.RevisionNotFoundError):
        reason = f"{repository} has no revision {revision}: expected a branch, a tag or a commit"
    elif isinstance(error, kinds.EntryNotFoundError):
        reason = f"{repository} has no {FILE}, which `optimizer.push_to_hub` writes"
    elif isinstance(error, kinds.RepositoryNotFoundError):
        reason = (
            f"there is no repository {repository}, or it is private: check the name, or log in "
            "with `hf auth login`"
        )
    elif getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
        reason = "the Hub refuses it: log in with `hf auth login`, and a token that may do this"
    else:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
    return UserError(f"{what}: {reason}")
