"""Where in a larger file do the bytes of one image lie?

Archives and what a streaming reader delivered are one file each; an image is a part of it, read when it is asked for.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from threading import Lock
from typing import IO

from coreml_pareto.spaces.errors import UserError

SHARE = 0.5
"""How much of the free disk a temporary file may take at most."""
CHUNK = 1 << 20


class Whole:
    """A file whose parts are read by many threads. It is closed when nobody refers to it any more."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self._lock = file, Lock()
        weakref.finalize(self, file.close)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on; fewer than `size` where the file ends before."""
        with self._lock:
            self.file.seek(offset)
            return self.file.read(size)


@dataclass(frozen=True)
class Slice:
    """One image within a larger file."""

    whole: Whole = field(repr=False)
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        """The image's bytes."""
        return self.whole.read(self.offset, self.size)


class Spool:
    """A temporary file that grows: without a name, so that the system removes it when the process ends.

    Raises UserError, calling the source `shown`, where the disk has no room for it.
    """

    def __init__(self, shown: str, folder: Path | None) -> None:
        self._shown = shown
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.whole = Whole(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 (`Whole` closes it)
        self._end = 0
        self._most = SHARE * shutil.disk_usage(folder or tempfile.gettempdir()).free

    def append(self, data: bytes) -> Slice:
        """Write at the end; the slice reads it again."""
        start, self._end = self._end, self._end + len(data)
        if self._end > self._most:
            raise self._full(f"it takes more than {SHARE:.0%} of the free disk")
        try:
            self.whole.file.seek(start)
            self.whole.file.write(data)
        except OSError as error:
            raise self._full(error.strerror or str(error)) from error
        return Slice(self.whole, start, len(data))

    def copy(self, source: BufferedIOBase) -> None:
        """Append a whole stream."""
        while chunk := source.read(CHUNK):
            self.append(chunk)

    def _full(self, why: str) -> UserError:
        return UserError(
            f"Pictures of {self._shown} are laid into a temporary file first; that failed ({why}); free space, or "
            "unpack them yourself and pass the folder"
        )
