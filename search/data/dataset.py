"""What do a training, an evaluation and a report see of the data?

A `DataSet` has named classes and three splits. The test split is behind `open_test(reason)`, which writes down that it
was read: test accuracy is shown when a run ends, and never ranked or filtered by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coreml_pareto.objectives.preprocessing import WORKING_SIDE, Preprocessing
from coreml_pareto.search.data.picture import Broken, Picture, in_threads
from coreml_pareto.search.data.pixels import ArrayCache, Pixels
from coreml_pareto.search.data.splits import stratified


@dataclass(frozen=True, eq=False)
class Split:
    """One split: n pictures, their targets and their pixels at any resolution."""

    pictures: tuple[Picture, ...] = field(repr=False)
    targets: NDArray[np.int64]
    """[n], indices into the data set's classes."""
    cache: ArrayCache = field(repr=False)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def names(self) -> tuple[str, ...]:
        """Paths within the data set, in the order of `targets` and `images`."""
        return tuple(picture.name for picture in self.pictures)

    @property
    def digest(self) -> str:
        """SHA-256 over the contents and the order of the pictures."""
        return hashlib.sha256("\n".join(picture.digest for picture in self.pictures).encode()).hexdigest()

    def images(self, preprocessing: Preprocessing) -> Pixels:
        """uint8 [n, resolution, resolution, 3], RGB. Computed once and shared by all callers: do not write to it."""
        side = preprocessing.resolution
        rule = hashlib.sha256(preprocessing.model_dump_json().encode()).hexdigest()
        key = f"{self.digest[:24]}-{side}-{rule[:12]}"
        return self.cache.get(key, (len(self), side, side, 3), lambda out: _prepare(self.pictures, preprocessing, out))

    def batches(
        self, preprocessing: Preprocessing, batch_size: int = 256
    ) -> Iterator[tuple[Pixels, NDArray[np.int64]]]:
        """(images, targets) in order; the last batch may be smaller."""
        images = self.images(preprocessing)
        for start in range(0, len(self), batch_size):
            rows = slice(start, start + batch_size)
            yield images[rows], self.targets[rows]

    def sample(self, n: int, seed: int = 0) -> NDArray[np.int64]:
        """Rows of a stratified sample, e.g. to calibrate activations: sorted, at most `n`."""
        return stratified(self.targets, n, seed)

    def subset(self, rows: Sequence[int] | NDArray[np.int64]) -> Split:
        """These rows as a split of their own."""
        return replace(self, pictures=tuple(self.pictures[row] for row in rows), targets=self.targets[np.asarray(rows)])


def _prepare(pictures: Sequence[Picture], preprocessing: Preprocessing, out: Pixels) -> None:
    def write(row: int) -> None:
        out[row] = preprocessing.apply(_source(pictures[row], preprocessing.working_side))

    mean_bytes = sum(picture.pixels.nbytes for picture in pictures) / max(1, len(pictures))
    for _ in in_threads(write, range(len(pictures)), mean_bytes):
        pass


def _source(picture: Picture, side: int) -> Image.Image:
    """The working picture; the file itself where a rule above 512 pixels needs more than was kept."""
    if side > WORKING_SIDE < picture.shorter_side and picture.path is not None:
        return picture.original()
    return Image.fromarray(picture.pixels)


@dataclass(frozen=True)
class Report:
    """What was found while loading."""

    images: Mapping[str, Mapping[str, int]]
    """Split -> class -> number of images."""
    skipped: tuple[Broken, ...]
    ignored_files: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def lines(self, shown: int = 10) -> Iterator[str]:
        """For people: counts per split, notes, warnings, and the first broken images by name."""
        for split, counts in self.images.items():
            low, high = min(counts.values()), max(counts.values())
            each = f"{low}" if low == high else f"{low} to {high}"
            yield f"{split}: {sum(counts.values())} images, {each} per class"
        yield from self.notes
        yield from (f"warning: {warning}" for warning in self.warnings)
        yield from (f"skipped {broken.name}: {broken.reason}" for broken in self.skipped[:shown])
        if len(self.skipped) > shown:
            yield f"skipped {len(self.skipped) - shown} more images"
        if self.ignored_files:
            yield f"{self.ignored_files} files that are not images were passed over"


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled pictures in three splits; `load_data` makes it.

    `digest` is the SHA-256 over class names, relative paths, sizes, contents and split of every picture: the same data
    has the same digest anywhere, in a folder, its archive or a table of the same paths. `native_resolution` is the
    median shorter side in pixels. `flip_safe` says whether a mirrored picture still belongs to its class.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    digest: str
    native_resolution: int
    flip_safe: bool
    report: Report
    hidden_test: Split = field(repr=False)
    test_openings: list[str] = field(default_factory=list)
    """Why the test split was opened, in order."""

    def open_test(self, reason: str) -> Split:
        """The test split. `reason` is kept in `test_openings`."""
        self.test_openings.append(reason)
        return self.hidden_test
