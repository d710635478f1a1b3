"""Where do decoded pixels live: in memory up to a budget, beyond it on disk.

`PixelStore` takes the working pictures of a data set, of any shape, as they are decoded. `ArrayCache` keeps the square
arrays that training and evaluation read, one per split and pre-processing rule, so that no epoch decodes or resizes.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.search.data.kept import Kept, fill_with_zeros
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
        raise _full(error) from error


def _full(error: OSError) -> UserError:
    return UserError(
        f"Decoded pictures beyond the memory budget need disk space; writing failed ({error.strerror}); "
        "free space, choose another folder for temporary files (TMPDIR), or use fewer images"
    )


class ArrayCache:
    """Arrays by key. In memory, the least recently used leave first; one above the whole budget goes to disk.

    With a folder they are kept there and found again by later processes (`data.kept`), as long as the disk has room.
    """

    def __init__(self, budget: int = MEMORY_BUDGET, folder: Path | None = None) -> None:
        self._budget, self._kept = budget, None if folder is None else Kept(folder)
        self._arrays: OrderedDict[str, Pixels] = OrderedDict()

    def get(self, key: str, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
        """The array of this key; `fill` writes its values into the uint8 array it is given, once."""
        if key not in self._arrays:
            self._arrays[key] = self._found(key, shape, fill)
        self._arrays.move_to_end(key)
        self._evict()
        return self._arrays[key]

    def _found(self, key: str, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
        if self._kept is not None:
            kept = self._kept.find(key)
            if kept is None or kept.shape != shape:
                kept = self._kept.keep(key, shape, fill)
            if kept is not None:
                return kept
        return _in_memory(shape, fill) if int(np.prod(shape)) <= self._budget else _on_disk(shape, fill)

    def _evict(self) -> None:
        held = {key: array.nbytes for key, array in self._arrays.items() if not isinstance(array, np.memmap)}
        total = sum(held.values())
        for key in list(held)[:-1]:
            if total > self._budget:
                total -= held[key]
                del self._arrays[key]


def _in_memory(shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
    array = np.empty(shape, np.uint8)
    fill(array)
    return array


def _on_disk(shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
    """An array in a file that is removed with the process; its room is taken first: a mapping cannot tell a full disk."""
    with _anonymous_file(None) as file:
        try:
            fill_with_zeros(file, int(np.prod(shape)))
            file.flush()
        except OSError as error:
            raise _full(error) from error
        mapped = np.memmap(file, np.uint8, mode="r+", shape=shape)
    fill(mapped)
    return mapped
