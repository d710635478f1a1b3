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
"""

from __future__ import annotations

import gc
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, assert_never, final

import optuna
import sqlalchemy.exc
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective, select
from coreml_pareto.objectives.reading import Reading, score_from_dict, score_to_dict, violation
from coreml_pareto.search.config import Plan
from coreml_pareto.search.measurements import remeasured
from coreml_pareto.search.outcome import Failed, Infeasible, Outcome, Pruned, Scored
from coreml_pareto.search.record import DATABASE, PLAN, SECONDS, damaged, no_run, stored_plan, studies_in
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.rungs import RungSampler
from coreml_pareto.search.seeds import repetitions
from coreml_pareto.search.tested import Look, test_readings
from coreml_pareto.search.tested import looks as looks_of
from coreml_pareto.spaces.candidate import Candidate, digest_of
from coreml_pareto.spaces.space import Knob, Space, choose_from

INTERRUPTED = "interrupted"
FIXED = "fixed_params"  # where Optuna keeps the parameters of a trial that stands in line

optuna.logging.set_verbosity(optuna.logging.ERROR)


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=8, multivariate=True, group=True)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "auto": _tpe,  # draws only where the acquisition has nothing to say
    "tpe": _tpe,
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    "nsga3": lambda seed: NSGAIIISampler(seed=seed, population_size=20),
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=8),
    "random": lambda seed: RandomSampler(seed=seed),
}


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

    def __init__(self, folder: Path, plan: Plan, space: Space, *, at_work: bool = False) -> None:
        """Open the study, or make it where there is none; of a search `at_work` it is read, and no byte is written."""
        self.folder, self.plan, self.space = folder, plan, space
        self.objectives = select(plan.objectives)
        if at_work:
            self._study = self._load(_storage(folder, "?mode=ro&uri=true"))
            return
        folder.mkdir(parents=True, exist_ok=True)
        known = plan.name in studies_in(folder / DATABASE)
        with _unexcited():
            self._study = self._load(_storage(folder)) if known else self._create(_storage(folder))

    def _load(self, storage: optuna.storages.RDBStorage) -> optuna.Study:
        """Open the study without a write: a run folder may lie where nothing can be written."""
        return optuna.load_study(study_name=self.plan.name, storage=storage)

    def _create(self, storage: optuna.storages.RDBStorage) -> optuna.Study:
        directions = [row.direction for row in self.objectives]
        study = optuna.create_study(study_name=self.plan.name, storage=storage, directions=directions)
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
            if in_line:
                self._study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            else:
                self._study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
                self._study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
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

        Optuna's TPE keeps away from those that are at work ("constant liar").
        """
        seed = int(digest_of([self.plan.search.seed, self.told() + len(self._running())])[:8], 16)
        with _unexcited():
            self._study.sampler = RungSampler(SAMPLERS[self.plan.search.sampler](seed), self.space, rung)
            trial = self._study.ask()
            candidate = self.space.decode(lambda knob: _suggest(trial, knob))
        trial.set_user_attr("candidate", candidate.model_dump(mode="json"))
        return Asked(trial, candidate)

    def inherits(self, asked: Asked, parent: str | None) -> None:
        """Note the training whose weights a trial's training begins with."""
        if parent is not None:
            asked.trial.set_user_attr("parent", parent)

    def tell(self, asked: Asked, outcome: Outcome, seconds: float) -> None:
        """Record an outcome and teach it to the sampler."""
        for name, value in _attributes(outcome, self.folder).items():
            asked.trial.set_user_attr(name, value)
        asked.trial.set_user_attr("seconds", seconds)
        if isinstance(outcome, Failed):
            self._study.tell(asked.trial, state=TrialState.FAIL)
            return
        known = asked.trial.constraints  # set by an attempt that was interrupted here; Optuna takes them once
        for name, amount in self._violations(outcome.score).items():
            if name not in known:
                asked.trial.set_constraint(name, amount)
        self._study.tell(asked.trial, [_value(outcome, row) for row in self.objectives])

    def repeat(self, asked: Asked, of: Result) -> None:
        """Tell a candidate that was evaluated before: same outcome, no time, marked so that it counts once."""
        asked.trial.set_user_attr("repeats", of.trial)
        self.tell(asked, of.outcome, 0.0)

    def told(self) -> int:
        """Return the number of trials told, repetitions included: each needs a new draw."""
        return len(self._told())

    def repeated(self) -> tuple[Candidate, ...]:
        """Return the candidates told since the last new one: repetitions all, the latest first."""
        latest = takewhile(lambda trial: "repeats" in trial.user_attrs, reversed(self._told()))
        return tuple(Candidate.model_validate(trial.user_attrs["candidate"]) for trial in latest)

    def note(self, name: str, value: object) -> None:
        """Keep a fact about the whole study."""
        self._study.set_user_attr(name, value)

    def facts(self) -> dict[str, Any]:
        """Return the facts about the whole study."""
        return dict(self._study.user_attrs)

    def results(self) -> tuple[Result, ...]:
        """Return the told trials that count: no repetitions, no interrupted attempts."""
        facts = self.facts()
        tests, repeated = test_readings(facts), repetitions(facts)
        return tuple(
            _result(trial, self.folder, tests.get(trial.number), repeated.get(trial.number, {}))
            for trial in self._told()
            if "outcome" in trial.user_attrs and "repeats" not in trial.user_attrs
        )

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
        return [trial for trial in ended if INTERRUPTED not in trial.user_attrs]

    def _violations(self, score: Mapping[str, Reading]) -> dict[str, float]:
        """Return by what share of its bound each limit is broken: samplers add them up, and bytes would swamp points."""
        bounds = {OBJECTIVES[name]: bound for name, bound in self.plan.bounds.items()}
        return {
            row.name: violation(score[row.reading], row, bound, strict=self.plan.strict) / (bound or 1.0)
            if row.reading in score
            else 0.0
            for row, bound in bounds.items()
        }


def load_run(folder: Path) -> Run:
    """Read a run folder without running anything.

    Raises:
        UserError: there is no run in this folder, or its record is damaged.
    """
    if not (folder / DATABASE).is_file() or not (folder / PLAN).is_file():
        raise no_run(folder)
    plan = stored_plan(folder / PLAN)
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
    if not (folder / DATABASE).is_file():
        return None
    try:
        with _uncollected():
            study = Study(folder, plan, plan.space(classes=2), at_work=True)
            return study.run(), study.facts()
    except (sqlalchemy.exc.DatabaseError, optuna.exceptions.StorageInternalError, KeyError, ValueError):
        return None


@contextmanager
def _unexcited() -> Iterator[None]:
    """Silence Optuna's notes that samplers, constraints and metric names are experimental, and two of `gp`.

    `gp` takes the worst infinity for the worst value seen, which is what is meant by it; and it warns that more than
    four objectives are slow: with five an ask takes below a second at 45 trials, little beside a training.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Clip non-finite values to the min/max finite values", UserWarning)
        warnings.filterwarnings("ignore", "Box decomposition", UserWarning)
        yield


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


def _storage(folder: Path, mode: str = "") -> optuna.storages.RDBStorage:
    place = (folder / DATABASE).resolve()
    address = f"sqlite:///{place.as_uri()}{mode}" if mode else f"sqlite:///{place}"
    return optuna.storages.RDBStorage(address, engine_kwargs={"connect_args": {"timeout": SECONDS}})


def _suggest(trial: optuna.Trial, knob: Knob) -> Any:
    """Ask the sampler for a knob. Every knob is a short list, so every knob is a category."""
    return trial.suggest_categorical(knob.name, knob.choices)


def _value(outcome: Scored | Infeasible | Pruned, row: Objective) -> float:
    """Return the value of an objective; the worst infinity for what is not known.

    What is stopped early is told with the top-1 that its training had reached, by which it is dominated.
    """
    if row.reading in outcome.score:
        return outcome.score[row.reading].value
    if isinstance(outcome, Pruned) and outcome.curve and row.name == "accuracy":
        return outcome.curve[-1]
    return math.inf if row.direction == "minimize" else -math.inf


def _attributes(outcome: Outcome, folder: Path) -> dict[str, Any]:
    """Return an outcome as user attributes; paths are relative to the run folder, which may move."""
    match outcome:
        case Scored(score, package, provenance):
            place = os.path.relpath(package, folder)
            return {
                "outcome": "scored",
                "score": score_to_dict(score),
                "package": place,
                "provenance": dict(provenance),
            }
        case Infeasible(limits, score):
            return {"outcome": "infeasible", "limits": list(limits), "score": score_to_dict(score)}
        case Pruned(reason, score, curve):
            known = {"reason": reason, "score": score_to_dict(score), "curve": list(curve)}
            return {"outcome": "pruned"} | known
        case Failed(stage, cause):
            return {"outcome": "failed", "stage": stage, "cause": cause}
        case _:
            assert_never(outcome)


def _result(trial: FrozenTrial, folder: Path, test: Reading | None, repeated: Mapping[int, Reading]) -> Result:
    attributes = trial.user_attrs
    return Result(
        trial=trial.number,
        candidate=Candidate.model_validate(attributes["candidate"]),
        outcome=_outcome(attributes, folder),
        test_top1=test,
        seconds=float(attributes.get("seconds", 0.0)),
        parent=attributes.get("parent"),
        repeated=repeated,
    )


def _outcome(attributes: Mapping[str, Any], folder: Path) -> Outcome:
    score = score_from_dict(attributes.get("score", {}))
    match attributes["outcome"]:
        case "scored":
            return Scored(score, folder / attributes["package"], attributes["provenance"])
        case "infeasible":
            return Infeasible(tuple(attributes["limits"]), score)
        case "pruned":
            return Pruned(attributes["reason"], score, tuple(attributes["curve"]))
        case _:
            return Failed(attributes["stage"], attributes["cause"])
