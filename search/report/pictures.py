"""What does a package answer on the run's own photographs?  Confusion, accuracy by class, and samples right and wrong.

The test split is looked at where the run's test was read for this package already, and the look is recorded
(`tested.py`); else the validation split, by which the package was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.accuracy import wilson

SAMPLES: Final = 12
"""Photographs shown of those right, and of those wrong."""


@final
@dataclass(frozen=True, eq=False)
class Photograph:
    """One picture and the answer; `pixels` uint8 [height, width, 3], RGB, its longer side at most 256 pixels.

    `probability` is the package's own for `predicted`, None of a package whose scores are no probabilities.
    """

    name: str
    truth: str
    predicted: str
    probability: float | None
    pixels: NDArray[np.uint8]

    @property
    def right(self) -> bool:
        """Whether the answer is the picture's class."""
        return self.truth == self.predicted


@final
@dataclass(frozen=True)
class ClassAccuracy:
    """Share of a class's pictures that were answered right, Wilson's 95 % interval, and how many there were (>= 1)."""

    label: str
    value: float
    low: float
    high: float
    images: int


@final
@dataclass(frozen=True)
class Mixup:
    """How many pictures of one class were taken for another one."""

    truth: str
    predicted: str
    count: int
    share: float
    """Of all pictures of the class `truth`."""


@final
@dataclass(frozen=True, eq=False)
class Pictures:
    """What the recommended package answers on one split.

    Attributes:
        split: which one.
        why: why this split, for people.
        classes: labels, in the order of the matrix.
        confusion: counts [classes, classes]: row the class, column the answer.
        samples: photographs drawn at random (always the same), at most `SAMPLES` right and as many wrong.
    """

    split: Literal["test", "validation"]
    why: str
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    samples: tuple[Photograph, ...]

    @property
    def images(self) -> int:
        """How many pictures were looked at."""
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """How many of them were answered right."""
        return int(np.trace(self.confusion))

    @cached_property
    def by_class(self) -> tuple[ClassAccuracy, ...]:
        """Accuracy of each class that has pictures, in the order of `classes`."""
        return tuple(
            ClassAccuracy(label, float(hits / count), *wilson(int(hits), int(count)), int(count))
            for label, hits, count in zip(
                self.classes, np.diagonal(self.confusion), self.confusion.sum(axis=1), strict=True
            )
            if count
        )

    def mixups(self, most: int = 20) -> tuple[Mixup, ...]:
        """The pairs of classes that are confused most often, by number of pictures."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        totals = self.confusion.sum(axis=1)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, wrong.shape)
        return tuple(
            Mixup(self.classes[i], self.classes[j], int(wrong[i, j]), float(wrong[i, j] / totals[i]))
            for i, j in zip(rows, columns, strict=True)
            if wrong[i, j]
        )
