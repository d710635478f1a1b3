"""Which choice mattered for what?  PED-ANOVA of the knobs, by objective.

S. Watanabe, A. Bansal and F. Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
Subspaces", IJCAI 2023, arXiv:2304.10255, as Optuna computes it: how far the values of a knob among the best packages
differ from those among all. A knob that exists only beside another's value (the temperature, beside a teacher) is
weighed within the packages that have it (arXiv:2601.20800). Packages alone count: a limit would else seem to be an effect.

Shares of pure noise add up to 1 as well, so a knob is told of only where chance does not explain it: Pearson's chi-squared
test of its values among the best packages and among the others, those of one network (or training) counted once: taken
as independent they would make most knobs without any effect look important. All knobs of an objective are tested at once,
so the p-values are Holm's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Self

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from scipy.stats import chi2_contingency
from scipy.stats.contingency import crosstab

from coreml_pareto.objectives.holm import holm
from coreml_pareto.objectives.reading import losses
from coreml_pareto.search.choose import packages
from coreml_pareto.search.run import Run
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe
from coreml_pareto.spaces.compression import describe

Importances = Mapping[str, Mapping[str, float]]
"""By objective the knobs' shares of all importance, the largest first; what is missing to 1 is not told from chance."""

Knobs = dict[str, float | str]
Units = tuple[int, int, int]
BEST: Final = 0.1
"""The best packages are this share of all."""
LEAST_BEST: Final = 5
"""Or so many, which the estimate needs to be stable (Optuna's documentation of the evaluator)."""
LEAST: Final = 30
"""Below so many packages nothing is said."""
_OF_NETWORK: Final = ("backbone", "width", "depth", "resolution", "stem stride")
LEVEL: Final = 0.05
"""Chance explains a knob where it gives as uneven a table more often than this, for any of an objective's knobs."""


def importances(run: Run) -> Importances:
    """The importance of each knob for each of the run's objectives; empty below `LEAST` packages."""
    results = packages(run)
    if len(results) < LEAST:
        return {}
    knobs = _varied([_knobs(result.candidate) for result in results])
    points = [losses(result.score, run.objectives) for result in results]
    study = _study(knobs, points)
    trials = list(zip(_units([result.candidate for result in results]), knobs, points, strict=True))
    found = {row.name: _of_one(study, trials, axis) for axis, row in enumerate(run.objectives)}
    return {name: shares for name, shares in found.items() if shares}


def _study(knobs: Sequence[Knobs], points: Sequence[Sequence[float]]) -> optuna.Study:
    """A study in memory whose trials have these knobs and losses."""
    legal = {name: _range(values) for name, values in _seen(knobs).items()}
    study = optuna.create_study(directions=["minimize"] * len(points[0]))
    study.add_trials(
        optuna.trial.create_trial(params=own, distributions={name: legal[name] for name in own}, values=list(point))
        for own, point in zip(knobs, points, strict=True)
    )
    return study


def _of_one(
    study: optuna.Study, trials: Sequence[tuple[Units, Knobs, Sequence[float]]], axis: int
) -> Mapping[str, float]:
    """Shares for one axis; none where fewer than `LEAST` packages have a reading, or all have the same."""
    told = [(units, own, point[axis]) for units, own, point in trials if math.isfinite(point[axis])]
    known = [loss for _, _, loss in told]
    if len(known) < LEAST or len(set(known)) == 1:
        return {}
    best = max(BEST, LEAST_BEST / len(known))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=best)
    with warnings.catch_warnings():
        # Of rare values, which are left out; and that a target is minimised, as it should be.
        warnings.simplefilter("ignore", UserWarning)
        found = get_param_importances(study, evaluator=evaluator, target=lambda trial: trial.values[axis])
    bound = float(np.quantile(known, best, method="inverted_cdf"))  # the evaluator's own cut
    chances = holm([_chance(knob, told, bound) for knob in found])
    return {knob: share for (knob, share), chance in zip(found.items(), chances, strict=True) if chance < LEVEL}


def _chance(knob: str, told: Sequence[tuple[Units, Knobs, float]], bound: float) -> float:
    """How likely the best packages, whose loss is at most `bound`, have so uneven values of a knob by chance.

    A network is one choice however many packages were made of it, and so is a training: it counts once, among the best
    if any of its packages is.
    """
    side = 2 if knob == "compression" else 0 if knob in _OF_NETWORK else 1
    best: dict[int, tuple[float | str, bool]] = {}
    for units, own, loss in told:
        if knob in own:
            unit = units[side]
            best[unit] = own[knob], loss <= bound or (unit in best and best[unit][1])
    if not best:
        return 1.0
    table = crosstab([among for _, among in best.values()], [value for value, _ in best.values()]).count
    return float(chi2_contingency(table).pvalue) if min(table.shape) > 1 else 1.0


def _units(candidates: Sequence[Candidate]) -> list[Units]:
    """Of each candidate the numbers of its network, its training and itself."""
    networks: dict[Network, int] = {}
    trainings: dict[tuple[Network, Recipe], int] = {}
    return [
        (
            networks.setdefault(one.network, len(networks)),
            trainings.setdefault((one.network, one.recipe), len(trainings)),
            place,
        )
        for place, one in enumerate(candidates)
    ]


class _OneForAll:
    """Of a distribution that all trials share: Optuna copies and compares it with each of them, most of the time it takes."""

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class _Numbers(_OneForAll, FloatDistribution):
    pass


class _Names(_OneForAll, CategoricalDistribution):
    pass


def _range(values: Sequence[float | str]) -> BaseDistribution:
    """Numbers are ordered, names are not."""
    numbers = [float(value) for value in values if not isinstance(value, str)]
    if numbers:
        return _Numbers(min(numbers), max(numbers))
    return _Names(sorted({str(value) for value in values}))


def _varied(packages: Sequence[Knobs]) -> list[Knobs]:
    """The knobs that had more than one value."""
    kept = {name for name, values in _seen(packages).items() if len(set(values)) > 1}
    return [{name: value for name, value in knobs.items() if name in kept} for knobs in packages]


def _seen(packages: Iterable[Knobs]) -> dict[str, list[float | str]]:
    """The values of each knob, one for each package that has it."""
    seen: dict[str, list[float | str]] = {}
    for knobs in packages:
        for name, value in knobs.items():
            seen.setdefault(name, []).append(value)
    return seen


def _knobs(candidate: Candidate) -> Knobs:
    """A candidate as its choices, under the names of the study file."""
    network, recipe = candidate.network, candidate.recipe
    taught = {
        "temperature": recipe.temperature, "hard weight": recipe.hard_weight, "soft weight": recipe.soft_weight,
        "feature weight": recipe.feature_weight,
    }  # fmt: skip
    return {
        "backbone": network.backbone, "width": network.width, "depth": network.depth, "resolution": network.resolution,
        "stem stride": network.stem_stride, "epochs": recipe.epochs, "teacher": recipe.teacher or "none",
        "compression": describe(candidate.compression),
        **(taught if recipe.teacher is not None else {}),
    }  # fmt: skip
