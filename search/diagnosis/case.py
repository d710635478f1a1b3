"""What is at hand of a run for a diagnosis?  Its results, its trainings' records, its plan, and what was measured for it.

Nothing is run here. Trainings are read from the run's store, as far as they are there: each has its network, recipe and
the top-1 of the torch network at a glance at the validation images.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.accuracy import right_of
from coreml_pareto.objectives.unpaired import Count
from coreml_pareto.search.choose import front, packages
from coreml_pareto.search.config import Plan
from coreml_pareto.search.curves import GLANCE
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.record import PLAN, STORE, stored_plan
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.teaching import teacher_network, teacher_recipe
from coreml_pareto.spaces.candidate import Network, Recipe
from coreml_pareto.spaces.compression import UNCOMPRESSED
from coreml_pareto.spaces.distillation import is_checkpoint


@final
@dataclass(frozen=True)
class Past:
    """A finished training: its key, network, recipe, top-1 after each epoch, digest of its data, whose weights it began with."""

    key: str
    network: Network
    recipe: Recipe
    curve: tuple[float, ...]
    data: str
    parent: str | None

    @classmethod
    def of(cls, key: str, path: Path) -> Past:
        """Read a `record.json`."""
        plain = json.loads(path.read_text("utf-8"))
        curve = tuple(float(row["top1"]) for row in plain["history"])
        network, recipe = Network.model_validate(plain["network"]), Recipe.model_validate(plain["recipe"])
        return cls(key, network, recipe, curve, str(plain["data"]), plain.get("parent"))


@final
@dataclass(frozen=True)
class Softness:
    """A teacher's answers at the temperature of a recipe, over n training images: means with their 95 % intervals.

    `entropy`: of the softened distribution over that of a uniform one, 0 to 1; `beside`: probability beside the first class.
    """

    entropy: tuple[float, float, float]
    beside: tuple[float, float, float]
    images: int


@final
@dataclass(frozen=True)
class Measured:
    """What was run for a diagnosis.

    Attributes:
        fits: right answers of a training's torch network on its own training images, as they are, by key.
        softness: of the teacher of a training, by the student's key.
        layers: what one layer alone costs under a trial's compression, the worst first, by trial; in words.
        training_images: how many there are.
    """

    fits: Mapping[str, Count] = field(default_factory=dict)
    softness: Mapping[str, Softness] = field(default_factory=dict)
    layers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    training_images: int | None = None


@final
@dataclass(frozen=True)
class Case:
    """A run under examination; `only`: what is found of one trial alone counts."""

    run: Run
    measured: Measured = field(default_factory=Measured)
    only: int | None = None

    @cached_property
    def plan(self) -> Plan | None:
        """The run's study; None where it is not there (a record without a folder)."""
        path = self.run.folder / PLAN
        return stored_plan(path) if path.is_file() else None

    @cached_property
    def pasts(self) -> Mapping[str, Past]:
        """Finished trainings of the run's store by key."""
        paths = sorted((self.run.folder / STORE / "train").glob("*/record.json"))
        return {path.parent.name: Past.of(path.parent.name, path) for path in paths}

    @cached_property
    def packages(self) -> tuple[Result, ...]:
        """Each package once, by trial."""
        return packages(self.run)

    @cached_property
    def front(self) -> tuple[Result, ...]:
        """The packages that nothing beats, or the one asked for; all of them where none keeps the limits."""
        if self.only is not None:
            return tuple(result for result in self.run.scored() if result.trial == self.only)
        return front(self.run) or self.packages

    @cached_property
    def by_training(self) -> tuple[tuple[Result, ...], ...]:
        """The packages of each training together."""
        groups: dict[tuple[Network, Recipe], list[Result]] = {}
        for result in self.packages:
            groups.setdefault((result.candidate.network, result.candidate.recipe), []).append(result)
        return tuple(map(tuple, groups.values()))

    def asked(self, result: Result) -> bool:
        """Whether a package is under examination: all are, or the one asked for."""
        return self.only in (None, result.trial)

    @cached_property
    def trainings(self) -> tuple[tuple[Result, ...], ...]:
        """`by_training` as far as it is under examination."""
        return tuple(group for group in self.by_training if any(map(self.asked, group)))

    def siblings(self, results: Iterable[Result]) -> tuple[int, ...]:
        """All trials of the trainings of these packages, the packages themselves first."""
        told = tuple(results)
        alike = {(one.candidate.network, one.candidate.recipe) for one in told}
        others = (one for one in self.packages if (one.candidate.network, one.candidate.recipe) in alike)
        return tuple(dict.fromkeys(one.trial for one in (*told, *others)))

    def past_of(self, result: Result) -> Past | None:
        """The training behind a package; None where its record is gone."""
        key = result.outcome.provenance.get(TRAINING) if isinstance(result.outcome, Scored) else None
        return None if key is None else self.pasts.get(key)

    def teacher_of(self, result: Result) -> Past | None:
        """The training of a student's teacher, as its study names it; None where its record is gone."""
        name = result.candidate.recipe.teacher
        return None if name is None else self.teachers.get(name)

    @staticmethod
    def same_pictures(first: Past, second: Past) -> bool:
        """Whether two trainings were judged on the same validation images: a checkpoint may be of other pictures or splits.

        What follows the dash of a digest is which training images were used of them.
        """
        return first.data.partition("-")[0] == second.data.partition("-")[0]

    @cached_property
    def teachers(self) -> Mapping[str, Past]:
        """The trainings of the run's teachers by name, as far as their records are there."""
        names = dict.fromkeys(one.candidate.recipe.teacher for one in self.packages)
        found = {name: self._teacher(name) for name in names if name is not None}
        return {name: past for name, past in found.items() if past is not None}

    def _teacher(self, name: str) -> Past | None:
        if is_checkpoint(name):
            path = Path(name).expanduser() / "record.json"
            return Past.of(path.parent.name, path) if path.is_file() else None
        classes = len(self.run.classes)
        if self.plan is None or not classes:
            return None
        wanted = teacher_network(self.plan, name, classes), teacher_recipe(self.plan, name, classes)
        alike = (past for past in self.pasts.values() if (past.network, past.recipe) == wanted)
        return next((past for past in alike if past.parent is None), None)  # a student of its form may have inherited

    def glance(self, top1: float) -> Count | None:
        """A training's top-1 at a glance as right answers of images; None where no package tells how many those are."""
        told = (right_of_result(result) for result in self.packages)
        right = next((one for one in told if one is not None), None)
        if right is None:
            return None
        images = min(GLANCE, len(right))
        return Count(round(top1 * images), images)

    def search(self, called: str, *settings: str) -> str:
        """The command that searches this study again with other settings, beginning with its trained networks.

        `called` names the new run's folder beside this one, and its study where machines share a storage: in that the
        name of this one is taken.
        """
        run, plan = self.run.folder, self.plan
        if plan is not None and plan.storage is not None:
            settings = (*settings, f"name={plan.name}-{called}")
        parts = ["coreml-pareto", "search", str(run / PLAN), "--from", str(run), "--run", f"{run}-{called}"]
        for setting in settings:
            parts += ["--set", setting]
        return shlex.join(parts)


def right_of_result(result: Result) -> NDArray[np.bool_] | None:
    """Which validation images a package got right; None where the record does not tell."""
    return right_of(result.score["top1"]) if "top1" in result.score else None


def uncompressed(group: tuple[Result, ...]) -> Result | None:
    """Of one training's packages the one whose weights are as they were trained, in fp16 where there is one."""
    plain = [result for result in group if result.candidate.compression.scheme in UNCOMPRESSED]
    return min(plain, key=lambda result: result.candidate.compression.scheme, default=None)  # fp16 before fp32
