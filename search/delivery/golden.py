"""What must the model answer on a device?  Sample pictures at input size, and a range for each probability.

The expected values are the executor's, in single precision. A device computes in half precision and adds up in its own
way, so each logit may differ. How far it may is the rule of `verify` (`objectives/measuring/agreement.py`): noise at
30 dB below the logits' power, three standard deviations of it; or, where rounding every value of the program to half
precision already moves a logit further (rounded activations of W8A8 can fall to the next integer), twice that. If no
logit moves by more than tau, softmax keeps the probability p of a class between

    p / (p + (1 - p) exp(2 tau))   and   p / (p + (1 - p) exp(-2 tau)),

reached when its logit moves one way and all others the other way; half a step of half precision is added for the output
itself. Where the two best logits are within 2 tau of each other, the label is not decided, and only ranges are held.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from coreml_pareto.objectives.measuring.agreement import LEAST_DB
from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.objectives.program import Executor, Program
from coreml_pareto.search.data import Split
from coreml_pareto.search.delivery.answers import Answers, Array, run

DRAWN: Final = 6
SUREST: Final = 6
DEVIATIONS: Final = 3.0
ROUNDINGS: Final = 2.0
HALF_STEP: Final = 2.0**-12
"""Half the distance between neighbours of fp16 just below 1."""
DIGITS: Final = 7
_PERCEPTUAL: Final = b"\x00"


@final
@dataclass(frozen=True)
class Tolerance:
    """How far a device's logits may lie from the executor's, and why.

    Attributes:
        tau: that distance.
        noise: standard deviation of noise at `LEAST_DB` below the power of the validation logits.
        rounding: how far rounding every value to fp16 moves a logit of the samples, at most.
    """

    tau: float
    noise: float
    rounding: float


def tolerance(logits: Array, exact: Array, rounded: Array) -> Tolerance:
    """The tolerance that follows from validation logits, and from logits of the samples in both precisions."""
    noise = float(np.sqrt(np.mean(logits**2)) * 10 ** (-LEAST_DB / 20))
    rounding = float(np.abs(exact - rounded).max())
    return Tolerance(max(DEVIATIONS * noise, ROUNDINGS * rounding), noise, rounding)


def bounds(probabilities: Array, tau: float) -> tuple[Array, Array]:
    """The least and the largest probability of each class when every logit moves by at most `tau`."""
    rest = 1 - probabilities
    low = probabilities / (probabilities + rest * np.exp(2 * tau))
    high = probabilities / (probabilities + rest * np.exp(-2 * tau))
    return np.clip(low - HALF_STEP, 0, 1), np.clip(high + HALF_STEP, 0, 1)


def decided(logits: Array, tau: float) -> NDArray[np.bool_]:
    """Whether the best label of each picture stays the best whatever moves by at most `tau`."""
    first, second = np.sort(logits, axis=1)[:, :-3:-1].T
    found: NDArray[np.bool_] = first - second > 2 * tau
    return found


def chosen(split: Split, known: Answers) -> NDArray[np.int64]:
    """Rows of the pictures that become samples: some drawn by class, and of several answers the surest picture.

    The drawn ones are what the model meets; of the surest ones the label is decided, if of any.
    """
    drawn = split.sample(min(DRAWN, len(split)), seed=0)
    ordered = np.sort(known.logits, axis=1)
    by_margin = np.argsort(ordered[:, -2] - ordered[:, -1], kind="stable")
    _, first = np.unique(known.predicted[by_margin], return_index=True)
    return np.unique(np.concatenate([drawn, by_margin[np.sort(first)[:SUREST]]]))


@final
@dataclass(frozen=True)
class Golden:
    """What was written: how many samples, of how many the label is decided, and the tolerance."""

    samples: int
    decided: int
    tolerance: Tolerance


def write_golden(program: Program, split: Split, rule: Preprocessing, known: Answers, folder: Path) -> Golden:
    """Write sample pictures and what is expected of them."""
    rows = chosen(split, known)
    images = np.asarray(split.images(rule)[rows])
    probabilities, logits = run(Executor(program), images)
    _, rounded = run(Executor(program, round_fp16=True), images)
    allowed = tolerance(known.logits, logits, rounded)
    low, high = bounds(probabilities, allowed.tau)
    sure, labels = decided(logits, allowed.tau), program.labels or ()
    samples = []
    for place, pixels in enumerate(images):
        file = f"sample-{place + 1:02}.png"
        _write_png(pixels, folder / file)
        samples.append({
            "file": file,
            "pixels": hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(),
            "label": labels[int(probabilities[place].argmax())],
            "decided": bool(sure[place]),
            "probability": _spelled(probabilities[place]),
            "low": _spelled(low[place]),
            "high": _spelled(high[place]),
        })  # fmt: skip
    plain = {"labels": list(labels), "tolerance": vars(allowed), "samples": samples}
    (folder / "golden.json").write_text(json.dumps(plain, ensure_ascii=False, allow_nan=False), "utf-8")
    return Golden(len(samples), int(sure.sum()), allowed)


def _spelled(row: Array) -> list[float]:
    return [round(float(value), DIGITS) for value in row]


def _write_png(pixels: NDArray[Any], file: Path) -> None:
    """A PNG that says it is sRGB, so that no reader changes its numbers."""
    info = PngInfo()
    info.add(b"sRGB", _PERCEPTUAL)
    Image.fromarray(pixels).save(file, pnginfo=info)
