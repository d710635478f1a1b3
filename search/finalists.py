"""How good is what was found, and how much of it was luck?  Finalists are trained again with other seeds, the whole way.

A finalist's weights may come from another training, and that one's from a third (`lineage.py`). A repetition goes the same
way from its root: every training on it is made again with the new seed, by its own recipe, from the repetition of the one
before; then the package, by the finalist's compression. So the spread is that of the recipe from first to last. The
teacher stays: it is given to the search, like the pictures. Where a training on the way is gone from the store, the way
cannot be repeated, and this is said.

Everything lies in the store under keys of its own: what is finished costs nothing the next time, what a kill interrupted
goes on from its last epoch. The top-1 of the repetitions belongs to the finalist's trial (`seeds.py`); they are no trials.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from coreml_pareto.objectives.catalogue import Objective
from coreml_pareto.objectives.pareto import shortlist
from coreml_pareto.objectives.reading import Reading, Score, losses
from coreml_pareto.search.config import SearchSection
from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.events import Log
from coreml_pareto.search.figures import figure, interval
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import OutOfTime, Scored
from coreml_pareto.search.report.words import many
from coreml_pareto.search.run import Result
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.seeds import fact_of, mean_top1
from coreml_pareto.search.stages.recover import Tuning
from coreml_pareto.search.stages.train import Step
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import DiskError, require_disk
from coreml_pareto.search.study import Study
from coreml_pareto.search.trial import Laboratory, Witness

PATIENCE: Final = 2.0
"""All repetitions end after so many times what they should take; the same command goes on with the others."""
LEAST_SECONDS: Final = 60.0
STAGE: Final = "repetition"
"""In the log."""


class Gone(Exception):
    """A training on a finalist's way is no longer in the store."""


@final
@dataclass(frozen=True)
class Repetition:
    """One finalist with another seed; `way` are the trainings from the root to its own."""

    result: Result
    seed: int
    way: tuple[Trained, ...]


@final
@dataclass(frozen=True)
class Agenda:
    """What is to be repeated, in so many trainings and seconds; `without` are finalists whose way is gone."""

    repetitions: tuple[Repetition, ...]
    without: tuple[Result, ...]
    trainings: int
    seconds: float

    @property
    def limit(self) -> float:
        """Seconds after which it ends."""
        return max(LEAST_SECONDS, PATIENCE * self.seconds)


def chosen(front: Sequence[Result], axes: Sequence[Objective], count: int) -> list[Result]:
    """The most balanced members of a front, at most so many, the most balanced first."""
    order = shortlist([losses(member.score, axes) for member in front], [axis.scale for axis in axes])
    return [front[place] for place in order[:count]]


def agenda(finalists: Iterable[Result], seeds: int, find: Callable[[str], Trained | None]) -> Agenda:
    """What is left to repeat so that each finalist has so many other seeds.

    Args:
        finalists: of the front.
        seeds: counted from the one after the finalist's own.
        find: gives a training of the store by its key, None where it is gone.
    """
    wanted, without, trainings = list[Repetition](), list[Result](), dict[tuple[str, int], float]()
    for result in finalists:
        first = result.candidate.recipe.seed + 1
        missing = [seed for seed in range(first, first + seeds) if seed not in result.repeated]
        try:
            way = tuple(way_to(result, find)) if missing else ()
        except Gone:
            without.append(result)
            continue
        wanted += [Repetition(result, seed, way) for seed in missing]
        trainings |= {(step.key, seed): step.record["seconds"] for step in way for seed in missing}
    packaging = sum(_packaging_seconds(repetition) for repetition in wanted)
    return Agenda(tuple(wanted), tuple(without), len(trainings), math.fsum(trainings.values()) + packaging)


def way_to(result: Result, find: Callable[[str], Trained | None]) -> Sequence[Trained]:
    """The trainings whose weights a package's weights come from, the root first, its own last.

    Raises:
        Gone: one of them is no longer in the store.
    """
    assert isinstance(result.outcome, Scored)
    way = list[Trained]()
    key: str | None = result.outcome.provenance[TRAINING]
    while key is not None:
        step = find(key)
        if step is None:
            raise Gone(key)
        way.append(step)
        key = step.record.get("parent")
    return way[::-1]


def _packaging_seconds(repetition: Repetition) -> float:
    """What a trial took beside its training, at least nothing; a trial that found its training done took no more."""
    seconds: float = repetition.result.seconds
    own: float = repetition.way[-1].record["seconds"]
    return seconds - own if seconds > own else seconds


def repeat(laboratory: Laboratory, repetition: Repetition, witness: Witness) -> Reading:
    """Go the whole way with another seed and return the package's top-1 on the validation split.

    Raises:
        OutOfTime: as the witness says; what is trained stays, the last whole epoch included.
        Exception: whatever ends a trial, too.
    """
    parent: Trained | None = None
    teacher = None
    for step in repetition.way:
        recipe = step.recipe.model_copy(update={"seed": repetition.seed})
        teacher = laboratory.teacher(recipe, witness)
        parent = laboratory.trainer.train(step.network, recipe, witness.step, teacher, parent)
    assert parent is not None
    candidate = repetition.result.candidate
    tuning = Tuning(laboratory.trainer, witness.step, teacher)
    package = laboratory.packager.package(parent, candidate.compression, tuning)
    return laboratory.top1(package, candidate.network)


@final
class Finale:
    """Repeats the finalists of a search whose budget is spent, in the search's own process, one training after another."""

    def __init__(self, search: SearchSection, study: Study, laboratory: Laboratory, screen: Screen, log: Log) -> None:
        self.search, self.study, self.laboratory, self.screen, self.log = search, study, laboratory, screen, log

    def run(self, front: Sequence[Result]) -> None:
        """Announce what is to be done and how long it takes, do it, and keep each reading as soon as it is there."""
        if not self.search.finalists:
            return
        finalists = chosen(front, self.study.objectives, self.search.finalists)
        todo = agenda(finalists, self.search.seeds, self.laboratory.trainer.find)
        for result in todo.without:
            self.screen.say(f"Trial {result.trial} cannot be repeated: a training that it inherits from is gone.")
        if not todo.repetitions:
            return
        self._announce(todo)
        known = {result.trial: dict(result.repeated) for result in finalists}
        witness = _Witness(self.screen, time.monotonic() + todo.limit)
        try:
            for repetition in todo.repetitions:
                self._repeat(repetition, witness, known[repetition.result.trial])
        except OutOfTime:
            self.screen.say("The time of the finalists is over; the same command goes on with the others.")

    def _announce(self, todo: Agenda) -> None:
        trials = list(dict.fromkeys(repetition.result.trial for repetition in todo.repetitions))
        self.screen.say(
            f"Finalists: {many(len(todo.repetitions), 'repetition')} of {many(len(trials), 'package')} with other seeds, in "
            f"{many(todo.trainings, 'training')}, about {spell_duration(todo.seconds)}; "
            f"at most {spell_duration(todo.limit)}."
        )
        self.log.write("finalists", trials=trials, trainings=todo.trainings, expected=todo.seconds, limit=todo.limit)

    def _repeat(self, repetition: Repetition, witness: _Witness, known: dict[int, Reading]) -> None:
        """Repeat, keep and tell; what fails is told and tried again by the same command."""
        witness.check()
        trial, started = repetition.result.trial, time.monotonic()
        witness.note(f"trial {trial} again, seed {repetition.seed}")
        self.log.write("stage_begun", trial=trial, stage=STAGE)
        try:
            known[repetition.seed] = repeat(self.laboratory, repetition, witness)
        except (OutOfTime, DiskError):
            raise
        except Exception as error:
            require_disk(self.laboratory.store.root, error)
            self.screen.say(f"Trial {trial} with seed {repetition.seed} failed: {error or type(error).__name__}")
            return
        finally:
            self.log.write("stage_ended", trial=trial, stage=STAGE, seconds=time.monotonic() - started)
        self.study.note(fact_of(trial), {str(seed): reading.to_dict() for seed, reading in known.items()})
        self.log.write("repeated", trial=trial, seed=repetition.seed, top1=known[repetition.seed].value)
        self.screen.say(f"trial {trial} again, seed {repetition.seed}: {_standing(repetition, known)}")


def _standing(repetition: Repetition, known: dict[int, Reading]) -> str:
    """`top-1 94.1 %; mean of 3 seeds 94.6 % (93.2–96.0), its own 96.3 %`."""
    reached, mean = figure("accuracy", known[repetition.seed]), mean_top1(known)
    own = figure("accuracy", repetition.result.score["top1"])
    if mean is None:
        return f"top-1 {reached}, its own {own}"
    ends = interval("accuracy", mean)
    return f"top-1 {reached}; mean of {len(known)} seeds {figure('accuracy', mean)} ({ends}), its own {own}"


@final
class _Witness:
    """Shows a repetition, and ends it once its time is over."""

    def __init__(self, screen: Screen, deadline: float) -> None:
        self.screen, self.deadline = screen, deadline

    def check(self) -> None:
        """Raise OutOfTime after the deadline."""
        if time.monotonic() > self.deadline:
            raise OutOfTime

    def note(self, doing: str) -> None:
        self.screen.note(doing)

    def stage(self, name: str, seconds: float | None) -> None:
        """A repetition is one stage: see `Finale`."""

    def step(self, step: Step) -> None:
        self.screen.step(step.done, step.epochs, step.loss, step.top1, step.seconds_left)
        self.check()

    def packaged(self, known: Score) -> None:
        """Nothing is spared here."""
