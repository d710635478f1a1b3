"""From a Candidate to its Outcome: a straight line.

Probe what needs no training → train (the teacher first) → package → read the package. A candidate that breaks a
limit for certain ends before its first gradient step; one whose training fails ends with its cause.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, final

from coreml_pareto.objectives.accuracy import RIGHT, evaluate
from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.imported import Evidence, readings
from coreml_pareto.objectives.measuring.own import own_measurement
from coreml_pareto.objectives.program import Program, content_digest, costs, load
from coreml_pareto.objectives.reading import Reading, Score, score_from_dict, score_to_dict
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search.config import Plan
from coreml_pareto.search.data import DataSet, Split
from coreml_pareto.search.foresight import foresee, foretells
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Failed, Infeasible, Outcome, OutOfTime, Scored, Stopped
from coreml_pareto.search.run import broken
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.recover import Tuning
from coreml_pareto.search.stages.train import Progress, Step, Trainer, preprocessing_of
from coreml_pareto.search.stages.trained import Trained, open_checkpoint
from coreml_pareto.search.store import DiskError, Store, require_disk, stage_key
from coreml_pareto.search.teaching import teacher_network, teacher_recipe
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe
from coreml_pareto.spaces.compression import describe
from coreml_pareto.spaces.distillation import is_checkpoint
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.weights import POLICIES

log = logging.getLogger(__name__)

Teach = Callable[[str], tuple[Network, Recipe]]
"""Gives the network and recipe of a teacher by its name."""
Announce = Callable[[Trained], None]
Stages = Callable[[str, float | None], None]
"""Told that a stage of a trial begins (None), and its seconds when it has ended."""


@final
class _Stage:
    """Where a trial is: entering a stage ends the one before it."""

    def __init__(self, told: Stages) -> None:
        self.told, self.name, self._since = told, "", 0.0

    def enter(self, name: str) -> None:
        self.leave()
        self.name, self._since = name, time.monotonic()
        self.told(name, None)

    def leave(self) -> None:
        if self.name:
            self.told(self.name, time.monotonic() - self._since)


class Witness(Protocol):
    """Sees a candidate being evaluated; what a method raises (`Stopped`, `OutOfTime`) ends it there."""

    def note(self, doing: str) -> None:
        """What is being done now."""

    def stage(self, name: str, seconds: float | None) -> None:
        """A stage begins, or has ended after so many seconds."""

    def step(self, step: Step) -> None:
        """Where a training stands."""

    def packaged(self, known: Score) -> None:
        """The readings of a package whose accuracy is about to be measured."""


def open_laboratory(
    plan: Plan, data: DataSet, store: Store, announce: Announce, evidence: Evidence | None = None,
    taken: Mapping[tuple[Network, Recipe], str] | None = None,
) -> Laboratory:  # fmt: skip
    """Return the laboratory of a resolved plan; `evidence` is what was measured on the target's device.

    `taken`: the keys of trainings that were taken over from another run.
    """
    classes = len(data.classes)
    return Laboratory(
        store=store,
        data=data,
        trainer=Trainer(store, data, plan.networks.pretrained, plan.training.device),
        packager=Packager(store, data, plan.splits.model_dump()),
        target=plan.target.resolve(),
        limits=plan.bounds,
        strict=plan.strict,
        teach=lambda name: (teacher_network(plan, name, classes), teacher_recipe(plan, name, classes)),
        announce=announce,
        evidence=evidence,
        taken=taken or {},
    )


@final
@dataclass(frozen=True)
class Laboratory:
    """Everything that turns candidates into outcomes: data, trainer, packager, target and limits.

    `announce` is told of every teacher that a candidate learns from, trained now or found in the store. `evidence` is
    what was imported of the target's device: by it latencies are corrected, before training and after. `taken` are the
    keys of trainings of another run: these networks are not trained, whatever they began with there.
    """

    store: Store
    data: DataSet
    trainer: Trainer
    packager: Packager
    target: Target
    limits: Mapping[str, float]
    strict: bool
    teach: Teach
    announce: Announce
    evidence: Evidence | None = None
    taken: Mapping[tuple[Network, Recipe], str] = field(default_factory=dict)

    def evaluate(self, candidate: Candidate, witness: Witness, parent: str | None = None) -> Outcome:
        """Return how a candidate ends; only the end of time, of the disk, and an interrupt pass through.

        What is wrong with the study as a whole was refused before its first trial; a refusal here is this
        candidate's alone, or the first three trials all fail by it.

        Args:
            candidate: what to make and read.
            witness: told what goes on; may stop the candidate.
            parent: the key of the training whose weights are inherited; one that is gone from the store is done without.
        """
        stage = _Stage(witness.stage)
        try:
            return self._evaluate(candidate, witness, stage, parent)
        except (OutOfTime, DiskError):
            raise
        except Stopped as stopped:
            return stopped.pruned
        except UserError as refusal:
            return Failed(stage.name, str(refusal))
        except Exception as error:
            require_disk(self.store.root, error)
            log.debug("trial failed in %s", stage.name, exc_info=True)
            return Failed(stage.name, f"{type(error).__name__}: {error}".strip())
        finally:
            stage.leave()

    def _evaluate(self, candidate: Candidate, witness: Witness, stage: _Stage, parent: str | None) -> Outcome:
        """The straight line itself."""
        stage.enter("probe")
        known = self.probe(candidate)
        if over := self.over(known):
            return Infeasible(over, known)
        self.packager.require_possible(candidate.network, candidate.compression)
        taken = self._taken(candidate)
        teacher = None
        if taken is None or candidate.compression.fine_tune_epochs:
            stage.enter("teacher")
            teacher = self.teacher(candidate.recipe, witness)
        stage.enter("training")
        trained = taken or self._train(candidate, witness, teacher, parent)
        stage.enter("fine-tuning" if candidate.compression.fine_tune_epochs else "package")
        witness.note(f"{stage.name} {candidate.network.label}, {describe(candidate.compression)}")
        tuning = Tuning(self.trainer, _as_stage(witness.step, stage.name), teacher)
        package = self.packager.package(trained, candidate.compression, tuning)
        stage.enter("score")
        witness.note(f"scoring {candidate.network.label}, {describe(candidate.compression)}")
        return Scored(self.score(package, candidate, witness), package, self._provenance(trained))

    def _taken(self, candidate: Candidate) -> Trained | None:
        """Return the training that was taken over from another run; None where there is none, or it is gone."""
        key = self.taken.get((candidate.network, candidate.recipe))
        return None if key is None else self.trainer.find(key)

    def _train(self, candidate: Candidate, witness: Witness, teacher: Trained | None, parent: str | None) -> Trained:
        witness.note(f"training {candidate.network.label}, {candidate.recipe.label}")
        heritage = self.trainer.find(parent) if parent else None
        return self.trainer.train(candidate.network, candidate.recipe, witness.step, teacher, heritage)

    def over(self, score: Mapping[str, Reading]) -> tuple[str, ...]:
        """Return the objectives whose limit is broken by what is known."""
        return broken(score, self.limits, strict=self.strict)

    def probe(self, candidate: Candidate) -> Mapping[str, Reading]:
        """Return the readings that need no training, if a limit or the compression's own target asks for any of them.

        Estimates are foreseen from the network's one uncompressed package; where the device was measured, the written
        package counts. A package under the compression is written
        only for what has to be read from it, and for candidates that the estimates let pass: sizes, those of random
        weights (pruned ones have the same share of zeros, not the same zeros).
        """
        limited = {name for name in self.limits if not OBJECTIVES[name].needs_data}
        foretold = {name for name in limited if foretells(name, candidate.compression) and self.evidence is None}
        known: Mapping[str, Reading] = {}
        if foretold:
            plain = self.packager.probe(candidate.network, Compression())
            known = foresee(plain).readings(candidate.compression, self.target)
        if self.over(known) or (limited == foretold and not candidate.compression.target_bytes):
            return known
        return self._known(load(self.packager.probe(candidate.network, candidate.compression)))

    def potential(self, network: Network, compressions: Iterable[Compression]) -> Iterator[Score]:
        """Yield the readings, at best, of each package that a network can yield within the limits, its accuracy unknown.

        See `foreseen`, from which this is what is left of it.
        """
        yield from (known for known in self.foreseen(network, compressions) if not self.over(known))

    def foreseen(self, network: Network, compressions: Iterable[Compression]) -> Iterator[Score]:
        """Yield the readings, at best, of a network's package under each compression, its accuracy unknown.

        They follow from one conversion; where measurements of the device count, they are those of written packages.
        """
        for compression in compressions:
            if self.evidence is None:
                yield foresee(self.packager.probe(network, Compression())).at_best(compression, self.target)
            else:
                yield self._known(load(self.packager.probe(network, compression)))

    def teacher(self, recipe: Recipe, witness: Witness) -> Trained | None:
        """Return the trained teacher of a recipe; it is trained once and kept."""
        if recipe.teacher is None:
            return None
        if is_checkpoint(recipe.teacher):
            trained = open_checkpoint(Path(recipe.teacher), self.data.classes)
        else:
            network, own_recipe = self.teach(recipe.teacher)
            witness.note(f"teacher {network.label}, {own_recipe.label}")
            # A checkpoint given as initial weights is the students'; it would not fit the teacher.
            policy = self.trainer.pretrained if self.trainer.pretrained in POLICIES else "auto"
            progress = _as_stage(witness.step, "teacher")
            trained = replace(self.trainer, pretrained=policy).train(network, own_recipe, progress)
        self.announce(trained)
        return trained

    def score(self, package: Path, candidate: Candidate, witness: Witness) -> dict[str, Reading]:
        """Return all readings of a saved package, its accuracy on the validation split."""
        program = load(package)
        own = own_measurement(program, self.target)
        known = self._known(program) if own is None else static_score(program, self.target, own)
        witness.packaged(known)
        return known | self._accuracy(package, candidate.network, self.data.validation, "validation")

    def _known(self, program: Program) -> dict[str, Reading]:
        """The readings that need no data, latencies as imported measurements make them."""
        corrected = readings(content_digest(program), costs(program), self.evidence) if self.evidence else {}
        return static_score(program, self.target) | corrected

    def test_top1(self, package: Path, candidate: Candidate) -> Reading:
        """Return the package's accuracy on the test split: to be shown, never to be chosen by."""
        split = self.data.open_test("final front")
        return self._accuracy(package, candidate.network, split, "test")["top1"]

    def top1(self, package: Path, network: Network) -> Reading:
        """Return a package's accuracy on the validation split."""
        return self._accuracy(package, network, self.data.validation, "validation")["top1"]

    def _accuracy(self, package: Path, network: Network, split: Split, name: str) -> dict[str, Reading]:
        def make(work: Path) -> None:
            batches = split.batches(preprocessing_of(network), 128)
            result = evaluate(load(package), batches, split=name)
            (work / "score.json").write_text(json.dumps(score_to_dict(result.score)))

        key = stage_key(package=package.parent.name, split=split.digest, name=name, keeps=RIGHT)
        about = f"{network.label}, {name}"
        stored = self.store.produce("accuracy", key, make, about) / "score.json"
        return score_from_dict(json.loads(stored.read_text()))

    def _provenance(self, trained: Trained) -> dict[str, str]:
        record = trained.record
        parent = {"parent": record["parent"]} if record.get("parent") else {}
        return parent | {
            TRAINING: trained.key,
            "curve": " ".join(f"{epoch['top1']:.4f}" for epoch in record["history"]),
            "initial_weights": record["initial_weights"],
            "training_seconds": f"{record['seconds']:.1f}",
            "training_device": record["device"],
        }


def _as_stage(progress: Progress, stage: str) -> Progress:
    """Tell a training under another name than `training`, which alone the gate may stop."""
    return lambda step: progress(replace(step, stage=stage))
