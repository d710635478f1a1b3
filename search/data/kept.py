"""What of the decoded pictures does an earlier process leave to a later one?

Arrays of bytes by key, one `.npy` file each, behind it the SHA-256 of the file: a file that was cut short or damaged is
removed and made anew. Files are published atomically and never changed. Together they take at most a fifth of the disk
that is free without them; the longest unused leave first. `load_data` keeps two things here: which contents were
decoded, with their size, and the square arrays of a split at a resolution and rule (`pixels.ArrayCache`).

The folder is `COREML_PARETO_CACHE`, or `coreml-pareto` in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`);
an empty `COREML_PARETO_CACHE` keeps nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.search.store import installed_version

Bytes = NDArray[np.uint8]
Fill = Callable[[Bytes], None]
SHARE = 0.2
"""How much of the disk that is free without the kept files they may take."""
SEAL = hashlib.sha256().digest_size
ABANDONED = 24 * 3600
"""Seconds after which an unfinished file belongs to no process any more."""
VARIABLE = "COREML_PARETO_CACHE"
TOOLS = ("coreml-pareto", "numpy", "pillow", "pillow-heif")
"""What decodes and scales; other versions may do it otherwise."""


def user_cache() -> Path | None:
    """The folder of the user's kept files; None where none are wanted."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named).expanduser() if named else None
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "coreml-pareto" / "pictures"


class Kept:
    """Arrays in a folder, by key. Whatever goes wrong with the folder, the arrays are only made again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        tools = "\n".join(f"{name} {installed_version(name)}" for name in TOOLS)
        self._tools = hashlib.sha256(tools.encode()).hexdigest()[:8]

    def problem(self) -> str | None:
        """Why nothing can be kept; None where it can."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                return None
        except OSError as error:
            return error.strerror or str(error)

    def find(self, key: str) -> Bytes | None:
        """The array of this key, mapped, whole; None where it is missing or damaged.

        It may be written to (torch asks for that): what is written stays in this process.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        if not _sealed(path):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return _mapped(path)

    def keep(self, key: str, shape: tuple[int, ...], fill: Fill) -> Bytes | None:
        """Make the array of this key; None, without making it, where it is empty or the disk has no room for it.

        What `fill` raises is passed on, and nothing is kept.
        """
        unfinished = self._reserved(shape)
        if unfinished is None:
            return None
        try:
            mapped = np.load(unfinished, mmap_mode="r+")
            fill(mapped)
            mapped.flush()
            del mapped
            with unfinished.open("r+b") as file:
                file.seek(-SEAL, os.SEEK_END)
                file.write(_digest(unfinished))
            unfinished.replace(self._path(key))
        finally:
            unfinished.unlink(missing_ok=True)
        return _mapped(self._path(key))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}-{self._tools}.npy"

    def _reserved(self, shape: tuple[int, ...]) -> Path | None:
        """A new file as long as the array's; its room is taken now, so that no write to the mapping can fail later."""
        n = int(np.prod(shape))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if n == 0 or not self._make_room(n):
                return None
            handle, name = tempfile.mkstemp(suffix=".partial", dir=self._folder)
        except OSError:
            return None
        try:
            with open(handle, "wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
                fill_with_zeros(file, n + SEAL)
        except OSError:
            Path(name).unlink(missing_ok=True)
            return None
        return Path(name)

    def _make_room(self, n: int) -> bool:
        """Remove what was not used for long, until `n` bytes more are within the share; False where they never are."""
        for path in self._folder.glob("*.partial"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
        sizes = {path: path.stat() for path in self._folder.glob("*.npy")}
        held = sum(stat.st_size for stat in sizes.values())
        most = SHARE * (shutil.disk_usage(self._folder).free + held)
        if n > most:
            return False
        for path, stat in sorted(sizes.items(), key=lambda item: item[1].st_mtime):
            if held + n > most:
                path.unlink(missing_ok=True)
                held -= stat.st_size
        return True


class Known:
    """Which contents were decoded before, and how long their shorter side is: so that they need not be again."""

    def __init__(self, kept: Kept, names: Iterable[str]) -> None:
        self._kept = kept
        self._key = f"known-{hashlib.sha256(chr(0).join(names).encode(errors='surrogatepass')).hexdigest()[:24]}"
        self.sides: Mapping[str, int] = self._read()

    def _read(self) -> dict[str, int]:
        rows = self._kept.find(self._key)
        if rows is None:
            return {}
        sides = rows[:, 32:].copy().view("<u4")[:, 0]
        return {row[:32].tobytes().hex(): int(side) for row, side in zip(rows, sides, strict=True)}

    def remember(self, sides: Mapping[str, int]) -> None:
        """Keep these, by digest, in the place of those before."""
        if sides == self.sides:
            return

        def fill(rows: Bytes) -> None:
            for row, (digest, side) in zip(rows, sides.items(), strict=True):
                row[:] = np.frombuffer(bytes.fromhex(digest) + side.to_bytes(4, "little"), np.uint8)

        self._kept.keep(self._key, (len(sides), 36), fill)


def fill_with_zeros(file: IO[bytes], n: int) -> None:
    """Write `n` zero bytes: unlike a hole in the file, they have their place on the disk."""
    block = bytes(1 << 20)
    for start in range(0, n, len(block)):
        file.write(block[: n - start])


def _mapped(path: Path) -> Bytes:
    array: Bytes = np.load(path, mmap_mode="c")
    return array


def _digest(path: Path) -> bytes:
    """SHA-256 of everything before the seal."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        left = path.stat().st_size - SEAL
        while left > 0 and (chunk := file.read(min(left, 1 << 20))):
            whole.update(chunk)
            left -= len(chunk)
    return whole.digest()


def _sealed(path: Path) -> bool:
    """Whether a file is as it was published."""
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) <= SEAL:
                return False
            file.seek(-SEAL, os.SEEK_END)
            seal = file.read(SEAL)
        return seal == _digest(path)
    except OSError:
        return False
