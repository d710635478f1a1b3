"""How often is a package right? Top-1 and top-5 on labelled images, by running the package itself.

The interval is Wilson's score interval at 95 % (E. B. Wilson, "Probable inference, the law of succession, and
statistical inference", Journal of the American Statistical Association 22, 1927): unlike the normal approximation it
stays inside [0, 1] and is honest near 100 % and for few images. It covers the choice of images, nothing else.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.program import Executor, Program
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.spaces.errors import UserError

Images = NDArray[np.uint8]  # n, height, width, 3; RGB
Targets = NDArray[np.integer[Any]]  # n; index of the right class among the program's labels
Batches = Iterable[tuple[Images, Targets]]

Z95: Final = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""

RIGHT: Final = "right"
"""The condition of a `top1` that says which images were right; `right_of` reads it."""

NO_PROBABILITIES: Final = "without a softmax: the scores order the classes, but are no probabilities"


@dataclass(frozen=True, eq=False)
class Correctness:
    """Which images a package got right, in the order of the batches: what paired tests compare."""

    top1: NDArray[np.bool_]
    top5: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The readings `top1` and `top5`, and the image by image record behind them.

    `predicted` [n]: the class that comes first, as an index among the program's labels.
    """

    score: dict[str, Reading]
    correctness: Correctness
    predicted: NDArray[np.int64]


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927): low and high."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"0 <= successes <= n, n > 0; got {successes} of {n}")
    p, spread = successes / n, z * z / n
    middle = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(p * (1 - p) / n + spread / (4 * n))
    # At 0 and n the exact ends are 0 and 1; rounding must not cut the value off its interval.
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


def hits(scores: NDArray[np.floating[Any]], targets: Targets) -> Correctness:
    """Whether the right class comes first, and among the first five; ties go to the lower class index.

    Args:
        scores: n × classes; probabilities or logits, only their order counts.
        targets: n class indices.
    """
    if not np.isfinite(scores).all():
        raise UserError("scores are finite; the package computes NaN or inf; it is broken, convert it again")
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    found = order == targets[:, None]
    return Correctness(top1=found[:, 0], top5=found.any(axis=1))


def evaluate(program: Program, batches: Batches, *, split: str = "validation", round_fp16: bool = False) -> Evaluation:
    """Run a package on labelled images, batch by batch, and count.

    Args:
        program: an image classifier.
        batches: pairs of uint8 images and class indices (into `program.labels`).
        split: what the images are, for the conditions.
        round_fp16: round every intermediate to fp16, as the program states.

    Raises:
        UserError: no images, targets outside the classes, or a program without one score per class.
    """
    records = list(_run(program, batches, round_fp16))
    if not records:
        raise UserError("accuracy needs labelled images; the split is empty; give more data")
    found, firsts, classes = zip(*records, strict=True)
    correctness = Correctness(
        top1=np.concatenate([hit.top1 for hit in found]), top5=np.concatenate([hit.top5 for hit in found])
    )
    score = readings(correctness, classes[0], split, round_fp16, normalised=program.normalised)
    return Evaluation(score, correctness, np.concatenate(firsts))


def readings(
    correctness: Correctness, classes: int, split: str, round_fp16: bool, *, normalised: bool = True
) -> dict[str, Reading]:
    """`top1` and `top5` with their intervals and conditions; `normalised`: the scores are probabilities."""
    conditions = {
        "split": split,
        "images": str(len(correctness.top1)),
        "executor": "every intermediate rounded to fp16" if round_fp16 else "weights as stored, arithmetic in fp32",
        "interval": "95 %, Wilson 1927",
    } | ({} if normalised else {"scores": NO_PROBABILITIES})
    trivial = {"note": f"{classes} classes: the right one is always among the first five"} if classes < 6 else {}
    return {
        "top1": _proportion(correctness.top1, conditions | {RIGHT: spell_right(correctness.top1)}),
        "top5": _proportion(correctness.top5, conditions | trivial),
    }


def spell_right(right: NDArray[np.bool_]) -> str:
    """Which images were right, in their order, as text: bits, deflated, in base 85; 10,000 images take 0.3 to 1.6 KB."""
    return base64.b85encode(zlib.compress(np.packbits(right).tobytes(), 9)).decode()


def right_of(reading: Reading) -> NDArray[np.bool_] | None:
    """Which images a package got right; None of a reading that was recorded before readings kept it."""
    text = reading.conditions.get(RIGHT)
    return None if text is None else _spelled(text, int(reading.conditions["images"]))


@lru_cache(maxsize=2048)  # a report asks for each several times
def _spelled(text: str, images: int) -> NDArray[np.bool_]:
    bits = np.frombuffer(zlib.decompress(base64.b85decode(text)), np.uint8)
    right = np.unpackbits(bits, count=images).astype(bool)
    right.flags.writeable = False
    return right


def _run(program: Program, batches: Batches, round_fp16: bool) -> Iterator[tuple[Correctness, NDArray[np.int64], int]]:
    name = program.scores
    if name is None:
        shapes = ", ".join(f"{output} {list(program.types[output].shape)}" for output in program.output)
        raise UserError(
            "accuracy needs one score per class, a single floating-point output [1, classes]; "
            f"{program.path.name} gives {shapes}; convert it with a classifier head"
        )
    executor = Executor(program, round_fp16=round_fp16)
    for images, targets in batches:
        if not len(images):
            continue
        scores = np.asarray(executor.run(images, fetch=(name,))[name]).reshape(len(images), -1)
        classes = scores.shape[1]
        if targets.min() < 0 or targets.max() >= classes:
            raise UserError(
                f"targets index the package's {classes} classes; got {targets.min()} to {targets.max()}; match the labels"
            )
        yield hits(scores, targets), scores.argmax(axis=1), classes


def _proportion(hit: NDArray[np.bool_], conditions: dict[str, str]) -> Reading:
    low, high = wilson(int(hit.sum()), len(hit))
    return Reading(float(hit.mean()), "share", low, high, "measured", conditions)
