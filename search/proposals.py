"""What is asked besides what the sampler draws: baselines first, further compressions of what was trained, new ground.

The first trials are one plain network of each family (fp16, no teacher), cheapest first: a first package is there
early, and every later one can be compared with a baseline. After a network was trained, further compressions of it
are asked next, for they cost no training.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from coreml_pareto.search import budget
from coreml_pareto.search.config import Plan
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result
from coreml_pareto.search.study import Study
from coreml_pareto.search.trial import Laboratory
from coreml_pareto.spaces.candidate import Candidate, digest_of
from coreml_pareto.spaces.compression import spell
from coreml_pareto.spaces.distillation import NONE
from coreml_pareto.spaces.space import Space, Value, choose_from

PATIENCE = 3
"""Trials that may fail in a row at the start, or repeat each other, before the search looks elsewhere."""


@final
@dataclass(frozen=True)
class Proposals:
    """Puts candidates in line; `seen` are all results so far by the candidate's digest."""

    plan: Plan
    space: Space
    study: Study
    laboratory: Laboratory
    seen: Mapping[str, Result]

    def missing(self) -> None:
        """Put in line what does not stand there yet: baselines at the start, later what a kill kept out."""
        waiting = {candidate.digest for candidate in self.study.waiting()}
        last = max(self.seen.values(), key=lambda result: result.trial, default=None)
        for candidate in self._further(last) if last else self._baselines():
            if candidate.digest not in waiting:
                self.study.enqueue(candidate)
        if not self.study.waiting():
            self.fresh()

    def after(self, result: Result) -> None:
        """Put in line what a result suggests."""
        for further in self._further(result):
            self.study.enqueue(further)

    def fresh(self) -> None:
        """Where the sampler does nothing but repeat, put a candidate in line that is new, near the last one if any is."""
        repeated = self.study.repeated()
        if len(repeated) < PATIENCE:
            return
        draws = random.Random(digest_of([self.plan.search.seed, self.study.told()]))
        near = [c for c in self.space.neighbours(repeated[0]) if c.digest not in self.seen]
        for _ in range(1000):
            fresh = draws.choice(near) if near else self.space.decode(lambda knob: draws.choice(knob.choices))
            if fresh.digest not in self.seen:
                self.study.enqueue(fresh)
                return

    def _further(self, result: Result) -> list[Candidate]:
        """Return other compressions of a network just trained; none where the trial found its training done."""
        candidate, others = result.candidate, (r for r in self.seen.values() if r.trial < result.trial)
        if not isinstance(result.outcome, Scored) or any(_same_training(candidate, r.candidate) for r in others):
            return []
        choices = [c for c in self.space.compressions if spell(c) != spell(candidate.compression)]
        draws = random.Random(digest_of([self.plan.search.seed, candidate.network.digest, candidate.recipe.digest]))
        drawn = draws.sample(choices, min(len(choices), self.plan.search.packages_per_training - 1))
        return [self.space.compressed(candidate, compression) for compression in drawn]

    def _baselines(self) -> list[Candidate]:
        """Return one plain candidate of each family (fp16 where the limits allow), the quickest to train first."""
        found = []
        for network in budget.baselines(self.space):
            family = network.family
            values: dict[str, Value] = {
                "family": family, f"backbone.{family}": network.backbone, "width": network.width, "depth": network.depth,
                "resolution": network.resolution, "stem_stride": network.stem_stride, "teacher": NONE, "compression": "fp16",
            }  # fmt: skip
            found.append(self._within_limits(self.space.decode(choose_from(values))))
        return found

    def _within_limits(self, plain: Candidate) -> Candidate:
        """Return a baseline in the first compression that keeps the limits known before training; as it is if none."""
        for compression in (plain.compression, *self.space.compressions):
            candidate = self.space.compressed(plain, compression)
            try:
                if not self.laboratory.over(self.laboratory.probe(candidate)):
                    return candidate
            except Exception:  # its trial fails in the same way and says why
                return plain
        return plain


def _same_training(a: Candidate, b: Candidate) -> bool:
    return a.network == b.network and a.recipe == b.recipe
