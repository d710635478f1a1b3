"""What is one labelled picture, and how are thousands of files decoded exactly once?

Reading, hashing and decoding happen in one pass. What stays is the working picture of the pre-processing rule
(`objectives.preprocessing.working_picture`: upright RGB, shorter side at most 512 pixels), from which every input
resolution is later cut without touching the file again.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from coreml_pareto.objectives.preprocessing import working_picture
from coreml_pareto.search.data.pixels import NO_PIXELS, Pixels, PixelStore
from coreml_pareto.spaces.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int, int], None]
"""Called now and then as progress(done, total)."""

BLOCK = 256
# Below this mean size, threads only wait for each other's interpreter lock (seen: CIFAR-10, 1.2 KB a file,
# 74 us on one thread against 131 us on two; at 31 KB two threads win).
THREAD_BYTES = 16_000


class Content(Protocol):
    """The bytes of one image, wherever they lie: a `pathlib.Path`, a part of an archive, a row of a reader."""

    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class Found:
    """An image that is not opened yet; `split` is empty where the source does not say."""

    path: Content
    name: str
    label: str
    split: str = ""


@dataclass(frozen=True)
class Opened:
    """An image whose bytes were read; `pixels` are the working picture, or none where its decoding is known to work."""

    found: Found
    size: int
    digest: str
    shorter_side: int
    pixels: Pixels = field(repr=False)


@dataclass(frozen=True)
class Picture:
    """A labelled picture.

    `name` is its path within the data set, `size` and `digest` the length and SHA-256 of its bytes, `shorter_side` the
    original's, in pixels. `working` returns the working picture; it is decoded then, if it was not before.
    """

    name: str
    label: str
    split: str
    size: int
    digest: str
    working: Callable[[], Pixels] = field(repr=False)
    shorter_side: int
    path: Content | None = None

    @property
    def pixels(self) -> Pixels:
        """The working picture: uint8 [height, width, 3]."""
        return self.working()

    def original(self) -> Image.Image:
        """The file itself, opened again.

        Raises:
            UserError: its bytes are others by now.
        """
        assert self.path is not None
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise _changed(self.name) from error
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise _changed(self.name)
        return Image.open(io.BytesIO(data))


@dataclass(frozen=True)
class Broken:
    """An image file that could not be decoded, and why."""

    name: str
    label: str
    reason: str


def decode_all(
    files: Sequence[Found],
    *,
    memory_budget: int,
    spill_folder: Path | None = None,
    known: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> tuple[list[Picture], list[Broken]]:
    """Every file read, in the order given. Pixels beyond `memory_budget` bytes are kept on disk.

    `known` has the shorter side of contents that were decoded before, by their digest: they are decoded when their
    pixels are asked for.
    """
    held = _Held(memory_budget, spill_folder)
    broken: list[Broken] = []
    for done, result in enumerate(in_threads(partial(decode, known=known or {}), files, _mean_bytes(files)), start=1):
        if isinstance(result, Broken):
            broken.append(result)
        else:
            held.add(result)
        if progress is not None and (done % BLOCK == 0 or done == len(files)):
            progress(done, len(files))
    return held.pictures(), broken


class _Held:
    """The working pictures of a data set. Those that are missing are decoded together, when the first is asked for."""

    def __init__(self, budget: int, spill_folder: Path | None) -> None:
        self._budget, self._spill_folder = budget, spill_folder
        self._store = PixelStore(budget, spill_folder)
        self._opened: list[Opened] = []
        self._arrays: list[Pixels] = []
        self._lock = Lock()

    def add(self, opened: Opened) -> None:
        self._store.add(opened.pixels)
        self._opened.append(replace(opened, pixels=NO_PIXELS))

    def pictures(self) -> list[Picture]:
        self._arrays = self._store.arrays()
        return [
            Picture(
                name=opened.found.name, label=opened.found.label, split=opened.found.split, size=opened.size,
                digest=opened.digest, working=partial(self._pixels, row), shorter_side=opened.shorter_side,
                path=opened.found.path,
            )
            for row, opened in enumerate(self._opened)
        ]  # fmt: skip

    def _pixels(self, row: int) -> Pixels:
        with self._lock:
            if not self._arrays[row].size:
                self._fill()
            return self._arrays[row]

    def _fill(self) -> None:
        rows = [row for row, array in enumerate(self._arrays) if not array.size]
        files = [self._opened[row].found for row in rows]
        store = PixelStore(self._budget, self._spill_folder)
        for row, result in zip(rows, in_threads(decode, files, _mean_bytes(files)), strict=True):
            if isinstance(result, Broken) or result.digest != self._opened[row].digest:
                raise _changed(self._opened[row].found.name)
            store.add(result.pixels)
        for row, array in zip(rows, store.arrays(), strict=True):
            self._arrays[row] = array


def _changed(name: str) -> UserError:
    return UserError(
        f"Pictures stay as they are while a command runs; {name} changed or vanished since it was read; "
        "restore it, or start the command again"
    )


def decode(found: Found, known: Mapping[str, int] | None = None) -> Opened | Broken:
    """Read, hash and decode one file. Whatever a decoder raises makes the file broken, never the run."""
    try:
        data = found.path.read_bytes()
        if not data:
            return Broken(found.name, found.label, "the file is empty")
        digest = hashlib.sha256(data).hexdigest()
        if known and digest in known:
            return Opened(found, len(data), digest, known[digest], NO_PIXELS)
        if os.path.splitext(found.name)[1].lower() in (".heic", ".heif") and not _register_heif():
            return Broken(found.name, found.label, "HEIC needs the package pillow-heif; or convert it to JPEG")
        with Image.open(io.BytesIO(data)) as image:
            shorter_side = min(image.size)
            pixels = np.asarray(working_picture(image))
    except UnidentifiedImageError:
        return Broken(found.name, found.label, "not a picture, or in a format that Pillow does not read")
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        return Broken(found.name, found.label, str(error) or type(error).__name__)
    return Opened(found, len(data), digest, shorter_side, pixels)


@cache
def _register_heif() -> bool:
    """HEIC is read where the optional package pillow-heif is installed: Pillow itself has no decoder for it."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


def _mean_bytes(files: Sequence[Found], looked_at: int = 64) -> float:
    """Mean size of files spread over the list: enough to choose between one thread and many."""
    some = files[:: max(1, len(files) // looked_at)]
    return sum(_size(file.path) for file in some) / max(1, len(some))


def _size(content: Content) -> int:
    if isinstance(content, Path):
        return content.stat().st_size if content.exists() else 0
    return len(content.read_bytes())


def in_threads(work: Callable[[T], R], items: Sequence[T], bytes_each: float) -> Iterator[R]:
    """`work` over `items`, in order; block by block, so that at most one block of results waits in memory."""
    if bytes_each < THREAD_BYTES:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), BLOCK):
            yield from pool.map(work, items[start : start + BLOCK])
