"""One `search` from start to end: plan, ask, evaluate, tell, until the budget is spent; then the front and its test.

The session alone sees the study, the clock and the screen. Who evaluates is its crew (`crew.py`), what is asked besides
the sampler's draws stands in `proposals.py`.
"""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage

from coreml_pareto.objectives.reading import Score
from coreml_pareto.search.acquisition import Acquisition, Images
from coreml_pareto.search.budget import Paces
from coreml_pareto.search.choose import front
from coreml_pareto.search.config import Plan
from coreml_pareto.search.crew import Alone, Crew, Finished, Job, Verdict
from coreml_pareto.search.curves import GLANCE
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.events import Log, facts_of, read_events, volumes
from coreml_pareto.search.finalists import Finale
from coreml_pareto.search.gate import Gate
from coreml_pareto.search.lineage import parent_of
from coreml_pareto.search.measurements import kept_evidence, remeasured
from coreml_pareto.search.mending import Mender
from coreml_pareto.search.noise import shares
from coreml_pareto.search.origin import Origin
from coreml_pareto.search.outcome import COUNTED, Failed, Infeasible, OutOfTime, Scored, Stopped, kind
from coreml_pareto.search.preparation import prepare
from coreml_pareto.search.proposals import PATIENCE, Proposals
from coreml_pareto.search.prospects import foresee
from coreml_pareto.search.record import LOGS, STORE
from coreml_pareto.search.renewal import renew
from coreml_pareto.search.report.progress import State, time_left
from coreml_pareto.search.report.words import candidate_name
from coreml_pareto.search.rows import rows, write_csv
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.screen import Clock, Screen
from coreml_pareto.search.stages.train import Step
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.standing import Standing
from coreml_pareto.search.storage.agreement import begin
from coreml_pareto.search.storage.opening import closing_storage
from coreml_pareto.search.storage.peers import Elsewhere, Nobody, Others, Peers
from coreml_pareto.search.store import Shelf, Store, watching_the_disk
from coreml_pareto.search.study import Asked, Study
from coreml_pareto.search.tested import LOOKS, counted, fact_of, looked, looks
from coreml_pareto.search.told import MACHINE_STAGE
from coreml_pareto.search.trial import open_laboratory
from coreml_pareto.search.workers import share
from coreml_pareto.search.workers.laboratory import OPENER, Order
from coreml_pareto.search.workers.pool import Pool, Terms
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.space import Space


def search(plan: Plan, folder: Path, screen: Screen) -> Run:
    """Run (or go on with) a study in a run folder and return it, finished.

    Raises:
        UserError: bad data, a folder that holds another study, a store that cannot be used, a full disk, or a study none
            of whose first trials can be finished.
        NothingCanFit: no candidate can keep the limits, which is known before anything is trained.
        KeyboardInterrupt: Ctrl-C; everything finished is kept, the same command goes on.
    """
    with watching_the_disk(folder):
        clock, paces = Clock(), Paces()  # reading the pictures and planning are part of the time that was given
        plan, data, shared = prepare(plan, folder, screen, clock, paces)
        foresee(plan, folder, data, screen, clock, shared, paces)
        plan, storage = begin(plan, folder, screen.say)
        renewed = renew(plan, folder, data, screen, clock, shared) if storage is None else {}
        with closing_storage(storage):
            session = _Session(plan, folder, data, screen, clock, shared, storage)
            if renewed:
                session.log.write("terms", **renewed)
                session.volumes.clear()
            try:
                session.run()
                return session.finish()
            except BaseException as error:
                session.log.write("stopped", why="Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{error}")
                raise


@final
class _Session:
    """The loop and what it needs. It watches its crew: see `crew.Watcher`."""

    def __init__(
        self, plan: Plan, folder: Path, data: DataSet, screen: Screen, clock: Clock, shared: Shelf | None,
        storage: BaseStorage | None,
    ) -> None:  # fmt: skip
        self.plan, self.data, self.screen, self.folder, self.clock = plan, data, screen, folder, clock
        self.space: Space = plan.space(len(data.classes))
        self.candidates = self.space.count()
        self.study = Study(folder, plan, self.space, storage=storage)
        self.others: Others = Nobody(self.study) if storage is None else Peers(self.study)
        self.study.note("classes", list(data.classes))
        evidence = kept_evidence(folder, plan.target.resolve())
        self.origin = Origin.of(folder)
        parks = storage is not None
        self.store = Store(folder / STORE, shared, self._wait, screen.say, parks, self.origin.shelf)
        taken = self.origin.keys(self.space)
        self.laboratory = open_laboratory(plan, data, self.store, self._announce, evidence, taken)
        known = remeasured(self.study.run_of(self.others.known().values()))  # compared with what is read corrected, too
        self.seen = {result.candidate.digest: result for result in known.results}
        self.running: dict[int, Asked] = {}
        self.at_work: Mapping[int, Asked | Elsewhere] = ChainMap[int, Any](self.running, self.others.elsewhere)
        self.unfinished: list[Asked] = []
        self.aside: list[Asked] = []  # asked once more while the same candidate is at work
        self.gate = Gate(plan, self.space, self.laboratory, min(GLANCE, len(data.validation)))
        looked_at = min(len(data.train), plan.training.images or len(data.train))
        images = Images(looked_at, len(data.validation))
        chooser = Acquisition(plan, self.space, self.laboratory, images)
        self.proposals = Proposals(
            plan, self.space, self.study, self.laboratory, self.gate, chooser, self.seen, self.at_work, self.origin
        )
        self.mender = Mender(self.store, self.laboratory, self, screen, self.seen)
        self.crew = self._crew()
        self.out_of_time = False
        self._begin()

    def _begin(self) -> None:
        """Go on with the run's clock, its log and its standing."""
        facts, spent = self.study.facts(), self.clock.seconds
        self.clock.before = float(facts.get("seconds", 0.0))
        self.volumes = volumes(read_events(self.folder))
        self.log = Log(self.folder, lambda: self.clock.seconds)
        self.standing = Standing(self.study.run(), facts.get("first"))
        budget = {"trials": self.plan.search.trials, "timeout": self.plan.search.seconds}
        self.log.write("started", **budget, results=len(self.seen), counted=self._counted(), seconds=spent)
        space = {"candidates": self.candidates, "backbones": list(self.space.backbones)}
        self.log.write("planned", **space, resolution=list(self.space.resolution), epochs=list(self.space.lengths))
        self.screen.standing(self._state())

    def run(self) -> None:
        """Ask, evaluate and tell until trials or time are spent, or the space is."""
        recovered = self.others.recover()
        if self.seen or recovered:
            again = f", asking {recovered} unfinished again" if recovered else ""
            self.screen.say(f"Going on after {len(self.seen)} trials{again}.")
        if seen := looks(self.study.facts()):
            self.screen.say(
                f"Test was already read {counted(len(seen))}: the search never sees it, whoever goes on may have. "
                "Only pictures that nobody has looked at give an untouched test."
            )
        self._reconsider()
        self.proposals.missing()
        try:
            while True:
                self._hear()
                while self.crew.room and not self._spent() and self._something_new():
                    self._assign()
                    self._hear()
                if self.running:
                    self._finished(self.crew.wait())
                elif self.others.elsewhere and not self._over():
                    self.screen.note("waiting for what other machines have at work")
                    self.others.wait()
                else:
                    break
        finally:
            self.crew.close()
            self.others.close([*self.unfinished, *self.running.values(), *self.aside])
            self.study.note("seconds", self.clock.seconds)
        if self.out_of_time:
            limit = self.plan.search.timeout
            self.screen.say(f"The time of {limit} is over; the training in progress is kept for a longer one.")

    def _crew(self) -> Crew:
        """Return who evaluates: the search itself, or as many workers as the plan names."""
        workers = self.plan.search.workers
        if workers is None:
            return Alone(self.laboratory, self, lambda: self.clock.seconds)
        if workers > share.cores():
            self.screen.say(
                f"{workers} workers share {share.cores()} cores: each has one thread, and waits for others."
            )
        order = Order(self.plan, self.folder, self.data.digest)
        gpus = share.gpus(self.plan.training.device)
        terms = Terms(OPENER, order, workers, self.plan.search.patience_seconds, self.folder / LOGS, gpus)
        return Pool(terms, self, self._announce, self._late, lambda: self.clock.seconds)

    def finish(self) -> Run:
        """Repeat the finalists, read the test split for the packages of the front, write front.csv, return the run."""
        chosen = front(self.study.run())
        for result in chosen:
            self.mender.package(result)
        Finale(self.plan.search, self.study, self.laboratory, self.screen, self.log).run(chosen)
        started = time.monotonic()
        self._test(chosen)
        run = self.study.run()
        write_csv(rows(front(run), run, shares(run)), self.folder / "front.csv")
        self.log.write("finished", seconds=time.monotonic() - started, counted=self._counted())
        return run

    def _test(self, chosen: Sequence[Result]) -> None:
        """Read the test split for packages that it was not read for, and keep that it was read."""
        unread = [(result.trial, result.outcome, result.candidate) for result in chosen if result.test_top1 is None]
        if unread:
            self.study.note(LOOKS, looked(self.study.facts(), len(self.study.results())))
        for trial, outcome, candidate in unread:
            if isinstance(outcome, Scored):
                self.screen.note(f"test accuracy of trial {trial}")
                self.study.note(fact_of(trial), self.laboratory.test_top1(outcome.package, candidate).to_dict())

    def note(self, job: Job, doing: str) -> None:
        """Show what is being done now."""
        self.screen.note(doing, self._line(job))

    def stage(self, job: Job, name: str, seconds: float | None) -> None:
        """Keep in the log when a stage begins and ends."""
        if seconds is None:
            self.log.write("stage_begun", trial=job.number, stage=name)
        else:
            self.log.write("stage_ended", trial=job.number, stage=name, seconds=seconds)

    def step(self, job: Job, step: Step) -> Verdict:
        """Show where a training stands; end it where the time is over and something can be shown for it."""
        self.screen.step(step.done, step.epochs, step.loss, step.top1, step.seconds_left, self._line(job))
        if float(step.done).is_integer():
            facts = {"epoch": int(step.done), "epochs": step.epochs, "loss": step.loss, "top1": step.top1}
            self.log.write("epoch", trial=job.number, stage=step.stage, **facts)
        if self._late():
            return OutOfTime()
        if self.mender.busy or step.stage != "training" or step.done != len(step.curve):
            return None
        pruned = self.gate.look(job.candidate, job.parent, step.curve, self.seen.values())
        return Stopped(pruned) if pruned else None

    def _wait(self) -> None:
        """Show that another process makes what is needed, and wait no longer than the time allows."""
        self.screen.note("waiting for another process that makes the same")
        if self._late():
            raise OutOfTime

    def _line(self, job: Job) -> int | None:
        """Whose line of the screen a job has: its own where several may be at work."""
        return None if self.plan.search.workers is None else job.number

    def _late(self) -> bool:
        """Whether the time is over and something can be shown for it."""
        limit = self.plan.search.seconds
        return limit is not None and self.clock.seconds > limit and self._scored()

    def packaged(self, job: Job, known: Score) -> Verdict:
        """Spare the measurement of a package that cannot enter the front."""
        pruned = None if self.mender.busy else self.gate.package(job.candidate, known, self.seen.values())
        return Stopped(pruned) if pruned else None

    def _assign(self) -> None:
        """Ask for a candidate and hand it to the crew; one that was evaluated before is told at once.

        One that is at work already is put aside until it is known how that ends.
        """
        mine = [asked.candidate for asked in self.running.values()]
        if asked := self.others.left_alone(self.aside, mine, self.seen):
            self.aside.remove(asked)
            self._begin_job(asked)
            return
        started = time.monotonic()
        self.proposals.next()
        asked = self.study.ask(self.proposals.rung)
        taken = self.others.taken(asked, mine)
        name = candidate_name(asked.candidate)
        facts = {"candidate": asked.candidate.digest, "name": name, "teacher": asked.candidate.recipe.teacher}
        self.log.write("asked", trial=asked.number, **facts, seconds=time.monotonic() - started)
        earlier = self.seen.get(asked.candidate.digest)
        if earlier is not None and not self.proposals.revived(earlier):
            self._repeat(asked, earlier)
            self.proposals.fresh()
            return
        if taken:
            self.aside.append(asked)
            return
        self._begin_job(asked)

    def _begin_job(self, asked: Asked) -> None:
        """Hand a candidate to the crew; one that others took for dead before it began is theirs."""
        self._hear()  # choosing takes seconds: of a training that ended meanwhile this may be a further package
        known = (*self.seen.values(), *self.origin.results)
        parent = parent_of(asked.candidate, known) if self.plan.training.inherit else None
        try:
            parent = self.others.heritage(asked, parent)
            self.mender.training(parent)
            self.study.inherits(asked, parent)
        except UpdateFinishedTrialError:
            self._drop(asked)
            return
        self.running[asked.number] = asked
        self.crew.assign(Job(asked.number, asked.candidate, parent))

    def _finished(self, finished: Finished) -> None:
        """Tell an outcome, show it, and put in line what it suggests."""
        job, outcome, seconds = finished.job, finished.outcome, finished.seconds
        asked = self.running.pop(job.number)
        self.screen.ended(job.number)
        if outcome is None:
            self.out_of_time = True
            self.unfinished.append(asked)
            return
        started = time.monotonic()
        number = self.study.tell(asked, outcome, seconds)
        self.others.told(asked, number)
        self.study.note("seconds", self.clock.seconds)
        result = Result(number, job.candidate, outcome, seconds=seconds, parent=job.parent)
        self.seen[asked.candidate.digest] = result
        facts = facts_of(outcome) | {"trial_seconds": seconds, "seconds": time.monotonic() - started}
        self.log.write("told", trial=asked.number, outcome=kind(outcome), **facts)
        self._tell_aside(result)
        self.screen.result(result, self.laboratory.over(result.score), self._count())
        self._stand(result)
        self._check_start()
        self.proposals.after(result)

    def _drop(self, asked: Asked) -> None:
        """Leave a trial to the others, who took it for dead and ask its candidate again where that is not told."""
        lost = Failed(MACHINE_STAGE, "this machine was taken for dead before the trial began")
        self.log.write("told", trial=asked.number, outcome=kind(lost), **facts_of(lost))

    def _hear(self) -> None:
        """Learn what ended on other machines, and which of the trials put aside they took for dead."""
        for asked in self.others.gone(self.aside):
            self.aside.remove(asked)
            self._drop(asked)
        for result in self.others.hear(self.seen):
            self.log.write("heard", trial=result.trial, outcome=kind(result.outcome), **facts_of(result.outcome))
            if self.others.again(result) and isinstance(result.outcome, Failed):
                self.screen.say(f"Trial {result.trial} was lost and is asked again: {result.outcome.cause}.")
            else:
                self.seen[result.candidate.digest] = result
                self._tell_aside(result)
            self._stand(result)

    def _reconsider(self) -> None:
        """Ask again for what was refused before its training, and keeps the limits by what was measured since."""
        if self.laboratory.evidence is None:
            return
        refused = [result for result in self.seen.values() if isinstance(result.outcome, Infeasible)]
        again = [r.candidate for r in refused if not self.laboratory.over(self.laboratory.probe(r.candidate))]
        waiting = {candidate.digest for candidate in self.study.waiting()}
        for candidate in again:
            del self.seen[candidate.digest]
            if candidate.digest not in waiting:
                self.study.enqueue(candidate)
        if again:
            self.screen.say(
                f"Asking again for {len(again)} that were refused and keep the limits by imported measurements."
            )

    def _tell_aside(self, result: Result) -> None:
        """Tell the repetitions that waited for a result."""
        for asked in [asked for asked in self.aside if asked.candidate == result.candidate]:
            self.aside.remove(asked)
            self._repeat(asked, result)

    def _repeat(self, asked: Asked, of: Result) -> None:
        """Tell a candidate that was evaluated before."""
        started = time.monotonic()
        self.study.repeat(asked, of)
        self.others.told(asked, asked.number)
        told = {"outcome": kind(of.outcome), "repeats": of.trial}
        self.log.write("told", trial=asked.number, **told, seconds=time.monotonic() - started)

    def _something_new(self) -> bool:
        """Where asking only repeats what is at work, put another candidate in line; False if there is none."""
        if len(self.aside) < PATIENCE or self.study.waiting():
            return True
        return self.proposals.near(self.aside[-1].candidate)

    def _stand(self, result: Result) -> None:
        """Show how far the run is by this result, and log a front that has changed."""
        boxed, changed = self.standing.volume is not None, self.standing.add(result)
        if self.standing.volume and not boxed:
            self.study.note("first", dict(self.standing.volume.first))
        if changed:
            volume, trials = self.standing.hypervolume, [kept.trial for kept in self.standing.front]
            self.volumes.append((self.clock.seconds, volume))
            self.log.write("front", trials=trials, hypervolume=volume)
        self.screen.standing(self._state())

    def _state(self) -> State:
        now, counted, search = self.clock.seconds, self._counted(), self.plan.search
        left = time_left(now, counted, search.trials, search.seconds)
        standing = self.standing
        volumes, trainings = tuple(self.volumes), standing.trainings
        return State(standing.counts, counted, search.trials, now, left, standing.front, volumes, trainings)

    def _spent(self) -> bool:
        if self.out_of_time:
            return True
        trials = self.plan.search.trials
        if trials is not None and self._counted() + len(self.at_work) >= trials:
            return True
        if self._over():
            return True
        at_work = {asked.candidate.digest for asked in self.at_work.values()}  # some of it was stopped before
        if len(self.seen.keys() | at_work) >= self.candidates and self.proposals.revival() is None:
            if not self.at_work:
                self.screen.say("Every candidate of the space was evaluated.")
            return True
        return False

    def _over(self) -> bool:
        """Whether the time is over."""
        seconds = self.plan.search.seconds
        return self.out_of_time or (seconds is not None and self.clock.seconds >= seconds)

    def _check_start(self) -> None:
        """Stop a study whose first trials all fail: the cause is not in the candidates."""
        first = sorted(self.seen.values(), key=lambda result: result.trial)[:PATIENCE]
        causes = [r.outcome for r in first if isinstance(r.outcome, Failed)]
        if len(self.seen) == len(causes) == PATIENCE:
            told = "; ".join(dict.fromkeys(f"{failed.stage}: {failed.cause}" for failed in causes))
            raise UserError(f"The first {PATIENCE} trials all failed, so the search stops: {told}")

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
        return sum(1 for result in self.seen.values() if kind(result.outcome) in COUNTED)

    def _count(self) -> str:
        """Return how far the budget is spent: trials that count, and time."""
        trials = self.plan.search.trials
        parts = [f"{self._counted()}/{trials}"] if trials else []
        if self.plan.search.timeout:
            parts.append(f"after {spell_duration(self.clock.seconds)}")
        return ", ".join(parts)
