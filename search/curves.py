"""Where does a learning curve end, at most?  Foretold from the curves of finished trainings.

In log-odds of the top-1, what those gained from the same share of their epochs to the end has a mean and a deviation;
the new one gains at most `mean + t · deviation · √(1 + 1/n)` (the prediction interval of a normal sample; Student's t with
n − 1 degrees of freedom). A training is looked at three times, and the chance of a mistake is dealt out to these looks
(Bonferroni), so that the stated confidence is that of the training: looked at after each of nine epochs with 95 % each, 23 %
of those that need exactly what they reach would be stopped. Domhan et al. 2015 (IJCAI, "Speeding up Automatic Hyperparameter
Optimization of Deep Neural Networks by Extrapolation of Learning Curves") stop trainings by the same rule with parametric
curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.stats import t as student

GLANCE: Final = 512
"""Validation images at most behind a training's top-1 after each epoch; the package is scored on all of them."""
CONFIDENCE: Final = 0.95
"""One-sided, of a training: over all of its looks together."""
LOOKS: Final = (0.25, 0.5, 0.75)
"""Shares of its epochs after which a training is looked at; batch norm's statistics are not settled before the first."""
LEAST_CURVES: Final = 4
"""Finished trainings before anything is foretold: a deviation of fewer is no deviation."""

Curve = Sequence[float]
"""Top-1 after each whole epoch of a finished training."""


def due(done: int, epochs: int) -> bool:
    """Return whether a training is looked at after so many of its epochs."""
    return done < epochs and done in {math.ceil(look * epochs) for look in LOOKS}


def reachable_top1(so_far: Sequence[float], epochs: int, curves: Sequence[Curve], images: int) -> float:
    """Return the top-1 that a training ends below, at one of its looks; 1 where nothing can be foretold.

    Args:
        so_far: top-1 after each whole epoch.
        epochs: of the whole training.
        curves: of finished trainings.
        images: behind each top-1.
    """
    share = len(so_far) / epochs
    curves = [c for c in curves if len(c) * len(so_far) >= epochs]  # of a shorter one no epoch had ended by then
    if len(curves) < LEAST_CURVES or share < LOOKS[0]:
        return 1.0
    gains = np.array([_odds(c[-1], images) - _odds(_at(c, share), images) for c in curves])
    count = len(gains)
    quantile = float(student.ppf(1 - (1 - CONFIDENCE) / len(LOOKS), count - 1))
    most = gains.mean() + quantile * gains.std(ddof=1) * math.sqrt(1 + 1 / count)
    return float(1 / (1 + math.exp(-(_odds(so_far[-1], images) + max(0.0, most)))))


def _at(curve: Curve, share: float) -> float:
    """Top-1 at a share of the epochs, between two epochs by a straight line."""
    ends = np.arange(1, len(curve) + 1) / len(curve)
    return float(np.interp(share, ends, curve))


def _odds(top1: float, images: int) -> float:
    """Log-odds; none and all of the images count as half an image less or more."""
    clipped = min(max(top1, 0.5 / images), 1 - 0.5 / images)
    return math.log(clipped / (1 - clipped))
