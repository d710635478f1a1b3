"""The Optuna study: what to try next, and how each outcome is told.

| outcome      | Optuna state | values                                        | constraints                |
|--------------|--------------|-----------------------------------------------|----------------------------|
| `Scored`     | complete     | the readings                                  | > 0 for each broken limit  |
| `Infeasible` | complete     | those known, the worst infinity for the rest  | > 0 for each broken limit  |
| `Pruned`     | complete     | those known, the top-1 that it had reached    | > 0 for each broken limit  |
| `Failed`     | fail         | none                                          | none                       |

A limit whose reading is not known has the constraint 0, neither broken nor kept with room: the `gp` sampler wants the
same constraints of every trial, and to the others a 0 is as good as none.

The sampler is rebuilt before each ask from the study's seed and the number of trials asked, so a resumed search asks
what an uninterrupted one would (one trial at a time: of several at work at once, who ends first is chance). Each trial
keeps its candidate, outcome and readings as user attributes: the SQLite file is the record, and any Optuna tool can open
it. Heavy files lie in the store.

A trial is told by several commits, its state the last: until then it counts as unfinished, whatever it already holds,
and is asked again.

Where several machines share the study it lies in their storage, in the same form (`storage/`). A trial that was lost with
its machine has failed and says why in an attribute of its own; whoever was taken for dead and tells it after all tells it
under a new number.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, final

import optuna
import sqlalchemy.exc
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective, select
from coreml_pareto.objectives.reading import Reading, violation
from coreml_pareto.search.config import Plan
from coreml_pareto.search.measurements import remeasured
from coreml_pareto.search.outcome import Failed, Outcome
from coreml_pareto.search.record import DATABASE, PLAN, SECONDS, begun, damaged, no_run, stored_plan, studies_in
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.rungs import RungSampler
from coreml_pareto.search.samplers import SAMPLERS, unexcited
from coreml_pareto.search.seeds import repetitions
from coreml_pareto.search.storage.machine import FOUNDER, holder_in
from coreml_pareto.search.storage.opening import opened
from coreml_pareto.search.store.files import sync
from coreml_pareto.search.terms import study_after, terms_of, with_terms
from coreml_pareto.search.tested import Look, test_readings
from coreml_pareto.search.tested import looks as looks_of
from coreml_pareto.search.told import AGAIN, LOST, attributes_of, is_lost, once, outcome_in, result_of, value_of
from coreml_pareto.spaces.candidate import Candidate, digest_of
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.space import Knob, Space, choose_from

INTERRUPTED = "interrupted"
NOW = "now"
"""Where a run's first study names the one that counts, and its terms: see `terms.py`."""
REPEATS = "repeats"  # the trial whose candidate a trial asked once more
FIXED = "fixed_params"  # where Optuna keeps the parameters of a trial that stands in line
OWN = ("seconds",)
"""Facts of each machine's own."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


@final
@dataclass(frozen=True)
class Asked:
    """A trial that waits for its outcome."""

    trial: optuna.Trial
    candidate: Candidate

    @property
    def number(self) -> int:
        """The trial's number in the study."""
        return self.trial.number


@final
class Study:
    """One study in a run folder: ask, tell, remember."""

    def __init__(
        self, folder: Path, plan: Plan, space: Space, *, at_work: bool = False, storage: BaseStorage | None = None
    ) -> None:
        """Open the study, or make it where there is none; of a search `at_work` it is read, and no byte is written.

        Args:
            storage: where several machines keep it; it is there.
        """
        self.folder, self.plan, self.space = folder, plan, space
        self.machine = holder_in(folder).get("machine", "") if storage else ""
        if storage is not None:
            self._study = self._first = self._load(storage)
            return
        if at_work:
            self._first = self._load(_storage(folder / DATABASE, "?mode=ro&uri=true"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            if plan.name not in studies_in(folder / DATABASE):
                self._begin(folder / DATABASE)
            with unexcited():
                self._first = self._load(_storage(folder / DATABASE))
        self._study = self._first
        if (now := self._first.user_attrs.get(NOW)) is not None:
            self.plan = with_terms(plan, now["terms"])
            self._study = optuna.load_study(study_name=now["study"], storage=self._first._storage)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Those that are told to the sampler."""
        return select(self.plan.objectives)

    def _load(self, storage: BaseStorage) -> optuna.Study:
        """Open the study without a write: a run folder may lie where nothing can be written."""
        return optuna.load_study(study_name=self.plan.name, storage=storage)

    def _begin(self, database: Path) -> None:
        """Make the study, and the database whole before it takes its name: a kill or a full disk leaves none without it."""
        draft = database if database.exists() else database.with_name(f".{database.name}.draft")
        if draft != database:
            for path in (draft, draft.with_name(f"{draft.name}-journal")):
                path.unlink(missing_ok=True)
        storage = _storage(draft)
        with unexcited():
            self._create(storage, self.plan.name)
        storage.remove_session()
        storage.engine.dispose()
        if draft != database:
            sync(draft)
            draft.replace(database)

    def _create(self, storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
        directions = [row.direction for row in self.objectives]
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
        study.set_metric_names([row.reading for row in self.objectives])
        return study

    def recover(self) -> int:
        """Make room for trials that a killed process left unfinished; return how many.

        Those that stood in line stand at their old place again. One that the sampler drew is simply forgotten: the
        sampler, rebuilt from the same seed and trials, draws it again. Of several that were at work at once it would not,
        for it had not seen what the others ended with: these are put in line at their place, too, and what was trained
        of them is not lost. A kill between two of these commits loses none.
        """
        stale = self._running()
        several = len(stale) > 1 or (self.plan.search.workers or 1) > 1
        for trial in stale:
            in_line = FIXED in trial.system_attrs
            if several and not in_line and "candidate" in trial.user_attrs:
                self._study._storage.set_trial_system_attr(trial._trial_id, FIXED, trial.params)
                in_line = True
            if not in_line:
                self._study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
            state = TrialState.WAITING if in_line else TrialState.FAIL
            self._study._storage.set_trial_state_values(trial._trial_id, state)
        return len(stale)

    def enqueue(self, candidate: Candidate) -> None:
        """Ask for this candidate next, after those already in line."""
        self._study.enqueue_trial(self.space.encode(candidate))

    def waiting(self) -> tuple[Candidate, ...]:
        """Return the candidates that stand in line."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return tuple(self.space.decode(choose_from(trial.system_attrs[FIXED])) for trial in trials)

    def ask(self, rung: Callable[[str], int] = lambda backbone: 0) -> Asked:
        """Return the next candidate to evaluate; on which rung a backbone's new networks are trained, `rung` says.

        Who began a shared study draws as a search alone, each other machine apart. Optuna's TPE keeps away from those at
        work ("constant liar"). A trial that others take for dead while it is drawn is theirs, and another one is asked.
        """
        own = [self.machine] if self.machine and self._study.user_attrs.get(FOUNDER) != self.machine else []
        while True:
            drawn = [self.plan.search.seed, self.told() + len(self._running()), *own]
            seed = int(digest_of(drawn)[:8], 16)
            with suppress(UpdateFinishedTrialError), unexcited():
                self._study.sampler = RungSampler(SAMPLERS[self.plan.search.sampler](seed), self.space, rung)
                trial = self._study.ask()
                candidate = self.space.decode(partial(_suggest, trial))
                trial.set_user_attr("candidate", candidate.model_dump(mode="json"))
                return Asked(trial, candidate)

    def inherits(self, asked: Asked, parent: str | None) -> None:
        """Note the training whose weights a trial's training begins with."""
        if parent is not None:
            asked.trial.set_user_attr("parent", parent)

    def tell(self, asked: Asked, outcome: Outcome, seconds: float) -> int:
        """Record an outcome and teach it to the sampler; return the trial's number, another one where it was lost."""
        try:
            self._tell(asked, outcome, seconds)
        except (UpdateFinishedTrialError, ValueError):
            if not self._lost(asked):
                raise
            return self._tell_anew(asked, outcome, seconds)
        return asked.number

    def _lost(self, asked: Asked) -> bool:
        """Whether another machine has taken this one for dead."""
        return not {LOST, INTERRUPTED}.isdisjoint(self._study._storage.get_trial(asked.trial._trial_id).user_attrs)

    def _tell_anew(self, asked: Asked, outcome: Outcome, seconds: float) -> int:
        """Tell what was taken for lost, as another trial, in one commit."""
        attributes = {**attributes_of(outcome, self.folder), "seconds": seconds, AGAIN: asked.number}
        told = {**asked.trial.user_attrs, **attributes}
        with unexcited():
            trial = optuna.trial.create_trial(
                state=TrialState.FAIL if isinstance(outcome, Failed) else TrialState.COMPLETE,
                values=None if isinstance(outcome, Failed) else [value_of(outcome, row) for row in self.objectives],
                params=asked.trial.params, distributions=asked.trial.distributions, user_attrs=told,
                constraints=None if isinstance(outcome, Failed) else self._violations(outcome.score, self.plan),
            )  # fmt: skip
        storage = self._study._storage
        return storage.get_trial_number_from_id(storage.create_new_trial(self._study._study_id, trial))

    def _tell(self, asked: Asked, outcome: Outcome, seconds: float) -> None:
        for name, value in attributes_of(outcome, self.folder).items():
            asked.trial.set_user_attr(name, value)
        asked.trial.set_user_attr("seconds", seconds)
        if isinstance(outcome, Failed):
            self._study.tell(asked.trial, state=TrialState.FAIL)
            return
        known = asked.trial.constraints  # set by an attempt that was interrupted here; Optuna takes them once
        for name, amount in self._violations(outcome.score, self.plan).items():
            if name not in known:
                asked.trial.set_constraint(name, amount)
        self._study.tell(asked.trial, [value_of(outcome, row) for row in self.objectives])

    def repeat(self, asked: Asked, of: Result) -> None:
        """Tell a candidate that was evaluated before: same outcome, no time, marked so that it counts once."""
        try:
            asked.trial.set_user_attr(REPEATS, of.trial)
            self.tell(asked, of.outcome, 0.0)
        except UpdateFinishedTrialError:  # taken for lost meanwhile; its candidate is told
            if asked.trial.storage.get_trial(asked.trial._trial_id).state != TrialState.FAIL:
                raise

    def trials(self) -> list[FrozenTrial]:
        """Return every trial, by number."""
        return self._study.get_trials(deepcopy=False)

    def outcome_of(self, trial: FrozenTrial) -> Outcome:
        """Return how a trial that was told ended."""
        return outcome_in(trial.user_attrs, self.folder)

    def telling(self, outcome: Outcome, plan: Plan) -> dict[str, Any]:
        """Return what Optuna is told of an outcome on the terms of a plan: `values`, `constraints`, `user_attrs`."""
        told: dict[str, Any] = {"user_attrs": attributes_of(outcome, self.folder)}
        if isinstance(outcome, Failed):
            return told
        values = [value_of(outcome, row) for row in select(plan.objectives)]
        return told | {"values": values, "constraints": self._violations(outcome.score, plan)}

    def begin_again(self, plan: Plan, trials: Iterable[FrozenTrial]) -> None:
        """Go on with these trials on the terms of another plan: in a study beside the one before, which stays.

        It counts from the commit on that names it in the first one: a kill before that leaves all as it was.
        """
        name, storage = study_after(self.plan.name, self._study.study_name), self._first._storage
        if name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)  # a killed process left it unfinished
        before, self.plan = self._study, plan
        with unexcited():
            after = self._create(storage, name)
            after.add_trials(trials)
        for fact, value in before.user_attrs.items():
            if fact not in (NOW, "first"):  # the box of the hypervolume is another one
                after.set_user_attr(fact, value)
        self._first.set_user_attr(NOW, {"study": name, "terms": terms_of(plan)})
        self._study = after

    def told(self) -> int:
        """Return the number of trials told, repetitions included: each needs a new draw. What was lost is asked again."""
        return sum(not is_lost(trial) for trial in self._told())

    def repeated(self) -> tuple[Candidate, ...]:
        """Return the candidates told since the last new one: repetitions all, the latest first."""
        latest = takewhile(lambda trial: REPEATS in trial.user_attrs, reversed(self._told()))
        return tuple(Candidate.model_validate(trial.user_attrs["candidate"]) for trial in latest)

    def note(self, name: str, value: object) -> None:
        """Keep a fact about the whole study; of several machines none takes away what another one knows."""
        if self.machine and isinstance(value, dict):
            value = {**value, **self.facts().get(name, {})}
        self._study.set_user_attr(self._fact(name), value)

    def _fact(self, name: str) -> str:
        return f"{name} {self.machine}" if self.machine and name in OWN else name

    def facts(self) -> dict[str, Any]:
        """Return the facts about the whole study."""
        facts = dict(self._study.user_attrs)
        own = {name: facts.get(self._fact(name)) for name in OWN} if self.machine else {}
        return facts | {name: value for name, value in own.items() if value is not None}

    def results(self) -> tuple[Result, ...]:
        """Return the told trials that count: no repetitions, no interrupted attempts."""
        facts = self.facts()
        tests, repeated = test_readings(facts), repetitions(facts)
        found = (self.result(trial, tests.get(trial.number), repeated.get(trial.number, {})) for trial in self._told())
        told = (result for result in found if result is not None)
        return tuple(once(told) if self.machine else told)

    def result(
        self, trial: FrozenTrial, test: Reading | None = None, repeated: Mapping[int, Reading] | None = None
    ) -> Result | None:
        """Return a told trial as a result; None of a repetition."""
        if not trial.user_attrs.keys() & {"outcome", LOST} or REPEATS in trial.user_attrs:
            return None
        return result_of(trial, self.folder, test, repeated or {})

    def run(self) -> Run:
        """Return the study as data for people and machines, its latencies as imported measurements make them."""
        facts = self.facts()
        return remeasured(self.run_of(self.results(), tuple(facts.get("classes", ())), looks_of(facts)))

    def run_of(self, results: Iterable[Result], classes: tuple[str, ...] = (), looks: tuple[Look, ...] = ()) -> Run:
        """Return these results as a run of this study."""
        return Run(
            folder=self.folder,
            study=self.plan.name,
            objectives=self.objectives,
            limits=self.plan.bounds,
            target=self.plan.target.resolve(),
            classes=classes,
            results=tuple(results),
            strict=self.plan.strict,
            looks=looks,
        )

    def _running(self) -> list[FrozenTrial]:
        """Return the trials that were asked and not told, by number."""
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _told(self) -> list[FrozenTrial]:
        """Return the finished trials in their order, interrupted attempts left out."""
        ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
        return [t for t in ended if t.state == TrialState.COMPLETE or INTERRUPTED not in t.user_attrs]

    def _violations(self, score: Mapping[str, Reading], plan: Plan) -> dict[str, float]:
        """Return by what share of its bound each limit is broken: samplers add them up, and bytes would swamp points."""
        bounds = {OBJECTIVES[name]: bound for name, bound in plan.bounds.items()}
        return {
            row.name: violation(score[row.reading], row, bound, strict=plan.strict) / (bound or 1.0)
            if row.reading in score
            else 0.0
            for row, bound in bounds.items()
        }


def load_run(folder: Path) -> Run:
    """Read a run folder without running anything.

    Raises:
        UserError: there is no run in this folder, or its record is damaged.
    """
    if not begun(folder) or not (folder / PLAN).is_file():
        raise no_run(folder)
    plan = stored_plan(folder / PLAN)
    if plan.storage is not None:
        return _shared(folder, plan)[0]
    if plan.name not in studies_in(folder / DATABASE):
        raise damaged(folder / DATABASE, f"it holds no study {plan.name!r}")
    try:
        with _uncollected():
            return Study(folder, plan, plan.space(classes=2)).run()
    except json.JSONDecodeError as error:  # SQLite sees no damage inside of a text
        raise damaged(folder / DATABASE, str(error)) from error


def glance(folder: Path) -> tuple[Run, dict[str, Any]] | None:
    """Read a run, and the facts about it, while a search may be at work in it: without a write, without waiting long.

    None where the record cannot be read so: it does not exist yet, or a killed search left a write that only the next
    search (or `front`, `best`) takes back.

    Raises:
        UserError: there is no run in this folder, or its plan is damaged.
    """
    if not (folder / PLAN).is_file():
        raise no_run(folder)
    plan = stored_plan(folder / PLAN)
    if plan.storage is not None:
        try:
            return _shared(folder, plan)
        except UserError:
            return None
    if not (folder / DATABASE).is_file():
        return None
    try:
        with _uncollected():
            study = Study(folder, plan, plan.space(classes=2), at_work=True)
            return study.run(), study.facts()
    except (sqlalchemy.exc.DatabaseError, optuna.exceptions.StorageInternalError, KeyError, ValueError):
        return None


def _shared(folder: Path, plan: Plan) -> tuple[Run, dict[str, Any]]:
    """Read the study of a run folder from the storage that machines share.

    Raises:
        UserError: the storage is away, or the study is not in it.
    """
    assert plan.storage is not None
    with opened(plan.storage) as storage:
        try:
            study = Study(folder, plan, plan.space(classes=2), storage=storage)
        except KeyError:
            raise UserError(f"The storage {plan.storage} holds no study {plan.name!r}, of which {folder} is.") from None
        return study.run(), study.facts()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold Python's garbage collector back: of a large study millions of objects are made, and all of them stay.

    It would look at all of them again and again: half of the time that reading 10,000 trials takes.
    """
    held = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if held:
            gc.enable()


def _storage(database: Path, mode: str = "") -> optuna.storages.RDBStorage:
    place = database.resolve()
    address = f"sqlite:///{place.as_uri()}{mode}" if mode else f"sqlite:///{place}"
    return optuna.storages.RDBStorage(address, engine_kwargs={"connect_args": {"timeout": SECONDS}})


def _suggest(trial: optuna.Trial, knob: Knob) -> Any:
    """Ask the sampler for a knob. Every knob is a short list, so every knob is a category."""
    return trial.suggest_categorical(knob.name, knob.choices)
