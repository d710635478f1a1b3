"""How are the candidates of an ablation made, and how long does that take?  Through the run's own store, stage by stage.

What a search, a finale or an ablation has trained with the same seed and from the same weights is found there; what an
interrupted ablation finished costs nothing the next time, and a training goes on from its last epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, final

from coreml_pareto.objectives.reading import Score
from coreml_pareto.search.ablation import Ablation, Design
from coreml_pareto.search.budget import seconds_per_epoch
from coreml_pareto.search.config import Plan
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.effort import EXPONENT, LOOKING, PACKAGING
from coreml_pareto.search.measurements import kept_evidence
from coreml_pareto.search.outcome import Failed, Scored
from coreml_pareto.search.preparation import prepare
from coreml_pareto.search.record import STORE
from coreml_pareto.search.report.words import candidate_name
from coreml_pareto.search.screen import Clock, Screen
from coreml_pareto.search.stages.train import Step
from coreml_pareto.search.stages.trained import Trained, open_checkpoint
from coreml_pareto.search.store import Store
from coreml_pareto.search.trial import Laboratory, open_laboratory
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe
from coreml_pareto.spaces.counts import count
from coreml_pareto.spaces.distillation import is_checkpoint
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.space import Space
from coreml_pareto.spaces.weights import POLICIES

SEEDS: Final = 3


@final
@dataclass(frozen=True)
class Workshop:
    """The resolved plan of a study, and everything that makes its candidates; without limits, nothing is refused."""

    plan: Plan
    space: Space
    data: DataSet
    laboratory: Laboratory


@final
@dataclass(frozen=True)
class Forecast:
    """What is yet to be made, and for about how long.

    Attributes:
        trainings: of candidates, that are not in the store.
        teachers: that have to be trained first.
        packages: that are not in the store, or may not be (fine-tuned ones are looked for when it is their turn).
        seconds: of all of it, estimated from timed training steps.
    """

    trainings: int
    teachers: int
    packages: int
    seconds: float


def open_workshop(plan: Plan, folder: Path, screen: Screen) -> Workshop:
    """Open what makes a run's candidates: as a search does, which may have been there before, or come later.

    Raises:
        UserError: bad data, other pictures than the run's, or a store that cannot be used.
    """
    plan, data, shared = prepare(plan, folder, screen, Clock())
    store = Store(
        folder / STORE, shared, lambda: screen.note("waiting for another process that makes the same"), screen.say
    )
    laboratory = open_laboratory(plan, data, store, lambda teacher: None, kept_evidence(folder, plan.target.resolve()))
    return Workshop(plan, plan.space(len(data.classes)), data, replace(laboratory, limits={}))


def seeds_of(full: Candidate, count: int) -> tuple[int, ...]:
    """The seeds after the recipe's own, by which it was chosen."""
    return tuple(range(full.recipe.seed + 1, full.recipe.seed + 1 + count))


def with_seed(candidate: Candidate, seed: int) -> Candidate:
    """The candidate trained with another seed."""
    return candidate.model_copy(update={"recipe": candidate.recipe.model_copy(update={"seed": seed})})


def require_possible(workshop: Workshop, candidates: Iterable[Candidate]) -> None:
    """Refuse, before anything is trained, a design one of whose packages cannot be made."""
    for candidate in candidates:
        workshop.laboratory.packager.require_possible(candidate.network, candidate.compression)


def forecast(workshop: Workshop, candidates: Sequence[Candidate], seeds: Sequence[int]) -> Forecast:
    """Time a training step of each network that is to be trained, and reckon how long all takes.

    A teacher only looks at each image of its students; writing and reading the packages of a training takes as long as
    `effort.py` says.
    """
    laboratory, every = workshop.laboratory, [with_seed(candidate, seed) for candidate in candidates for seed in seeds]
    lessons = {c.recipe.teacher: _lesson(laboratory, c.recipe) for c in every if c.recipe.teacher is not None}
    known = {c.training: _made(laboratory, c, lessons) for c in every}
    untrained = [pair for pair, trained in known.items() if trained is None]
    packages = [c for c in every if not _packaged(laboratory, known[c.training], c.compression)]
    untaught = [lesson for lesson in lessons.values() if lesson.made is None]
    clock = _Clock(workshop)
    seconds = [clock.training(network, recipe, lessons) for network, recipe in untrained]
    seconds += [clock.epochs(lesson.network, lesson.recipe.epochs) for lesson in untaught]
    seconds += [clock.packaging(network) for network, _ in {c.training: c for c in packages}]
    seconds += [clock.epochs(c.network, c.compression.fine_tune_epochs) for c in packages]
    return Forecast(len(untrained), len(untaught), len(packages), math.fsum(seconds))


@final
@dataclass(frozen=True)
class _Lesson:
    """A teacher: its network and recipe, and its training where it is made."""

    network: Network
    recipe: Recipe
    made: Trained | None


def _lesson(laboratory: Laboratory, recipe: Recipe) -> _Lesson:
    assert recipe.teacher is not None
    if is_checkpoint(recipe.teacher):
        trained = open_checkpoint(Path(recipe.teacher), laboratory.data.classes)
        return _Lesson(trained.network, trained.recipe, trained)
    network, own = laboratory.teach(recipe.teacher)
    policy = laboratory.trainer.pretrained if laboratory.trainer.pretrained in POLICIES else "auto"
    return _Lesson(network, own, replace(laboratory.trainer, pretrained=policy).made(network, own))


def _made(laboratory: Laboratory, candidate: Candidate, lessons: Mapping[str, _Lesson]) -> Trained | None:
    """The training of a candidate, if it is in the store."""
    name = candidate.recipe.teacher
    if name is None:
        return laboratory.trainer.made(candidate.network, candidate.recipe)
    teacher = lessons[name].made
    return None if teacher is None else laboratory.trainer.made(candidate.network, candidate.recipe, teacher)


def _packaged(laboratory: Laboratory, trained: Trained | None, compression: Compression) -> bool:
    return trained is not None and laboratory.packager.made(trained, compression)


@final
class _Clock:
    """How long things take on this machine; a network is timed when it is first asked for."""

    def __init__(self, workshop: Workshop) -> None:
        plan, train = workshop.plan, workshop.data.train
        self.images = min(len(train), plan.training.images or len(train))
        self.pace = cache(lambda network: seconds_per_epoch(network, plan, workshop.data))

    def epochs(self, network: Network, count: int) -> float:
        """Seconds of so many epochs without a teacher."""
        return self.pace(network) * count if count else 0.0

    def training(self, network: Network, recipe: Recipe, lessons: Mapping[str, _Lesson]) -> float:
        """Seconds of a training."""
        own = self.epochs(network, recipe.epochs)
        if recipe.teacher is None:
            return own
        return float(
            own * (1 + LOOKING * (count(lessons[recipe.teacher].network).macs / count(network).macs) ** EXPONENT)
        )

    def packaging(self, network: Network) -> float:
        """Seconds of writing and reading the packages of a training."""
        units = self.images * count(network).macs ** EXPONENT
        return float(PACKAGING / units * self.pace(network))


def ablate(workshop: Workshop, design: Design, seeds: Sequence[int], screen: Screen) -> Ablation:
    """Make every candidate with every seed and read its package; one seed of all comes before the next.

    Raises:
        UserError: a candidate cannot be made, with its cause; what is finished stays.
        KeyboardInterrupt: Ctrl-C; as well.
    """
    scores: dict[str, dict[int, Score]] = {candidate.digest: {} for candidate in design.candidates}
    total, done = len(design.candidates) * len(seeds), 0
    for seed in seeds:
        for candidate in design.candidates:
            done += 1
            score = _score(workshop.laboratory, with_seed(candidate, seed), screen)
            scores[candidate.digest][seed] = score
            screen.say(f"{done}/{total} {candidate_name(candidate)}, seed {seed}: top-1 {score['top1'].value:.1%}")
    return Ablation(design, tuple(seeds), scores)


def _score(laboratory: Laboratory, candidate: Candidate, screen: Screen) -> Score:
    outcome = laboratory.evaluate(candidate, _Witness(screen))
    if isinstance(outcome, Scored):
        return outcome.score
    assert isinstance(outcome, Failed)  # without limits nothing is refused, and nothing is stopped early
    raise UserError(
        f"{candidate_name(candidate)} with seed {candidate.recipe.seed} failed in {outcome.stage}: {outcome.cause}. What is "
        "finished is kept; the same command tries again."
    )


@final
class _Witness:
    """Shows what is being done; nothing is stopped early."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def note(self, doing: str) -> None:
        self.screen.note(doing)

    def stage(self, name: str, seconds: float | None) -> None:
        """The note says more."""

    def step(self, step: Step) -> None:
        self.screen.step(step.done, step.epochs, step.loss, step.top1, step.seconds_left)

    def packaged(self, known: Score) -> None:
        """Nothing is spared here."""
