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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from coreml_pareto.objectives.preprocessing import working_picture
from coreml_pareto.search.data.pixels import NO_PIXELS, Pixels, PixelStore

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int, int], None]
"""Called now and then as progress(done, total)."""

BLOCK = 256
# Below this mean size, threads only wait for each other's interpreter lock (seen: CIFAR-10, 1.2 KB a file,
# 74 us on one thread against 131 us on two; at 31 KB two threads win).
THREAD_BYTES = 16_000


@dataclass(frozen=True)
class Found:
    """An image file in a folder, not opened yet; `split` is empty where the folder does not say."""

    path: Path
    name: str
    label: str
    split: str = ""


@dataclass(frozen=True)
class Picture:
    """A decoded, labelled picture.

    `name` is its path within the data set, `size` and `digest` the length and SHA-256 of its bytes, `pixels` the
    working picture (uint8 [height, width, 3]), `shorter_side` the original's, in pixels.
    """

    name: str
    label: str
    split: str
    size: int
    digest: str
    pixels: Pixels
    shorter_side: int
    path: Path | None = None


@dataclass(frozen=True)
class Broken:
    """An image file that could not be decoded, and why."""

    name: str
    label: str
    reason: str


def decode_all(
    files: Sequence[Found], *, memory_budget: int, spill_folder: Path | None = None, progress: Progress | None = None
) -> tuple[list[Picture], list[Broken]]:
    """Every file decoded, in the order given. Pixels beyond `memory_budget` bytes are kept on disk."""
    store = PixelStore(memory_budget, spill_folder)
    pictures: list[Picture] = []
    broken: list[Broken] = []
    for done, result in enumerate(in_threads(decode, files, _mean_bytes(files)), start=1):
        if isinstance(result, Broken):
            broken.append(result)
        else:
            store.add(result.pixels)
            pictures.append(replace(result, pixels=NO_PIXELS))
        if progress is not None and (done % BLOCK == 0 or done == len(files)):
            progress(done, len(files))
    return [replace(picture, pixels=p) for picture, p in zip(pictures, store.arrays(), strict=True)], broken


def decode(found: Found) -> Picture | Broken:
    """Read, hash and decode one file. Whatever a decoder raises makes the file broken, never the run."""
    try:
        data = found.path.read_bytes()
        if not data:
            return Broken(found.name, found.label, "the file is empty")
        if found.path.suffix.lower() in (".heic", ".heif") and not _register_heif():
            return Broken(found.name, found.label, "HEIC needs the package pillow-heif; or convert it to JPEG")
        with Image.open(io.BytesIO(data)) as image:
            shorter_side = min(image.size)
            pixels = np.asarray(working_picture(image))
    except UnidentifiedImageError:
        return Broken(found.name, found.label, "not a picture, or in a format that Pillow does not read")
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        return Broken(found.name, found.label, str(error) or type(error).__name__)
    digest = hashlib.sha256(data).hexdigest()
    return Picture(found.name, found.label, found.split, len(data), digest, pixels, shorter_side, found.path)


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
    return sum(file.path.stat().st_size for file in some if file.path.exists()) / max(1, len(some))


def in_threads(work: Callable[[T], R], items: Sequence[T], bytes_each: float) -> Iterator[R]:
    """`work` over `items`, in order; block by block, so that at most one block of results waits in memory."""
    if bytes_each < THREAD_BYTES:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), BLOCK):
            yield from pool.map(work, items[start : start + BLOCK])
