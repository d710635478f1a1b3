"""Can this candidate still win?  What accuracy its packages need is known before they are trained.

A candidate enters the front only if its accuracy beats the best of those that are no worse on every other objective. A
training needs the least that any of its packages needs; where it ends is foretold by `curves.py`. It is stopped when it
ends below that with the stated confidence, and its checkpoint stays: if the curves of later trainings change what is
foretold, it goes on. Compared is with what was trained on the same rung or a lower one: whoever was trained for longer
is ahead for that reason.

A curve says nothing of a package that is trained on under its compression. Where the space fine-tunes, any training can
still yield such packages, so none is stopped; and no package that is fine-tuned itself is spared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, final

import numpy as np

from coreml_pareto.objectives.accuracy import wilson
from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective, select
from coreml_pareto.objectives.reading import Score, losses
from coreml_pareto.search.config import Plan
from coreml_pareto.search.curves import CONFIDENCE, Curve, due, reachable_top1
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Pruned, Scored
from coreml_pareto.search.run import Result, broken
from coreml_pareto.search.trial import Laboratory
from coreml_pareto.spaces.candidate import Candidate, Network
from coreml_pareto.spaces.compression import UNCOMPRESSED
from coreml_pareto.spaces.space import Space

ACCURACY: Final = OBJECTIVES["accuracy"]


def needed_top1(static: Score, rivals: Iterable[Score], axes: Sequence[Objective]) -> float:
    """Return the top-1 that a package with these readings has to beat; -inf where nothing is as good without it.

    Args:
        static: its readings, accuracy unknown.
        rivals: of the packages within the limits.
        axes: the study's objectives.
    """
    others = [axis for axis in axes if axis != ACCURACY]
    own = np.array(losses(static, others))
    beaten_by = (rival for rival in rivals if (np.array(losses(rival, others)) <= own).all())
    return max((rival[ACCURACY.reading].value for rival in beaten_by), default=-math.inf)


@final
class Gate:
    """Stops what cannot enter the front of its rung, and says when something that was stopped can after all.

    Args:
        plan: objectives, limits and confidence.
        space: the compressions that a network can be stored in.
        laboratory: tells the readings of those packages.
        images: on which a training's top-1 is taken.
    """

    def __init__(self, plan: Plan, space: Space, laboratory: Laboratory, images: int) -> None:
        self.plan, self.space, self.laboratory, self.images = plan, space, laboratory, images
        self.axes = select(plan.objectives)
        self.active = plan.search.gate and ACCURACY in self.axes
        compresses = any(compression.scheme not in UNCOMPRESSED for compression in space.compressions)
        self._fine_tunes = compresses and any(space.fine_tune_epochs)
        self._potential: dict[str, tuple[Score, ...]] = {}

    def look(
        self, candidate: Candidate, parent: str | None, curve: Sequence[float], known: Iterable[Result]
    ) -> Pruned | None:
        """Return why a training need not go on, if it is looked at after these epochs (`curves.due`)."""
        return self.training(candidate, parent, curve, known) if due(len(curve), candidate.recipe.epochs) else None

    def training(
        self, candidate: Candidate, parent: str | None, curve: Sequence[float], known: Iterable[Result]
    ) -> Pruned | None:
        """Return why a training need not go on, from its top-1 after each epoch; None where it may still win.

        Where the space fine-tunes some compression, every training goes on, whatever its candidate is stored in: of each a
        fine-tuned package can still be asked, which may get better than the curve foretells.
        """
        if not self.active or self._fine_tunes:
            return None
        results = tuple(known)
        curves = _curves(results, inherited=parent is not None)
        reachable = reachable_top1(curve, candidate.recipe.epochs, curves, self.images)
        rivals = self._rivals(candidate, results)
        best = max((rival[ACCURACY.reading].value for rival in rivals), default=-math.inf)
        if reachable >= max(best, self._least()):  # and cheaper to know than what its packages need
            return None
        potential = self._potential_of(candidate.network)
        needed = min((needed_top1(package, rivals, self.axes) for package in potential), default=-math.inf)
        return self._stopped(reachable, max(needed, self._least()), {}, tuple(curve))

    def package(self, candidate: Candidate, package: Score, known: Iterable[Result]) -> Pruned | None:
        """Return why a package need not be evaluated, from what its network reached in others; None where it may win.

        No compression of a network counts as better than the upper end of the best one's interval, or of the network's
        own where every package so far has lost more.
        """
        results = tuple(known)
        siblings = [
            result.outcome
            for result in results
            if isinstance(result.outcome, Scored) and result.candidate.training == candidate.training
        ]
        if not self.active or not siblings or candidate.compression.fine_tune_epochs:
            return None
        own = [sibling.score[ACCURACY.reading] for sibling in siblings]
        reached = max(reading.value for reading in own)
        reachable = max([reading.high for reading in own] + [self._uncompressed(sibling) for sibling in siblings])
        needed = needed_top1(package, self._rivals(candidate, results), self.axes)
        return self._stopped(reachable, max(needed, self._least()), package, (reached,))

    def _uncompressed(self, package: Scored) -> float:
        """The upper end of the top-1 that a package's network had before it was compressed."""
        curve = _curve_of(package)
        return wilson(round(curve[-1] * self.images), self.images)[1] if curve else 0.0

    def _stopped(self, reachable: float, needed: float, known: Score, curve: tuple[float, ...]) -> Pruned | None:
        if reachable >= needed:
            return None
        reason = f"it would enter the front above {needed:.1%} only, and reaches {reachable:.1%} at most"
        return Pruned(f"{reason} ({CONFIDENCE:.0%} confidence)", known, curve)

    def _rivals(self, candidate: Candidate, results: Iterable[Result]) -> list[Score]:
        """Readings of the packages within the limits that were trained on the candidate's rung or below."""
        rung, limits = self.space.rung_of(candidate), self.plan.bounds
        return [
            result.score
            for result in results
            if isinstance(result.outcome, Scored)
            and self.space.rung_of(result.candidate) <= rung
            and not broken(result.score, limits, strict=self.plan.strict)
        ]

    def _least(self) -> float:
        """The top-1 that the study's limit asks for."""
        return self.plan.bounds.get(ACCURACY.name, -math.inf)

    def _potential_of(self, network: Network) -> tuple[Score, ...]:
        """The packages that a network can yield, probed once; unknown where a probe fails: its trial says why."""
        if network.digest not in self._potential:
            try:
                found = tuple(self.laboratory.potential(network, self.space.compressions))
            except Exception:
                found = ()
            self._potential[network.digest] = found
        return self._potential[network.digest]


def _curves(results: Iterable[Result], *, inherited: bool) -> tuple[Curve, ...]:
    """The curves of finished trainings that began in the same way: inherited weights begin high and gain less."""
    known = {
        result.outcome.provenance[TRAINING]: _curve_of(result.outcome)
        for result in results
        if isinstance(result.outcome, Scored) and (result.parent is not None) == inherited
    }
    return tuple(known.values())


def _curve_of(package: Scored) -> Curve:
    """Top-1 of a package's training after each epoch."""
    return tuple(map(float, package.provenance["curve"].split()))
