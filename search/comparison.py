"""Is package B better than package A?  Both judged on the same images, and told apart only where that is shown.

Top-1 is compared image by image (`objectives.paired`: McNemar's exact test and a paired interval); with more than two
packages the p-values are Holm's (`objectives.holm`). What the packages take is compared by ratios, in which the errors
that two estimates share cancel (`objectives.reading_ratio`). The test decides whether a difference is shown, the interval
says how large it may be; near the border the two may disagree, because the exact test is the more careful one (M. P. Fay
and K. Lumbard, "Confidence intervals for difference in proportions for matched pairs compatible with exact McNemar's or
sign tests", Statistics in Medicine 40, 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.accuracy import wilson
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.energy_ratio import Ratio
from coreml_pareto.objectives.errors import Subject
from coreml_pareto.objectives.holm import holm
from coreml_pareto.objectives.paired import Difference, compare
from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program import Program, content_digest
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.objectives.reading_ratio import ratios
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.evaluation import (
    Normalisation,
    SplitName,
    Splitting,
    judge,
    labels_of,
    load_pictures,
    match_labels,
    open_split,
    splitting_of,
)
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.errors import UserError

LEVEL: Final = 0.05
"""Of every test: a difference is shown where the (adjusted) p-value lies below."""
MOST: Final = 26
"""Packages are called by letters."""


@final
@dataclass(frozen=True)
class Contender:
    """A package to be compared: its letter, what people call it, and its program."""

    letter: str
    name: str
    program: Program

    @property
    def subject(self) -> Subject:
        """What it shares with others: the network as its metadata state it, else, or where they are unreadable, nothing."""
        content = content_digest(self.program)
        stated = self.program.metadata.get(f"{PREFIX}network", "")
        try:
            return Subject(Network.model_validate_json(stated).digest, content)
        except ValueError:
            return Subject(content, content)


@final
@dataclass(frozen=True, eq=False)
class Answers:
    """How one package did: its readings, notes, and its answer to each of n images as an index among the data's classes."""

    contender: Contender
    score: Mapping[str, Reading]
    notes: tuple[str, ...]
    predicted: NDArray[np.int64]


@final
@dataclass(frozen=True)
class Agreement:
    """Images by which of two packages has them right, and by how many both give the same class, right or wrong."""

    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    same: int

    @property
    def images(self) -> int:
        """All of them."""
        return self.both_right + self.only_first + self.only_second + self.both_wrong

    @property
    def share(self) -> tuple[float, float, float]:
        """Share of the images with the same answer: value, and Wilson's interval at 95 %."""
        return self.same / self.images, *wilson(self.same, self.images)


@final
@dataclass(frozen=True)
class ClassDifference:
    """Top-1 of the second minus the first on the images of one class; `p_value` is Holm's over all classes."""

    label: str
    difference: Difference
    p_value: float


@final
@dataclass(frozen=True)
class Disputed:
    """An image to which two packages give different classes: its path in the data, its class, both answers."""

    image: str
    label: str
    first: str
    second: str


@final
@dataclass(frozen=True)
class Pair:
    """Two packages against each other; differences are the second's minus the first's, ratios the second's over the first's.

    Attributes:
        p_value: of the top-1, Holm's over all pairs that were compared.
        classes: all of the data, the largest difference first.
        disputed: those that only one has right first, then by their path.
    """

    first: Contender
    second: Contender
    top1: Difference
    p_value: float
    agreement: Agreement
    ratios: Mapping[str, Ratio]
    classes: tuple[ClassDifference, ...]
    disputed: tuple[Disputed, ...]

    @property
    def shown(self) -> bool:
        """Whether one of them is shown to be right more often."""
        return self.p_value < LEVEL

    @property
    def resolution(self) -> float:
        """Half the width of the interval: about what these images could have shown, as a share."""
        return (self.top1.high - self.top1.low) / 2


@final
@dataclass(frozen=True, eq=False)
class Comparison:
    """Packages judged on the same images, and the pairs of them that were asked for."""

    answers: tuple[Answers, ...]
    pairs: tuple[Pair, ...]


def common_pictures(programs: Sequence[Program], data: str, split: SplitName, seed: int | None) -> DataSet:
    """The pictures that `data` names, split as the packages' searches split them.

    Raises:
        UserError: two searches split them in different ways, so that one package's training images would be another's
            test.
    """
    stated = [splitting_of(p, seed) for p in programs if f"{PREFIX}splits" in p.metadata]
    ways = list(dict.fromkeys(replace(way, origin="") for way in stated)) or [Splitting(seed or 0)]
    found = [load_pictures(data, way) for way in ways]
    if len({open_split(one, split, "compare").digest for one in found}) > 1:
        seeds = ", ".join(f"seed {way.seed}, {way.validation:g} + {way.test:g}" for way in ways)
        raise UserError(
            f"packages are compared on images that none was trained on; their searches split {data} differently ({seeds}); "
            "give --data with a test folder that neither has seen, or compare packages of one search"
        )
    return found[0]


def contest(
    contenders: Sequence[Contender],
    data: DataSet,
    target: Target,
    *,
    split: SplitName = "test",
    all_pairs: bool = False,
    normalisation: Normalisation | None = None,
    labels: Sequence[str] | None = None,
) -> Comparison:
    """Judge packages on one split, each with its own pre-processing, its labels matched by name; compare them.

    Args:
        contenders: two or more; without `all_pairs` each is compared with the first.
        labels: the classes of packages without labels, in the order of their outputs.

    Raises:
        UserError: other classes than the data's, or what `evaluation.judge` refuses; before anything is run.
    """
    given = [labels if one.program.labels is None else None for one in contenders]
    for one, own in zip(contenders, given, strict=True):
        match_labels(labels_of(one.program, own), data.classes)
    answers = []
    for one, own in zip(contenders, given, strict=True):
        judged = judge(one.program, data, target, split=split, normalisation=normalisation, labels=own)
        answers.append(Answers(one, judged.score, judged.notes, judged.predicted))
    pictures = open_split(data, split, "compare")
    return compare_answers(answers, pictures.targets, pictures.names, data.classes, target, all_pairs=all_pairs)


def compare_answers(
    answers: Sequence[Answers],
    targets: NDArray[np.int64],
    images: Sequence[str],
    classes: Sequence[str],
    target: Target,
    *,
    all_pairs: bool = False,
) -> Comparison:
    """Compare what packages answered to the same n images.

    Args:
        targets: [n], indices into `classes`.
        images: [n], what each is called.
    """
    chosen = list(combinations(answers, 2)) if all_pairs else [(answers[0], other) for other in answers[1:]]
    found = [_pair(first, second, targets, images, classes, target) for first, second in chosen]
    adjusted = holm([pair.p_value for pair in found])
    return Comparison(tuple(answers), tuple(replace(pair, p_value=p) for pair, p in zip(found, adjusted, strict=True)))


def _pair(
    first: Answers,
    second: Answers,
    targets: NDArray[np.int64],
    images: Sequence[str],
    classes: Sequence[str],
    target: Target,
) -> Pair:
    top1 = compare(second.predicted == targets, first.predicted == targets)
    return Pair(
        first=first.contender,
        second=second.contender,
        top1=top1,
        p_value=top1.p_value,
        agreement=_agreement(first.predicted, second.predicted, targets),
        ratios=ratios(second.score, first.score, (second.contender.subject, first.contender.subject), target),
        classes=_by_class(first.predicted, second.predicted, targets, classes),
        disputed=_disputed(first.predicted, second.predicted, targets, images, classes),
    )


def _agreement(first: NDArray[np.int64], second: NDArray[np.int64], targets: NDArray[np.int64]) -> Agreement:
    a, b = first == targets, second == targets
    counts = (a & b, a & ~b, b & ~a, ~a & ~b, first == second)
    return Agreement(*(int(count.sum()) for count in counts))


def _by_class(
    first: NDArray[np.int64], second: NDArray[np.int64], targets: NDArray[np.int64], classes: Sequence[str]
) -> tuple[ClassDifference, ...]:
    """Classes that have images, the largest difference first."""
    present = [(label, targets == place) for place, label in enumerate(classes) if (targets == place).any()]
    found = [compare((second == targets)[rows], (first == targets)[rows]) for _, rows in present]
    adjusted = holm([one.p_value for one in found])
    rows = [ClassDifference(label, one, p) for (label, _), one, p in zip(present, found, adjusted, strict=True)]
    return tuple(sorted(rows, key=lambda row: (-abs(row.difference.value), row.difference.p_value)))


def _disputed(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    targets: NDArray[np.int64],
    images: Sequence[str],
    classes: Sequence[str],
) -> tuple[Disputed, ...]:
    rows = np.flatnonzero(first != second).tolist()
    rows.sort(key=lambda row: (targets[row] not in (first[row], second[row]), images[row]))
    return tuple(
        Disputed(images[row], classes[targets[row]], classes[first[row]], classes[second[row]]) for row in rows
    )
