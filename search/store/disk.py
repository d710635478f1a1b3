"""Did the disk refuse, or is it a defect?  A disk that is full or closed ends a search in one sentence.

Trial after trial would fail by it otherwise. What was finished is kept, and the same command goes on.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coreml_pareto.spaces.errors import UserError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
LITTLE = 10_000_000
"""Bytes; where less is free, an error of a library that does not name the disk is taken for the disk's."""

WAY_OUT = "make room, or give access; the same command then goes on, and everything finished is kept."


class DiskError(UserError):
    """The disk takes no more: not a candidate's fault, so it ends the search and not a trial."""


def require_disk(folder: Path, error: Exception) -> None:
    """Return if an error is no fault of the disk.

    Raises:
        DiskError: the disk of the folder, or that of temporary files, is full or cannot be written.
    """
    places = (_existing(folder), Path(tempfile.gettempdir()))
    for place in places:
        if reason := _closed(place):
            raise DiskError(f"{place} cannot be written ({reason}): {WAY_OUT}") from error
    least, free = min(((place, shutil.disk_usage(place).free) for place in places), key=lambda row: row[1])
    if free < LITTLE or (isinstance(error, OSError) and error.errno in FULL):
        raise DiskError(f"The disk of {least} is full ({free / 1e6:.1f} MB are free): {WAY_OUT}") from error


@contextmanager
def watching_the_disk(folder: Path) -> Iterator[None]:
    """Turn what the disk of a folder makes fail inside a `with` into a DiskError; databases call it by other names."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        require_disk(folder, error)
        raise


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _closed(place: Path) -> str | None:
    """Why nothing can be written in a folder; None where it can, and where its disk is only full."""
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"written")
    except OSError as refused:
        return None if refused.errno in FULL else refused.strerror
    return None
