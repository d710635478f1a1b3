"""Where do decoded pixels live: in memory up to a budget, beyond it on disk.

`PixelStore` takes the working pictures of a data set, of any shape, as they are decoded. `ArrayCache` keeps the square
arrays that training and evaluation read, one per split and pre-processing rule, so that no epoch decodes or resizes.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.spaces.errors import UserError

Pixels = NDArray[np.uint8]
NO_PIXELS: Pixels = np.empty((0, 0, 3), np.uint8)
MEMORY_BUDGET = 1_500_000_000


class PixelStore:
    """Arrays of any shape in the order they came: the first that exceeds the budget, and all after it, go to a file.

    The file is anonymous: the system removes it when the process ends, however it ends.
    """

    def __init__(self, budget: int, folder: Path | None) -> None:
        self._left, self._folder = budget, folder
        self._memory: list[Pixels] = []
        self._shapes: list[tuple[int, ...]] = []
        self._file: IO[bytes] | None = None

    def add(self, pixels: Pixels) -> None:
        self._left -= pixels.nbytes
        if self._left >= 0:
            self._memory.append(pixels)
            return
        if self._file is None:
            self._file = _anonymous_file(self._folder)
        _write(self._file, pixels)
        self._shapes.append(pixels.shape)

    def arrays(self) -> list[Pixels]:
        """Everything that was added, in order; what went to disk is mapped, not read."""
        if self._file is None:
            return self._memory
        self._file.flush()
        mapped = np.memmap(self._file, np.uint8, mode="r")
        self._file.close()  # the mapping keeps the file alive
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        pieces = np.split(mapped, ends[:-1])
        return self._memory + [piece.reshape(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]


def _anonymous_file(folder: Path | None) -> IO[bytes]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


def _write(file: IO[bytes], pixels: Pixels) -> None:
    try:
        file.write(np.ascontiguousarray(pixels).data)
    except OSError as error:
        raise UserError(
            f"Decoded pictures beyond the memory budget need disk space; writing failed ({error.strerror}); "
            "free space, choose another cache folder, or use fewer images"
        ) from error


class ArrayCache:
    """Arrays by key. In memory, the least recently used leave first; one above the whole budget goes to disk.

    With a folder, such a file is published atomically under its key and found again by later processes; without one
    it is removed with the process.
    """

    def __init__(self, budget: int = MEMORY_BUDGET, folder: Path | None = None) -> None:
        self._budget, self._folder = budget, folder
        self._arrays: OrderedDict[str, Pixels] = OrderedDict()

    def get(self, key: str, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
        """The array of this key; `fill` writes its values into the uint8 array it is given, once."""
        if key not in self._arrays:
            fits = int(np.prod(shape)) <= self._budget
            self._arrays[key] = _in_memory(shape, fill) if fits else self._on_disk(key, shape, fill)
        self._arrays.move_to_end(key)
        self._evict()
        return self._arrays[key]

    def _evict(self) -> None:
        held = {key: array.nbytes for key, array in self._arrays.items() if not isinstance(array, np.memmap)}
        total = sum(held.values())
        for key in list(held)[:-1]:
            if total > self._budget:
                total -= held[key]
                del self._arrays[key]

    def _on_disk(self, key: str, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
        if self._folder is None:
            with _anonymous_file(None) as file:
                mapped = np.memmap(file, np.uint8, mode="w+", shape=shape)
            fill(mapped)
            return mapped
        path = self._folder / f"{key}.npy"
        if not path.exists():
            _publish(path, shape, fill)
        # Copy on write: the caller's array is writable (torch asks for that), the file never changes.
        array: Pixels = np.load(path, mmap_mode="c")
        return array


def _in_memory(shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
    array = np.empty(shape, np.uint8)
    fill(array)
    return array


def _publish(path: Path, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".partial", dir=path.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        mapped = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)  # type: ignore[no-untyped-call]
        fill(mapped)
        mapped.flush()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
