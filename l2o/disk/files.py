"""Files that a crash, a second process or a foreign directory cannot spoil."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from l2o.errors import UserError

# The suffix of a file that is not complete yet.
SUFFIX = ".tmp"


@contextmanager
def os_errors_told(what: str, then: str = "") -> Iterator[None]:
    """Raises UserError in place of an OSError of the block.

    Args:
        what: The start of its message (`cannot read weights/config.json`); the operating
            system's reason follows.
        then: The end of its message [""].
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: {error.strerror or error}{then}") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file atomically: a reader, or a crash, finds the old content or the new one.

    A link is replaced, not followed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        # A signal may arrive after the rename.
        with suppress(OSError):
            os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_temporary(directory: Path, names: Sequence[str]) -> None:
    """Removes the temporary files that a crash within `write_atomically` has left.

    Args:
        directory: Their directory; a link is left alone.
        names: Patterns of the names of the files that were to be written.
    """
    if directory.is_symlink():
        return
    for name in names:
        for path in directory.glob(f".{name}.{'[0-9a-f]' * 8}{SUFFIX}"):
            if path.is_file() and not path.is_symlink():
                path.unlink(missing_ok=True)


def read_regular(path: Path, largest: int) -> bytes:
    """Returns the content of a file.

    Args:
        path: The file, or a link to it.
        largest: The most bytes it may have.

    Raises:
        OSError: If it cannot be read, is larger, or is not a regular file: a pipe or a
            device may have no end.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if status.st_size > largest:
            raise OSError(errno.EFBIG, f"it is larger than {largest >> 20} MiB")
        with os.fdopen(os.dup(handle), "rb") as file:
            return file.read()
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Makes a folder inside a run directory.

    Raises:
        OSError: If it cannot be made, or is a link, which may lead outside.
    """
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"{path} is a link, expected a folder of its own")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file; the operating system releases it when the process ends.

    The file says which process holds it.

    Raises:
        UserError: If another process holds it; names the process.
        OSError: If it cannot be made.
    """
    handle = _lock(path)
    try:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        owner = f"process {os.getpid()} on {socket.gethostname()} since {now}\n"
        os.ftruncate(handle, 0)
        os.write(handle, owner.encode())
        yield
    finally:
        try:
            # Before the release, or this could remove the next owner's file.
            with suppress(OSError):
                path.unlink()
        finally:
            os.close(handle)


def _lock(path: Path) -> int:
    while True:
        # The path may be a foreign link or pipe.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(path, flags, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, f"{path} is not a regular file")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                return handle
            os.close(handle)  # the last owner has removed the file meanwhile
        except BlockingIOError:
            owner = os.read(handle, 200).decode("utf-8", "replace").strip()
            os.close(handle)
            raise UserError(
                f"{path.parent} is being written by {owner or 'another process'}: wait for it, "
                "stop it, or choose another directory; nothing was changed"
            ) from None
        except OSError:
            os.close(handle)
            raise


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
