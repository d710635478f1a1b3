"""What does optuna-dashboard see of a run?  Its study as Optuna 5 means it, told in the words that the dashboard reads.

Seen on optuna-dashboard 0.21, which this view makes good:

| in the record                                     | the dashboard by itself                   | here                           |
|---------------------------------------------------|-------------------------------------------|--------------------------------|
| constraints by name (`Trial.set_constraint`)      | not read: every trial looks feasible      | the old attribute, a list      |
| readings, one JSON text for each trial            | cut off after 1,024 characters            | one attribute for each reading |
| packages, folders in the store                    | not there                                 | artifacts                      |
| why a trial was refused, stopped, or failed       | attributes among others                   | the trial's note               |
| the study before its terms were changed           | beside the one that counts                | not there                      |
| latencies that imported measurements changed      | the estimates of the search               | what `front` shows             |

Only reads are let through. The SQLite file is opened read-only, and each read is one SELECT: a search that writes waits
for milliseconds, and never fails by it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, final

import optuna
import sqlalchemy.exc
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from coreml_pareto.search.config import Plan
from coreml_pareto.search.dashboard.notes import attributes_of, question, study_note, trial_note
from coreml_pareto.search.measurements import KEPT
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.record import DATABASE, PLAN, SECONDS, begun, no_run, stored_plan
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.storage.opening import open_storage
from coreml_pareto.search.study import NOW, REPEATS, Study
from coreml_pareto.search.terms import with_terms
from coreml_pareto.spaces.errors import UserError

CONSTRAINTS: Final = "constraints"
"""Optuna's old attribute is a list under this name; the new ones begin with it and a colon."""
_ZIP: Final = "application/zip"


@final
@dataclass(frozen=True)
class _Seen:
    """The record at one moment: the study that counts, its run, and its finished trials as they are shown, by id.

    `measured` says when measurements were imported last, None where there are none.
    """

    study: Any
    finished: int
    measured: int | None
    record: Study
    run: Run
    results: Mapping[int, Result]
    shown: dict[int, FrozenTrial]
    notes: Mapping[str, Any]


@final
class View(BaseStorage):
    """The study of a run that counts now, for reading; whatever would write is refused.

    Args:
        inner: the storage that holds the study; it is only read.
        folder: of the run.
        plan: of the run, as it lies in its folder.
    """

    def __init__(self, inner: BaseStorage, folder: Path, plan: Plan) -> None:
        self.inner, self.folder, self.plan = inner, folder, plan
        self._lock = threading.Lock()
        self._seen: _Seen | None = None

    @property
    def run(self) -> Run:
        """The run as it stands."""
        return self._look().run

    def get_all_studies(self) -> list[Any]:
        """The one study that counts, with its notes."""
        seen = self._look()
        study = optuna.study._frozen.FrozenStudy(
            self.plan.name, None, question(seen.run), {**seen.study.system_attrs, **seen.notes}, seen.study._study_id,
            directions=seen.study.directions,
        )  # fmt: skip
        return [study]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials as they are shown, by number; shared objects, whatever `deepcopy` says: nobody changes them."""
        seen = self._known(study_id)
        trials = self.inner.get_all_trials(study_id, deepcopy=False)
        return [_shown(trial, seen) for trial in trials if states is None or trial.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return _shown(self.inner.get_trial(trial_id), self._look())

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The best one that keeps the limits; of all, where none does."""
        if best := optuna.load_study(study_name=self.plan.name, storage=self).best_trials:
            return best[0]
        return super().get_best_trial(study_id)

    def get_study_id_from_name(self, study_name: str) -> int:
        if study_name != self.plan.name:
            raise KeyError(study_name)
        found: int = self._look().study._study_id
        return found

    def get_study_name_from_id(self, study_id: int) -> str:
        self._known(study_id)
        return self.plan.name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return list(self._known(study_id).study.directions)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return question(self._known(study_id).run)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        seen = self._known(study_id)
        return {**seen.study.system_attrs, **seen.notes}

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise PermissionError("the study is only read here")

    create_new_study = delete_study = create_new_trial = _refuse
    set_study_user_attr = set_study_system_attr = _refuse
    set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse

    def _known(self, study_id: int) -> _Seen:
        """KeyError for any study but the one that counts."""
        seen = self._look()
        if study_id != seen.study._study_id:
            raise KeyError(study_id)
        return seen

    def _look(self) -> _Seen:
        """Read what has changed since the last look."""
        with self._lock:
            study, plan = self._current()
            trials = self.inner.get_all_trials(study._study_id, deepcopy=False)
            finished = sum(trial.state.is_finished() for trial in trials)
            measured = _changed(self.folder / KEPT)
            last = self._seen
            if last is None or (last.finished, last.study, last.measured) != (finished, study, measured):
                record = Study(self.folder, plan, plan.space(classes=2), storage=self.inner)
                self._seen = _seen(study, finished, measured, record, trials)
            assert self._seen is not None
            return self._seen

    def _current(self) -> tuple[Any, Plan]:
        """The study that counts, and its plan under the study's own name: see `search/terms.py`."""
        studies = {study.study_name: study for study in self.inner.get_all_studies()}
        if self.plan.name not in studies:
            raise KeyError(self.plan.name)
        now = studies[self.plan.name].user_attrs.get(NOW)
        if now is None:
            return studies[self.plan.name], self.plan
        plan = with_terms(self.plan, now["terms"]).model_copy(update={"name": now["study"]})
        return studies[now["study"]], plan


def open_view(folder: Path) -> View:
    """Open a run's study for reading, while a search may be at work in it.

    Raises:
        UserError: there is no run, its plan is damaged, or its record cannot be read now.
    """
    if not begun(folder) or not (folder / PLAN).is_file():
        raise no_run(folder)
    plan = stored_plan(folder / PLAN)
    try:
        view = View(_read_only(folder / DATABASE) if plan.storage is None else open_storage(plan.storage), folder, plan)
        view._look()
    except KeyError as error:
        if plan.storage is None:
            raise _unreadable(folder, error) from error
        raise UserError(f"The storage {plan.storage} holds no study {plan.name!r}, of which {folder} is.") from None
    except (sqlalchemy.exc.DatabaseError, optuna.exceptions.StorageInternalError, ValueError) as error:
        raise _unreadable(folder, error) from error
    return view


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"The record of {folder} cannot be read without writing to it ({type(error).__name__}): a search has only just "
        f"begun, or one was killed in the middle of a write. `coreml-pareto front {folder}` takes that back, or says "
        "what is damaged."
    )


def _read_only(database: Path) -> BaseStorage:
    """SQLite's own read-only mode: no table is made, no journal rolled back; finished trials are read once."""
    address = f"sqlite:///{database.resolve().as_uri()}?mode=ro&uri=true"
    options = {"connect_args": {"timeout": SECONDS}}
    return get_storage(RDBStorage(address, engine_kwargs=options, skip_table_creation=True))


def _changed(path: Path) -> int | None:
    """When a file was written last, in ns; None where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else None


def _seen(study: Any, finished: int, measured: int | None, record: Study, trials: list[FrozenTrial]) -> _Seen:
    run = record.run()
    results = {result.trial: result for result in run.results}
    notes = dict(_note("", study_note(run)))
    for trial in trials:
        if (result := results.get(trial.number)) is not None:
            notes |= _note(f"{trial._trial_id}:", trial_note(result, run))
    return _Seen(study, finished, measured, record, run, results, {}, notes)


def _note(owner: str, text: str) -> dict[str, Any]:
    """A note as the dashboard reads it, in one piece; `owner`: empty for the study, `ID:` for a trial."""
    return {f"dashboard:{owner}note_ver": 1, f"dashboard:{owner}note_str:0": text}


def _shown(trial: FrozenTrial, seen: _Seen) -> FrozenTrial:
    """A trial as the dashboard reads it; finished ones are made once."""
    known = seen.shown.get(trial._trial_id)
    if known is not None:
        return known
    result = seen.results.get(trial.number)
    values, constraints = _terms(trial, result, seen)
    told = FrozenTrial(
        number=trial.number, state=trial.state, value=None, values=values, datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete, params=trial.params, distributions=trial.distributions,
        user_attrs=_own(trial) if result is None else attributes_of(result, seen.run),
        system_attrs=_system(trial, result, constraints), intermediate_values=trial.intermediate_values, trial_id=trial._trial_id,
    )  # fmt: skip
    if trial.state.is_finished():
        seen.shown[trial._trial_id] = told
    return told


def _terms(trial: FrozenTrial, result: Result | None, seen: _Seen) -> tuple[list[float] | None, list[float]]:
    """Values and constraints: as recorded or, of a package whose readings measurements may have changed, by these."""
    if seen.measured is None or result is None or not isinstance(result.outcome, Scored):
        return trial.values, list(trial.constraints.values())
    told = seen.record.telling(result.outcome, seen.record.plan)
    return told["values"], list(told["constraints"].values())


def _own(trial: FrozenTrial) -> dict[str, Any]:
    """Of a trial that has no result: at work, in line, interrupted, or a repetition of another one."""
    return {name: trial.user_attrs[name] for name in (REPEATS, "interrupted") if name in trial.user_attrs}


def _system(trial: FrozenTrial, result: Result | None, constraints: list[float]) -> dict[str, Any]:
    """Optuna's attributes, its constraints as the list of old, and the package as an artifact, named by the trial."""
    told = {name: value for name, value in trial.system_attrs.items() if not name.startswith(f"{CONSTRAINTS}:")}
    if constraints:
        told[CONSTRAINTS] = constraints
    if result is not None and isinstance(result.outcome, Scored):
        number = str(result.trial)
        meta = {"artifact_id": number, "filename": f"trial-{number}.mlpackage.zip", "mimetype": _ZIP, "encoding": None}
        told[f"artifacts:{number}"] = json.dumps(meta)
    return told
