"""What is asked besides what the sampler draws: baselines, further compressions of what was trained, new ground.

Where a run begins with the trained networks of another one, these are asked first, each in all its compressions. Else the
first trial is a plain network (fp16, no teacher), the quickest; every other training is such a baseline until each family
has one: a first package is there early, and every later one can be compared. After a network was trained, further
compressions of it are asked next, for they cost no training. Which training comes between and after the baselines
`acquisition.py` chooses. One of Optuna's samplers may draw instead, after all baselines: what it draws is trained on the
lowest rung; after each of those one member of the front is promoted to the next, the most balanced first.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, final

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.pareto import shortlist
from coreml_pareto.objectives.reading import Score, losses
from coreml_pareto.search import budget
from coreml_pareto.search.acquisition import Acquisition
from coreml_pareto.search.choose import front
from coreml_pareto.search.config import AUTO, Plan
from coreml_pareto.search.gate import Gate
from coreml_pareto.search.history import Key
from coreml_pareto.search.origin import Lesson, Origin
from coreml_pareto.search.outcome import Pruned, Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.storage.peers import Elsewhere
from coreml_pareto.search.study import Asked, Study
from coreml_pareto.search.trial import Laboratory
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe, digest_of
from coreml_pareto.spaces.compression import spell
from coreml_pareto.spaces.distillation import NONE
from coreml_pareto.spaces.space import RUNG, Space, Value, choose_from

LATENCY: Final = OBJECTIVES["latency"].reading
PATIENCE = 3
"""Trials that may fail in a row at the start, or repeat each other, before the search looks elsewhere."""

Training = tuple[Network, Recipe]
Trainings = Mapping[Training, Candidate]
"""Trainings that were asked, each with one of its candidates."""


@final
@dataclass(frozen=True)
class Proposals:
    """Puts candidates in line; `seen` are all results so far by the candidate's digest, `running` is what is at work."""

    plan: Plan
    space: Space
    study: Study
    laboratory: Laboratory
    gate: Gate
    acquisition: Acquisition
    seen: Mapping[str, Result]
    running: Mapping[int, Asked | Elsewhere]
    origin: Origin
    _spared: dict[int, int] = field(default_factory=dict, init=False)
    """By trial, of how many packages of its training a spared one is known to be spared by: until there is another one
    its network is not known to reach more, while what it has to beat only grows."""

    def missing(self) -> None:
        """Put in line what a kill kept out, of the compressions of the last training."""
        busy = (*self.study.waiting(), *(asked.candidate for asked in self.running.values()))
        taken = {candidate.digest for candidate in busy}
        last = max(self.seen.values(), key=lambda result: result.trial, default=None)
        for candidate in self._further(last) if last else ():
            if candidate.digest not in taken:
                self.study.enqueue(candidate)
        if not self.study.waiting():
            self.fresh()

    def next(self) -> None:
        """Where nobody stands in line, put somebody there.

        That is what another run trained, a baseline, what may win after all, or what is chosen.
        """
        if self.study.waiting():
            return
        order = (self._baseline, self._worthwhile) if self._baseline_is_due() else (self._worthwhile, self._baseline)
        candidate = self._taken() or order[0]() or order[1]()
        if candidate is not None:
            self.study.enqueue(candidate)

    def _baseline_is_due(self) -> bool:
        """Whether a baseline goes before what is worthwhile: in every other training, always where Optuna draws.

        One that would not end within the timeout waits for what does.
        """
        if self.plan.search.sampler != AUTO:
            return True
        trained = {candidate.training for candidate in self._asked()}
        plain = self._plain_candidate() if len(trained) % 2 == 0 else None
        return plain is not None and self.acquisition.in_time(self._run(), plain)

    def _worthwhile(self) -> Candidate | None:
        """Return what may win after all, or what is chosen."""
        return self.revival() or self._chosen()

    def revival(self) -> Candidate | None:
        """Return a candidate that was stopped or spared and may win after all; None where there is none."""
        at_work = {asked.candidate.digest for asked in self.running.values()}
        pruned = [(digest, result) for digest, result in self.seen.items() if isinstance(result.outcome, Pruned)]
        packages = self._packages() if pruned else {}
        stopped = (result for digest, result in pruned if digest not in at_work)
        return next((result.candidate for result in stopped if self._may_win(result, packages)), None)

    def revived(self, result: Result) -> bool:
        """Whether a training was stopped that would not be stopped now, or a package spared that would not be spared."""
        return self._may_win(result, self._packages())

    def _packages(self) -> Mapping[Key, int]:
        """How many packages of each training are scored."""
        return Counter(r.candidate.training for r in self.seen.values() if isinstance(r.outcome, Scored))

    def _may_win(self, result: Result, packages: Mapping[Key, int]) -> bool:
        """Whether the gate stopped a candidate that it would let go on now; of a spared package readings are known."""
        if not isinstance(result.outcome, Pruned):
            return False
        if result.outcome.score:
            return self._no_longer_spared(result, result.outcome.score, packages.get(result.candidate.training, 0))
        curve = result.outcome.curve
        return bool(curve) and self.gate.training(result.candidate, result.parent, curve, self.seen.values()) is None

    def _no_longer_spared(self, result: Result, known: Score, siblings: int) -> bool:
        """Whether a spared package may win, so many of its network being scored; asked of the gate once for each number.

        Readings that were estimated before the device was measured cannot be compared: the package is judged anew.
        """
        latency = known.get(LATENCY)
        if latency is not None and latency.how == "estimated" and self.laboratory.evidence is not None:
            return True
        if self._spared.get(result.trial) == siblings:
            return False
        if self.gate.package(result.candidate, known, self.seen.values()) is None:
            return True
        self._spared[result.trial] = siblings
        return False

    def rung(self, backbone: str) -> int:
        """Return where a newly drawn network is trained: high where its backbone has no weights to inherit yet."""
        known = (r.candidate.network.backbone for r in self.seen.values() if isinstance(r.outcome, Scored))
        return 0 if backbone in known else self.space.ladder[-1]

    def after(self, result: Result) -> None:
        """Put in line what a result suggests."""
        for further in self._further(result):
            self.study.enqueue(further)

    def fresh(self) -> None:
        """Where the sampler does nothing but repeat, put a candidate in line that is new, near the last one if any is."""
        repeated = self.study.repeated()
        if len(repeated) >= PATIENCE:
            self.near(repeated[0])

    def near(self, candidate: Candidate) -> bool:
        """Put a candidate in line that is neither seen nor at work, near this one if any is; tell whether one was found."""
        taken = {*self.seen, *(asked.candidate.digest for asked in self.running.values())}
        draws = random.Random(digest_of([self.plan.search.seed, self.study.told()]))
        near = [c for c in self.space.neighbours(candidate) if c.digest not in taken]
        for _ in range(1000):
            fresh = draws.choice(near) if near else self.space.decode(lambda knob: draws.choice(knob.choices))
            if fresh.digest not in taken:
                self.study.enqueue(fresh)
                return True
        return False

    def _further(self, result: Result) -> list[Candidate]:
        """Return other compressions of a network just trained, that were not tried; none where its training was done."""
        candidate, others = result.candidate, (r for r in self.seen.values() if r.trial != result.trial)
        done = any(candidate.training == r.candidate.training and isinstance(r.outcome, Scored) for r in others)
        if not isinstance(result.outcome, Scored) or done:
            return []
        kinds = (c for c in self.space.compressions if spell(c) != spell(candidate.compression))
        packages = [self._at_no_cost(self.space.compressed(candidate, compression)) for compression in kinds]
        choices = [package for package in packages if package.digest not in self.seen]
        if len(choices) >= self.plan.packages_per_training:
            draws = random.Random(digest_of([self.plan.search.seed, candidate.network.digest, candidate.recipe.digest]))
            choices = draws.sample(choices, self.plan.packages_per_training - 1)
        return choices

    def _at_no_cost(self, candidate: Candidate) -> Candidate:
        """Return the candidate without fine-tuning, or with the least that the space allows: the sampler asks for more."""
        encoded = self.space.encode(candidate)
        return self.space.decode(choose_from({**encoded, "fine_tune_epochs": min(self.space.fine_tune_epochs)}))

    def _rests(self, asked: Trainings) -> bool:
        """Whether no more promotions than trainings on the lowest rung were asked."""
        rungs = {training: self.space.rung_of(candidate) for training, candidate in asked.items()}
        promoted = [rung for key, rung in rungs.items() if rung and self._on_rung(asked[key], rung - 1) in asked]
        return len(promoted) < sum(rung == 0 for rung in rungs.values())

    def _chosen(self) -> Candidate | None:
        """Return the training that is expected to win most; of Optuna's samplers the promotions between their draws."""
        if self.plan.search.sampler != AUTO:
            return self._promotion()
        at_work = [asked.candidate for asked in self.running.values()]
        return self.acquisition.best(self._run(), at_work)

    def _run(self) -> Run:
        """The results by trial, not as they came to be known here."""
        return self.study.run_of(sorted(self.seen.values(), key=lambda result: result.trial))

    def _asked(self) -> list[Candidate]:
        """Return what was asked until now, what is at work included."""
        ended = [result.candidate for result in self.seen.values()]
        return ended + [asked.candidate for asked in self.running.values()]

    def _promotion(self) -> Candidate | None:
        """Return the most balanced member of the front of a rung, one rung higher; the highest rung first.

        The front of a rung is that of all packages trained on it or below, as in asynchronous successive halving (Li et
        al. 2020, arXiv:1810.05934).
        """
        asked = {(candidate.network, candidate.recipe): candidate for candidate in self._asked()}
        for rung in reversed(self.space.ladder[:-1]) if self._rests(asked) else ():
            below = [r for r in self.seen.values() if self.space.rung_of(r.candidate) <= rung]
            for member in self._balanced_first(front(self.study.run_of(below))):
                if (
                    self.space.rung_of(member.candidate) == rung
                    and self._on_rung(member.candidate, rung + 1) not in asked
                ):
                    return self.space.on_rung(member.candidate, rung + 1)
        return None

    def _balanced_first(self, members: Sequence[Result]) -> list[Result]:
        axes = self.study.objectives
        order = shortlist([losses(member.score, axes) for member in members], [axis.scale for axis in axes])
        return [members[i] for i in order]

    def _on_rung(self, candidate: Candidate, rung: int) -> Training:
        """The training of this network by this recipe on another rung."""
        other = self.space.on_rung(candidate, rung)
        return other.network, other.recipe

    @cached_property
    def _plain(self) -> tuple[Network, ...]:
        """The networks of the baselines, the quickest first."""
        return budget.baselines(self.space)

    def _taken(self) -> Candidate | None:
        """Return a package of a training that was taken over from another run, until each was asked for one."""
        asked = {(candidate.network, candidate.recipe) for candidate in self._asked()}
        lessons = (lesson for lesson in self._lessons if (lesson.network, lesson.recipe) not in asked)
        lesson = next(lessons, None)
        if lesson is None:
            return None
        return self._within_limits(self.space.compressed(lesson.candidate, self.space.compressions[0]))

    @cached_property
    def _lessons(self) -> tuple[Lesson, ...]:
        return self.origin.within(self.space)

    def _baseline(self) -> Candidate | None:
        """Return the next plain candidate, fp16 where the limits allow."""
        plain = self._plain_candidate()
        return None if plain is None else self._within_limits(plain)

    def _plain_candidate(self) -> Candidate | None:
        """Return one plain candidate of a family that has none yet, the quickest first."""
        tried = {candidate.network for candidate in self._asked()}
        network = next((network for network in self._plain if network not in tried), None)
        if network is None:
            return None
        family = network.family
        values: dict[str, Value] = {
            "family": family, f"backbone.{family}": network.backbone, "width": network.width, "depth": network.depth,
            "resolution": network.resolution, "stem_stride": network.stem_stride, "teacher": NONE, "compression": "fp16",
            RUNG: self.space.ladder[0 if self.plan.search.sampler == AUTO else -1],
        }  # fmt: skip
        return self.space.decode(choose_from(values))

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
