"""Which method gave what on this run?  Pairs of packages from the record that differ in one method and in nothing else.

| method       | the pair, before → after                                 | equal in both                                |
|--------------|----------------------------------------------------------|----------------------------------------------|
| distillation | taught by nobody → by a teacher                          | network, the rest of the recipe, compression |
| quantization | half precision → integers, tables, mixed precision, W8A8 | the very training, and the pruning           |
| pruning      | dense → sparse                                           | the very training, and the quantization      |
| resolution   | an input size → a smaller one                            | the rest of the network, recipe, compression |
| width        | a width → a smaller one                                  | the rest of the network, recipe, compression |
| architecture | a backbone → another one                                 | the rest, but what the family sets (rates)   |

Several compressions of the same two trainings are no independent evidence: their mean counts once, as one comparison.
Top-1 is compared on the same images. Of one pair the interval is that of paired proportions; else images and comparisons
are both drawn anew, independently of each other (A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1,
2007), so that it covers other images and other networks of the kind; of few comparisons it knows little, and their number
stands with it. On the other axes low and high are the least and the largest change of any pair.

Trainings may have begun with other weights (`lineage.py`): of such pairs it is counted how many, because their difference
is not the method's alone. `ablate` trains both alike.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, final, get_args

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.accuracy import right_of
from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.objectives.paired import compare
from coreml_pareto.search.choose import packages
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.noise import top1
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.candidate import Candidate, Compression, Recipe
from coreml_pareto.spaces.compression import describe, parse

Kind = Literal["distillation", "quantization", "pruning", "resolution", "width", "architecture"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PLAIN: Final = Compression()
"""Half precision, dense."""
DRAWS: Final = 1000
SEED: Final = 0

Pair = tuple[Result, Result]
"""Before and after."""


@final
@dataclass(frozen=True)
class Change:
    """What a method changed on one axis: the mean over the comparisons of after minus before, in the reading's unit.

    Attributes:
        low, high: of top-1 the 95 % interval, None where the record has no images; else the range over the pairs.
        ratio: geometric mean of after over before; None of top-1.
    """

    objective: Objective
    value: float
    low: float | None
    high: float | None
    ratio: float | None

    @property
    def gain(self) -> float:
        """The change, positive where it is for the better: points of top-1 as a share, else the share that is saved."""
        return self.value if self.ratio is None else 1 - self.ratio

    @property
    def shown(self) -> bool:
        """Whether the pairs show a difference: the interval, or the range over the pairs, leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def reversed(self) -> Change:
        """The change of going back."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return replace(
            self, value=-self.value, low=low, high=high, ratio=None if self.ratio is None else 1 / self.ratio
        )


@final
@dataclass(frozen=True)
class Effect:
    """What one method did, over all pairs of the run.

    Attributes:
        kind, what: the method and its form, `quantization`, `int8/channel`.
        pairs: before and after.
        comparisons: how many pairs of trainings (of compressions: trainings) they are.
        changes: by objective, those that every package of the pairs has a reading on.
        other_start: how many comparisons are of trainings that began with other weights.
    """

    kind: Kind
    what: str
    pairs: tuple[Pair, ...]
    comparisons: int
    changes: Mapping[str, Change]
    other_start: int

    @property
    def reversed(self) -> Effect:
        """The same pairs the other way round: `32 → 48`."""
        what = " → ".join(reversed(self.what.split(" → ")))
        pairs = tuple((after, before) for before, after in self.pairs)
        return replace(self, what=what, pairs=pairs, changes={name: c.reversed for name, c in self.changes.items()})


@final
@dataclass(frozen=True)
class Methods:
    """The effects that a run shows; `unpaired` are methods that packages use but none has a counterpart for."""

    effects: tuple[Effect, ...]
    unpaired: tuple[Kind, ...]
    untried: tuple[Kind, ...]

    def of(self, kind: Kind) -> tuple[Effect, ...]:
        """The effects of one method."""
        return tuple(effect for effect in self.effects if effect.kind == kind)


def methods(run: Run) -> Methods:
    """Find every matched pair of a run's packages, and what each method did."""
    found = packages(run)
    draws = _Draws(found)
    effects = [_effect(kind, what, pairs, draws) for kind in KINDS for what, pairs in _pairs(kind, found).items()]
    paired = {effect.kind for effect in effects}
    tried = {kind for kind in KINDS if _tried(kind, found)}
    return Methods(
        tuple(effects),
        unpaired=tuple(kind for kind in KINDS if kind in tried - paired),
        untried=tuple(kind for kind in KINDS if kind not in tried),
    )


def parts(compression: Compression) -> tuple[Compression, Compression]:
    """A compression's quantization alone and its pruning alone; `PLAIN` for what it has not.

    Calibration and fine-tuning go with each part: fp16 without zeros has neither.
    """
    if not compression.sparsity:
        return compression, PLAIN
    if compression.scheme == "pruning":
        return PLAIN, compression
    quantized = compression.model_copy(update={"scheme": "palette", "sparsity": 0.0})
    pruned = compression.model_copy(update={"scheme": "pruning", "bits": 16, "granularity": "none"})
    return quantized, pruned


def untaught(recipe: Recipe) -> Recipe:
    """The recipe without its teacher."""
    return Recipe.model_validate(recipe.model_dump(exclude={"teacher", *_TEACHING}))


_TEACHING: Final = ("temperature", "hard_weight", "soft_weight", "feature_weight")


def _tried(kind: Kind, found: Sequence[Result]) -> bool:
    """Whether any package uses a method; of one that has no plain form, whether packages differ in it."""
    levels = {_MATCHES[kind].level(result.candidate) for result in found}
    return bool(levels - _PLAIN[kind]) if kind in _PLAIN else len(levels) > 1


_PLAIN: Final[Mapping[Kind, frozenset[Hashable]]] = {
    "distillation": frozenset({None}), "quantization": frozenset({PLAIN, parse("fp32")}), "pruning": frozenset({PLAIN}),
}  # fmt: skip
"""The levels that are none."""


@final
@dataclass(frozen=True)
class _Match:
    """How pairs of a method are found.

    Attributes:
        rest: what both have in common.
        level: what they differ in.
        step: names the step from one level to another; None where it is none.
    """

    rest: Callable[[Result], Hashable]
    level: Callable[[Candidate], Hashable]
    step: Callable[[Candidate, Candidate], str | None]


def _pairs(kind: Kind, found: Sequence[Result]) -> dict[str, list[Pair]]:
    """The matched pairs by the name of their step, in the order of the trials."""
    match, groups = _MATCHES[kind], defaultdict[Hashable, list[Result]](list)
    for result in found:
        groups[match.rest(result)].append(result)
    steps = defaultdict[str, list[Pair]](list)
    for group in groups.values():
        for before in group:
            for after in group:
                if before is not after and (what := match.step(before.candidate, after.candidate)) is not None:
                    steps[what].append((before, after))
    return steps


def _training(result: Result) -> str:
    assert isinstance(result.outcome, Scored)
    return result.outcome.provenance.get(TRAINING, "")


def _network(candidate: Candidate, *left_out: str) -> Hashable:
    return tuple(candidate.network.model_dump(exclude=set(left_out)).values())


def _taught(before: Candidate, after: Candidate) -> str | None:
    return after.recipe.teacher if before.recipe.teacher is None else None


def _quantized(before: Candidate, after: Candidate) -> str | None:
    return _compressed(parts(before.compression)[0], parts(after.compression)[0])


def _pruned(before: Candidate, after: Candidate) -> str | None:
    return _compressed(parts(before.compression)[1], parts(after.compression)[1])


def _compressed(before: Compression, after: Compression) -> str | None:
    return describe(after) if before == PLAIN != after and after.scheme != "fp32" else None


def _smaller(name: str) -> Callable[[Candidate, Candidate], str | None]:
    def step(before: Candidate, after: Candidate) -> str | None:
        first, second = (getattr(candidate.network, name) for candidate in (before, after))
        return f"{first:g} → {second:g}" if second < first else None

    return step


def _rebuilt(before: Candidate, after: Candidate) -> str | None:
    """One direction for each two backbones; `Effect.reversed` is the other."""
    first, second = before.network.backbone, after.network.backbone
    return f"{first} → {second}" if first < second else None


_TAUGHT: Final = ("teacher", *_TEACHING)
_MATCHES: Final[Mapping[Kind, _Match]] = {
    "distillation": _Match(
        lambda r: (r.candidate.network, untaught(r.candidate.recipe), r.candidate.compression),
        lambda c: c.recipe.teacher, _taught,
    ),
    "quantization": _Match(
        lambda r: (r.candidate.network, r.candidate.recipe, _training(r), parts(r.candidate.compression)[1]),
        lambda c: parts(c.compression)[0], _quantized,
    ),
    "pruning": _Match(
        lambda r: (r.candidate.network, r.candidate.recipe, _training(r), parts(r.candidate.compression)[0]),
        lambda c: parts(c.compression)[1], _pruned,
    ),
    "resolution": _Match(
        lambda r: (_network(r.candidate, "resolution"), r.candidate.recipe, r.candidate.compression),
        lambda c: c.network.resolution, _smaller("resolution"),
    ),
    "width": _Match(
        lambda r: (_network(r.candidate, "width"), r.candidate.recipe, r.candidate.compression),
        lambda c: c.network.width, _smaller("width"),
    ),
    "architecture": _Match(
        lambda r: (
            _network(r.candidate, "family", "backbone"), r.candidate.recipe.epochs,
            *(getattr(r.candidate.recipe, name) for name in _TAUGHT), r.candidate.compression,
        ),
        lambda c: c.network.backbone, _rebuilt,
    ),
}  # fmt: skip


Comparison = list[Pair]
"""All pairs of the same two trainings."""


def _effect(kind: Kind, what: str, pairs: Sequence[Pair], draws: _Draws) -> Effect:
    by_trainings = defaultdict[Hashable, Comparison](list)
    for pair in pairs:
        by_trainings[tuple(map(_training, pair))].append(pair)
    comparisons = list(by_trainings.values())
    return Effect(
        kind, what, tuple(pairs), len(comparisons), dict(_changes(comparisons, draws)),
        other_start=sum(before.parent != after.parent for (before, after), *_ in comparisons),
    )  # fmt: skip


def _changes(comparisons: Sequence[Comparison], draws: _Draws) -> Iterator[tuple[str, Change]]:
    for name, axis in OBJECTIVES.items():
        if all(axis.reading in result.score for pairs in comparisons for pair in pairs for result in pair):
            yield name, _change(axis, comparisons, draws)


def _change(axis: Objective, comparisons: Sequence[Comparison], draws: _Draws) -> Change:
    values = [[tuple(result.score[axis.reading].value for result in pair) for pair in pairs] for pairs in comparisons]
    differences = [[after - before for before, after in pairs] for pairs in values]
    mean = statistics.fmean(map(statistics.fmean, differences))
    if axis.name == "accuracy":
        low, high = draws.interval(comparisons)
        return Change(axis, mean, low, high, None)
    logs = (statistics.fmean(math.log(after / before) for before, after in pairs) for pairs in values)
    every = [difference for pairs in differences for difference in pairs]
    return Change(axis, mean, min(every), max(every), math.exp(statistics.fmean(logs)))


@final
class _Draws:
    """Top-1 of every package on drawn images, the same images for all, [draws, packages]; None where some do not tell."""

    def __init__(self, found: Sequence[Result]) -> None:
        right = {result.trial: right_of(result.score["top1"]) for result in found if "top1" in result.score}
        self.right = {trial: told for trial, told in right.items() if told is not None}
        whole = bool(self.right) and len(self.right) == len(right) and len(set(map(len, self.right.values()))) == 1
        self.top1 = top1(list(self.right.values()), DRAWS) if whole else None
        self.place = {trial: place for place, trial in enumerate(self.right)}

    def interval(self, comparisons: Sequence[Comparison]) -> tuple[float, float] | tuple[None, None]:
        """The 95 % interval of the mean difference in top-1, after minus before."""
        if self.top1 is None:
            return None, None
        if len(comparisons) == 1 and len(comparisons[0]) == 1:
            before, after = (self.right[result.trial] for result in comparisons[0][0])
            single = compare(after, before)
            return single.low, single.high
        return pigeonhole(np.column_stack([self._difference(pairs) for pairs in comparisons]))

    def _difference(self, pairs: Comparison) -> NDArray[np.float64]:
        """The mean difference of some pairs in each draw, [draws]."""
        assert self.top1 is not None
        before, after = (self.top1[:, [self.place[pair[side].trial] for pair in pairs]] for side in (0, 1))
        mean: NDArray[np.float64] = (after - before).mean(axis=1)
        return mean


def pigeonhole(differences: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % percentile interval of a mean over comparisons, from their differences on drawn images, [draws, comparisons].

    In each draw the comparisons are drawn anew, too, independently of the images.
    """
    draws, count = differences.shape
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=draws)
    low, high = np.quantile((drawn * differences).sum(axis=1) / count, (0.025, 0.975))
    return float(low), float(high)
