"""How accurate will a training be?  A Gaussian process over the trainings so far, and what each compression costs.

Modelled is the logit of a training's best top-1, whose noise is that of a share of so many images, 1 / (n p (1 - p)).
Longer trainings are expected to be better (`growth`); what is learned is the rest. Trainings are alike when their
networks and recipes are: backbones and teachers are categories, everything else a number on its natural scale (widths,
sides and epochs by their logarithm). The length scales start from what is usual and are fitted to the trainings within a
factor of three, by marginal likelihood (Rasmussen and Williams 2006, Gaussian Processes
for Machine Learning, eq. 2.30; scikit-learn's `GaussianProcessRegressor`). How long the weights were trained before they
were inherited counts as a number of its own.

What a compression takes from its training's best top-1 is averaged, over its family's networks first: few packages pull
little on what is usual (`usual_drop`).
"""

from __future__ import annotations

import math
import random
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from coreml_pareto.spaces.candidate import Candidate, Compression
from coreml_pareto.spaces.compression import spell

Vector = NDArray[np.float64]

BACKBONE, TEACHER, SIZE, LENGTH, LOSS = 1.2, 2.5, 1.5, 5.0, 4.0
"""Length scales: of the backbones (two correlate by 0.5), of the teachers (0.85: a teacher changes less than another
network), of the network's numbers in octaves, of the epochs in octaves, of temperature (octaves) and weights (ones) of the
distillation."""
LEARNING: Final = 1.0
"""What e times as many epochs are expected to add to the logit: the odds of an error fall as the epochs grow. In
`benchmarks/trainings_table.py` (few epochs, random weights) it is 0.9 to 3.8, and less the longer one trains."""
FREEDOM: Final = 3.0
"""By what factor the length scales may be fitted."""
SPREAD: Final = 1.0
"""The standard deviation of logits that is assumed at least: a handful of like results says little about others."""
MOST: Final = 256
"""Trainings that are learned from, drawn from all: the work grows with their cube."""
PRIOR: Final = 2.0
"""So many packages does the usual drop weigh."""


@final
@dataclass(frozen=True)
class Training:
    """A training that has ended: one of its candidates, its best top-1, and the epochs behind its weights in all."""

    candidate: Candidate
    top1: float
    epochs: float


def logit(share: float, images: int) -> float:
    """The log odds of a share of so many images; all and none count as half an image away."""
    clipped = min(max(share, 0.5 / images), 1 - 0.5 / images)
    return math.log(clipped / (1 - clipped))


def growth(epochs: float) -> float:
    """The logit that so many epochs are expected to have won, next to one."""
    return LEARNING * math.log(epochs)


@final
class Surrogate:
    """Foretells the top-1 of trainings from those that have ended.

    Args:
        trainings: at least one.
        images: on which their top-1 was taken.
    """

    def __init__(self, trainings: Sequence[Training], images: int) -> None:
        count = min(MOST, len(trainings))
        self.trainings, self.images = random.Random(len(trainings)).sample(list(trainings), count), images
        self._backbones = sorted({row.candidate.network.backbone for row in self.trainings})
        self._teachers = sorted({row.candidate.recipe.teacher or "" for row in self.trainings})

    def top1(self, candidates: Sequence[tuple[Candidate, float]]) -> tuple[Vector, Vector]:
        """Return mean and standard deviation of the logit of each candidate's top-1, given the epochs behind it."""
        features = np.array([self._features(candidate, epochs) for candidate, epochs in candidates])
        mean, deviation = self._process.predict(features, return_std=True)
        grown = np.array([growth(epochs) for _, epochs in candidates])
        return self._centre + grown + self._scale * mean, self._scale * deviation

    @cached_property
    def _logits(self) -> Vector:
        """What the process learns: the logits, what epochs alone are expected to give taken away."""
        return np.array([logit(row.top1, self.images) - growth(row.epochs) for row in self.trainings])

    @property
    def _centre(self) -> float:
        return float(self._logits.mean())

    @property
    def _scale(self) -> float:
        return max(SPREAD, float(self._logits.std()))

    @cached_property
    def _process(self) -> GaussianProcessRegressor:
        shares = np.clip([row.top1 for row in self.trainings], 0.5 / self.images, 1 - 0.5 / self.images)
        noise = 1 / (self.images * shares * (1 - shares)) / self._scale**2
        scales = np.array(self._scales())
        bounds = np.stack([scales / FREEDOM, scales * FREEDOM], axis=1)
        kernel = ConstantKernel(1.0, (0.7, 3.0)) * RBF(scales, bounds) + WhiteKernel(0.03, (0.003, 0.3))
        process = GaussianProcessRegressor(kernel, alpha=noise, n_restarts_optimizer=0)
        features = np.array([self._features(row.candidate, row.epochs) for row in self.trainings])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is what the bound is for
            process.fit(features, (self._logits - self._centre) / self._scale)
        return process

    def _features(self, candidate: Candidate, epochs: float) -> list[float]:
        """Categories as one number each, 0 or 1; a backbone or teacher never trained with is like no other."""
        network, recipe = candidate.network, candidate.recipe
        taught = recipe.teacher is not None
        return [
            *(float(network.backbone == name) for name in self._backbones),
            *(float((recipe.teacher or "") == name) for name in self._teachers),
            math.log2(network.width), math.log2(network.depth), math.log2(network.resolution / network.stem_stride),
            math.log2(recipe.epochs), math.log2(epochs),
            *((math.log2(recipe.temperature), recipe.hard_weight, recipe.soft_weight, recipe.feature_weight)
              if taught else (0.0, 0.0, 0.0, 0.0)),
        ]  # fmt: skip

    def _scales(self) -> list[float]:
        categories = [BACKBONE] * len(self._backbones) + [TEACHER] * len(self._teachers)
        return [*categories, *[SIZE] * 3, *[LENGTH] * 2, *[LOSS] * 4]


def usual_drop(compression: Compression) -> float:
    """The points of top-1 that a compression is expected to take, before any of its packages was read."""
    bits = compression.bits * (1 - compression.sparsity)
    return 0.0 if bits >= 16 else 0.3 * 2.0**-bits


@final
class Drops:
    """What compressions have cost: points below the best package of the same training, by family and compression."""

    def __init__(self, packages: Sequence[tuple[Candidate, float]]) -> None:
        """Take packages with the points of top-1 that each lies below its training's best."""
        self._family: Mapping[tuple[str, str], list[float]] = defaultdict(list)
        self._all: Mapping[str, list[float]] = defaultdict(list)
        for candidate, drop in packages:
            name = spell(candidate.compression)
            self._family[candidate.network.family, name].append(drop)
            self._all[name].append(drop)

    def of(self, family: str, compression: Compression) -> float:
        """Return the points that a compression takes from a network of this family, 0 or more."""
        name = spell(compression)
        general = _shrunk(self._all.get(name, ()), usual_drop(compression))
        return _shrunk(self._family.get((family, name), ()), general)


def _shrunk(values: Sequence[float], prior: float) -> float:
    return (PRIOR * prior + sum(values)) / (PRIOR + len(values))
