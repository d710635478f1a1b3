"""What was trained so far, and what came of it?  Results by training: its best top-1, what each compression took, its origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import final

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.lineage import TRAINING, parent_of
from coreml_pareto.search.outcome import Failed, Pruned, Scored
from coreml_pareto.search.run import Result
from coreml_pareto.search.surrogate import Training
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe
from coreml_pareto.spaces.space import Space

Key = tuple[Network, Recipe]
"""What tells trainings apart: `Candidate.training`."""
TOP1 = OBJECTIVES["accuracy"].reading


@final
class History:
    """The results of a search by training.

    Attributes:
        packages: by training, its scored results, the best top-1 first; of one that was stopped none.
        trainings: what the surrogate learns from; one that was stopped counts with the best top-1 of its curve.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        self.packages: dict[Key, list[Result]] = {}
        self._stopped: dict[Key, Result] = {}
        self._failed: set[Key] = set()
        for result in results:
            if isinstance(result.outcome, Scored):
                self.packages.setdefault(result.candidate.training, []).append(result)
            elif isinstance(result.outcome, Pruned) and result.outcome.curve:
                self._stopped[result.candidate.training] = result
            elif isinstance(result.outcome, Failed):
                self._failed.add(result.candidate.training)
        for own in self.packages.values():
            own.sort(key=_top1, reverse=True)

    @cached_property
    def trainings(self) -> tuple[Training, ...]:
        """One row for each training."""
        ended = [
            Training(own[0].candidate, _top1(own[0]), self.epochs(own[0].candidate, own[0].parent))
            for own in self.packages.values()
        ]
        cut = [
            Training(result.candidate, max(result.outcome.curve), self.epochs(result.candidate, result.parent))
            for key, result in self._stopped.items()
            if key not in self.packages and isinstance(result.outcome, Pruned)
        ]
        return (*ended, *cut)

    @cached_property
    def drops(self) -> list[tuple[Candidate, float]]:
        """Each package with the points of top-1 that it lies below the best of its training."""
        return [(one.candidate, _top1(own[0]) - _top1(one)) for own in self.packages.values() for one in own]

    @cached_property
    def ended(self) -> frozenset[Key]:
        """All that need not be trained: what was trained, what was stopped, what failed."""
        return frozenset({*self.packages, *self._stopped, *self._failed})

    def new(self, candidate: Candidate) -> bool:
        """Whether a candidate's training has not ended."""
        return candidate.training not in self.ended

    @cached_property
    def teachers(self) -> frozenset[str]:
        """Those that students have learned from."""
        taught = (row.candidate.recipe.teacher for row in self.trainings)
        return frozenset(name for name in taught if name is not None)

    def promotions(self, space: Space) -> list[Candidate]:
        """Return what was trained, one rung higher."""
        firsts = [own[0].candidate for own in self.packages.values()]
        rungs = [(candidate, space.rung_of(candidate)) for candidate in firsts]
        return [space.on_rung(candidate, rung + 1) for candidate, rung in rungs if rung < space.ladder[-1]]

    def epochs(self, candidate: Candidate, parent: str | None) -> float:
        """Return the epochs behind a training's weights: its own, and those of whatever it inherits."""
        total, seen = float(candidate.recipe.epochs), set[str]()
        while parent is not None and parent in self._by_key and parent not in seen:
            seen.add(parent)
            origin = self._by_key[parent]
            total += origin.candidate.recipe.epochs
            parent = origin.parent
        return total

    def parent_of(self, candidate: Candidate) -> str | None:
        """Return the training that a candidate would inherit from."""
        return parent_of(candidate, self._of_backbone.get(candidate.network.backbone, ()))

    @cached_property
    def _of_backbone(self) -> Mapping[str, list[Result]]:
        """The best package of each finished training, by backbone: only from these is inherited."""
        found: dict[str, list[Result]] = {}
        for own in self.packages.values():
            found.setdefault(own[0].candidate.network.backbone, []).append(own[0])
        return found

    @cached_property
    def _by_key(self) -> Mapping[str, Result]:
        """One result for each finished training, by the training's key in the store."""
        firsts = (own[0] for own in self.packages.values())
        return {
            r.outcome.provenance[TRAINING]: r
            for r in firsts
            if isinstance(r.outcome, Scored) and TRAINING in r.outcome.provenance
        }


def _top1(result: Result) -> float:
    return result.score[TOP1].value
