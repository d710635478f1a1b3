"""One `search` from start to end: plan, ask, evaluate, tell, until the budget is spent; then the front and its test.

The first trials are one plain network of each family (fp16, no teacher), cheapest first: a first package is there
early, and every later one can be compared with a baseline. After a network was trained, further compressions of it
are asked next, for they cost no training.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import random
import sys
from pathlib import Path
from typing import final

from coreml_pareto.search import budget
from coreml_pareto.search.choose import front
from coreml_pareto.search.config import Plan, dump_plan, load_plan
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.outcome import Failed, OutOfTime, Scored
from coreml_pareto.search.rows import row, write_csv
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.screen import Clock, Screen
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.train import GLANCE, Step, Trained, Trainer, check_device, open_checkpoint
from coreml_pareto.search.store import Store, installed_version, tool_versions, write_atomically
from coreml_pareto.search.study import PLAN, REQUEST, STORE, Study
from coreml_pareto.search.teaching import teacher_network, teacher_networks, teacher_recipe
from coreml_pareto.search.trial import Laboratory
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe, digest_of
from coreml_pareto.spaces.compression import CALIBRATION_IMAGES, spell
from coreml_pareto.spaces.distillation import NONE, is_checkpoint
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.space import Space, Value, choose_from
from coreml_pareto.spaces.weights import POLICIES, check_policy

PATIENCE = 3
"""Trials that may fail in a row at the start, or repeat each other, before the search looks elsewhere."""


def search(plan: Plan, folder: Path, screen: Screen) -> Run:
    """Run (or go on with) a study in a run folder and return it, finished.

    Raises:
        UserError: bad data, a folder that holds another study, or a study none of whose first trials can be finished.
        KeyboardInterrupt: Ctrl-C; everything finished is kept, the same command goes on.
    """
    check_device(plan.training.device)
    clock = Clock()  # reading the pictures and planning are part of the time that was given
    data = _load(plan, screen)
    _check(plan, data.classes)
    _check_calibration(plan, min(len(data.train), plan.training.images or len(data.train)))
    plan = _resolved(plan, folder, data, screen, clock)
    data = _limited(data, plan)
    session = _Session(plan, folder, data, screen, clock)
    session.run()
    return session.finish()


@final
class _Session:
    """The loop and what it needs."""

    def __init__(self, plan: Plan, folder: Path, data: DataSet, screen: Screen, clock: Clock) -> None:
        self.plan, self.data, self.screen, self.folder, self.clock = plan, data, screen, folder, clock
        self.space: Space = plan.space(len(data.classes))
        self.study = Study(folder, plan, self.space)
        self.study.note("classes", list(data.classes))
        store = Store(folder / STORE)
        self.laboratory = Laboratory(
            store=store,
            data=data,
            trainer=Trainer(store, data, plan.networks.pretrained, plan.training.device),
            packager=Packager(store, data, plan.splits.model_dump()),
            target=plan.target.resolve(),
            limits=plan.bounds,
            strict=plan.strict,
            teach=self._teacher,
            announce=self._announce,
        )
        self.seen = {result.candidate.digest: result for result in self.study.results()}
        clock.before = float(self.study.facts().get("seconds", 0.0))

    def run(self) -> None:
        """Ask, evaluate and tell until trials or time are spent, or the space is."""
        recovered = self.study.recover()
        if self.seen or recovered:
            again = f", asking {recovered} unfinished again" if recovered else ""
            self.screen.say(f"Going on after {len(self.seen)} trials{again}.")
        self._enqueue_missing()
        try:
            while not self._spent():
                self._step()
        except OutOfTime:
            limit = self.plan.search.timeout
            self.screen.say(f"The time of {limit} is over; the training in progress is kept for a longer one.")
        finally:
            self.study.note("seconds", self.clock.seconds)

    def finish(self) -> Run:
        """Read the test split for the packages of the front, write front.csv, return the run."""
        run = self.study.run()
        chosen = front(run)
        tests = self.study.facts().get("test_top1", {})
        for result in chosen:
            if str(result.trial) not in tests and isinstance(result.outcome, Scored):
                self.screen.note(f"test accuracy of trial {result.trial}")
                reading = self.laboratory.test_top1(result.outcome.package, result.candidate)
                tests[str(result.trial)] = reading.to_dict()
        self.study.note("test_top1", tests)
        run = self.study.run()
        write_csv([row(result, run) for result in front(run)], self.folder / "front.csv")
        return run

    def _step(self) -> None:
        asked = self.study.ask()
        earlier = self.seen.get(asked.candidate.digest)
        if earlier is not None:
            self.study.repeat(asked, earlier)
            self._enqueue_fresh()
            return
        started = self.clock.seconds
        outcome = self.laboratory.evaluate(asked.candidate, self._progress, self.screen.note)
        seconds = self.clock.seconds - started
        self.study.tell(asked, outcome, seconds)
        self.study.note("seconds", self.clock.seconds)
        result = Result(asked.number, asked.candidate, outcome, seconds=seconds)
        self.seen[asked.candidate.digest] = result
        self.screen.result(result, self.laboratory.over(result.score), self._count())
        self._check_start()
        for further in self._further(result):
            self.study.enqueue(further)

    def _enqueue_missing(self) -> None:
        """Put in line what does not stand there yet: baselines at the start, later what a kill kept out."""
        waiting = {candidate.digest for candidate in self.study.waiting()}
        last = max(self.seen.values(), key=lambda result: result.trial, default=None)
        for candidate in self._further(last) if last else self._baselines():
            if candidate.digest not in waiting:
                self.study.enqueue(candidate)
        if not self.study.waiting():
            self._enqueue_fresh()

    def _enqueue_fresh(self) -> None:
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

    def _progress(self, step: Step) -> None:
        self.screen.step(step.done, step.epochs, step.loss, step.top1, step.seconds_left)
        limit = self.plan.search.seconds
        if limit is not None and self.clock.seconds > limit and self._scored():
            raise OutOfTime

    def _spent(self) -> bool:
        trials, seconds = self.plan.search.trials, self.plan.search.seconds
        if trials is not None and self._counted() >= trials:
            return True
        if seconds is not None and self.clock.seconds >= seconds:
            return True
        if len(self.seen) >= self.space.count():
            self.screen.say("Every candidate of the space was evaluated.")
            return True
        return False

    def _check_start(self) -> None:
        """Stop a study whose first trials all fail: the cause is not in the candidates."""
        first = sorted(self.seen.values(), key=lambda result: result.trial)[:PATIENCE]
        causes = [r.outcome for r in first if isinstance(r.outcome, Failed)]
        if len(self.seen) == len(causes) == PATIENCE:
            told = "; ".join(dict.fromkeys(f"{failed.stage}: {failed.cause}" for failed in causes))
            raise UserError(f"The first {PATIENCE} trials all failed, so the search stops: {told}")

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

    def _teacher(self, name: str) -> tuple[Network, Recipe]:
        classes = len(self.data.classes)
        return teacher_network(self.plan, name, classes), teacher_recipe(self.plan, name, classes)

    def _announce(self, teacher: Trained) -> None:
        """Say once how good a teacher is on the pictures of this study, and keep it with the study."""
        known: dict[str, object] = self.study.facts().get("teachers", {})
        if teacher.key in known:
            return
        top1, images = self.laboratory.trainer.top1(teacher), min(GLANCE, len(self.data.validation))
        self.study.note(
            "teachers", known | {teacher.key: {"network": teacher.network.label, "top1": top1, "images": images}}
        )
        self.screen.say(
            f"teacher {teacher.network.label}: top-1 {top1:.1%} (torch network, {images} validation images)"
        )

    def _scored(self) -> bool:
        return any(isinstance(result.outcome, Scored) for result in self.seen.values())

    def _counted(self) -> int:
        return sum(1 for result in self.seen.values() if not isinstance(result.outcome, Failed))

    def _count(self) -> str:
        """Return how far the budget is spent: trials that count, and time."""
        trials = self.plan.search.trials
        parts = [f"{self._counted()}/{trials}"] if trials else []
        if self.plan.search.timeout:
            parts.append(f"after {spell_duration(self.clock.seconds)}")
        return ", ".join(parts)


def _same_training(a: Candidate, b: Candidate) -> bool:
    return a.network == b.network and a.recipe == b.recipe


def _load(plan: Plan, screen: Screen) -> DataSet:
    if plan.data is None:
        raise UserError("A search needs pictures: give --data DIR (one folder per class) or --data digits.")
    screen.note(f"reading {plan.data}")
    splits = plan.splits
    data = load_data(
        plan.data, seed=splits.seed, validation_share=splits.validation, test_share=splits.test,
        max_broken_share=splits.max_broken, limit=splits.limit,
    )  # fmt: skip
    screen.say(f"{data.name}: {len(data.classes)} classes")
    for line in data.report.lines():
        screen.say(f"  {line}")
    return data


def _check(plan: Plan, classes: tuple[str, ...]) -> None:
    """Refuse, before the run folder exists, what some trial could not be made with: teachers and initial weights."""
    for teacher in filter(is_checkpoint, plan.distillation.teachers):
        open_checkpoint(Path(teacher), classes)
    teachers = tuple(teacher_networks(plan, len(classes)))
    check_policy(plan.space(len(classes)).networks(), plan.networks.pretrained)
    if plan.networks.pretrained in POLICIES:  # a checkpoint is the students'
        check_policy(teachers, plan.networks.pretrained)


def _resolved(plan: Plan, folder: Path, data: DataSet, screen: Screen, clock: Clock) -> Plan:
    """Return the plan with nothing left open: the stored one when the run goes on, a new one otherwise."""
    request = folder / REQUEST
    asked = plan.model_dump(mode="json")
    if request.is_file() and (folder / PLAN).is_file():
        _check_same(json.loads(request.read_text()), asked, data, folder)
        stored = load_plan(str(folder / PLAN))
        return stored.model_copy(update={"search": plan.search})
    resolved = budget.resolve(plan, data, screen.say, lambda: clock.seconds)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PLAN, dump_plan(resolved))
    write_atomically(folder / "environment.json", json.dumps(_environment(data), indent=1))
    write_atomically(request, json.dumps({**asked, "data_digest": data.digest}, indent=1))
    return resolved


def _check_same(stored: dict[str, object], asked: dict[str, object], data: DataSet, folder: Path) -> None:
    """Refuse to mix two studies in one folder; the budget may change."""
    if stored.get("data_digest") != data.digest:
        raise UserError(
            f"{folder} holds a run on other pictures than {data.name} has now; choose another --run folder."
        )
    compared = [key for key in asked if key != "data"]  # one folder has many names; the digest knows it
    changed = [key for key in compared if _without_budget(stored.get(key)) != _without_budget(asked[key])]
    if changed:
        raise UserError(
            f"{folder} holds a run that differs in {', '.join(changed)}; choose another --run folder, or ask the same."
        )


def _without_budget(section: object) -> object:
    if not isinstance(section, dict):
        return section
    return {key: value for key, value in section.items() if key not in ("trials", "timeout")}


def _check_calibration(plan: Plan, images: int) -> None:
    """Refuse a number of calibration images that was asked for and is not there; the usual one takes what there is."""
    most = max(plan.calibration.images)
    if "w8a8" in plan.compression and images < most != CALIBRATION_IMAGES:
        raise UserError(
            f"calibration.images are training images, of which there are {images}; got {most}: write at most {images}."
        )


def _limited(data: DataSet, plan: Plan) -> DataSet:
    """Return the data with as many training images as the plan allows, drawn per class."""
    count = plan.training.images
    if count is None or count >= len(data.train):
        return data
    train = data.train.subset(data.train.sample(count, seed=plan.splits.seed))
    return dataclasses.replace(data, train=train, digest=f"{data.digest}-{count}")


def _environment(data: DataSet) -> dict[str, object]:
    packages = ("optuna", "scikit-learn")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "data": {"name": data.name, "digest": data.digest},
        "packages": tool_versions() | {name: installed_version(name) for name in packages},
    }
