"""Which of Optuna's samplers may draw, and what they say that nobody needs to hear."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=8, multivariate=True, group=True)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "auto": _tpe,  # draws only where the acquisition has nothing to say
    "tpe": _tpe,
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    "nsga3": lambda seed: NSGAIIISampler(seed=seed, population_size=20),
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=8),
    "random": lambda seed: RandomSampler(seed=seed),
}


@contextmanager
def unexcited() -> Iterator[None]:
    """Silence Optuna's notes that samplers, constraints and metric names are experimental, and two of `gp`.

    `gp` takes the worst infinity for the worst value seen, which is what is meant by it; and it warns that more than
    four objectives are slow: with five an ask takes below a second at 45 trials, little beside a training.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Clip non-finite values to the min/max finite values", UserWarning)
        warnings.filterwarnings("ignore", "Box decomposition", UserWarning)
        yield
