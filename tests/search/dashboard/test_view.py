"""What the dashboard sees of a record."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from coreml_pareto.objectives.reading import Reading, score_to_dict
from coreml_pareto.search import measurements
from coreml_pareto.search.config import Plan, dump_plan
from coreml_pareto.search.dashboard import view as views
from coreml_pareto.search.dashboard.view import open_view
from coreml_pareto.search.rows import row
from coreml_pareto.search.study import Study
from coreml_pareto.spaces.errors import UserError


def test_trials_are_those_of_the_record_with_constraints_as_they_were_once_kept(recorded: Any) -> None:
    view = open_view(recorded.folder)
    study = optuna.load_study(study_name="birds", storage=view)
    for told, kept in zip(study.trials, recorded.study.trials(), strict=True):
        assert (told.number, told.state, told.values, told.params) == (
            kept.number,
            kept.state,
            kept.values,
            kept.params,
        )
        assert told.system_attrs.get("constraints", []) == list(kept.constraints.values())
        assert not [name for name in told.system_attrs if name.startswith("constraints:")]


def test_readings_are_attributes_under_the_names_of_json(recorded: Any) -> None:
    view = open_view(recorded.folder)
    told = {trial.number: trial.user_attrs for trial in view.get_all_trials(1)}
    result = next(result for result in view.run.results if result.trial == 3)
    machine = row(result, view.run)
    for name in ("top1", "top1_low", "latency_ms", "latency_ms_how", "size_bytes", "energy_mj_high", "minimum_os"):
        assert told[3][name] == machine[name], name
    assert told[3]["outcome"] == "scored" and told[4]["outcome"] == "infeasible" and "top1" not in told[4]
    assert "score" not in told[3]


def test_a_trial_at_work_is_there_and_grows(recorded: Any) -> None:
    view = open_view(recorded.folder)
    asked = recorded.study.ask()
    running = view.get_all_trials(1)[-1]
    assert running.state == TrialState.RUNNING and running.params == asked.trial.params
    assert view.get_trial(running._trial_id).number == asked.number


def test_whatever_writes_is_refused(recorded: Any) -> None:
    view = open_view(recorded.folder)
    writes = [name for name in BaseStorage.__abstractmethods__ if name.startswith(("create_", "delete_", "set_"))]
    assert len(writes) == 10
    for name in writes:
        with pytest.raises(PermissionError, match="only read"):
            getattr(view, name)()
    with pytest.raises(PermissionError):
        optuna.load_study(study_name="birds", storage=view).ask()


def test_a_folder_that_cannot_be_written(recorded: Any, tmp_path: Path) -> None:
    before = (recorded.folder / "study.db").read_bytes()
    for path in (recorded.folder / "study.db", recorded.folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert len(open_view(recorded.folder).get_all_trials(1)) == 7
    finally:
        recorded.folder.chmod(0o755)
    assert (recorded.folder / "study.db").read_bytes() == before


def test_no_run_and_a_write_that_was_killed(recorded: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        open_view(tmp_path / "nothing")
    killed = tmp_path / "killed"
    shutil.copytree(recorded.folder, killed)
    with closing(sqlite3.connect(recorded.folder / "study.db")) as connection:  # a journal that is to be rolled back
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE trials SET number = number + 1000")
        connection.execute("CREATE TABLE filler AS SELECT * FROM trial_user_attributes")
        for name in ("study.db", "study.db-journal"):
            shutil.copy(recorded.folder / name, killed / name)
        connection.rollback()
    with pytest.raises(UserError, match="killed in the middle of a write"):
        open_view(killed)


def test_the_best_trial_of_one_objective_keeps_the_limits(
    recorded: Any, tmp_path: Path, plan_of: Callable[..., Plan], tell: Callable[..., int]
) -> None:
    plan = plan_of(objectives=["accuracy"])
    folder = tmp_path / "single"
    study = Study(folder, plan, plan.space(classes=10))
    (folder / "study.yaml").write_text(dump_plan(plan))
    for number in (1, 2, 3):
        tell(study, recorded.study.outcome_of(recorded.study.trials()[number]))
    assert (
        open_view(folder).get_best_trial(1).number == 2
    )  # told as trial 3 there: 0.9; trial 2's 0.99 breaks the limit


def test_values_and_constraints_follow_imported_measurements(
    recorded: Any, tmp_path: Path, plan_of: Callable[..., Plan], tell: Callable[..., int]
) -> None:
    """While the page is served: the notes say the corrected latencies, and the charts have to say the same."""
    plan, folder = plan_of(objectives=["accuracy", "latency"], limits={"latency": "1ms"}), tmp_path / "timed"
    study = Study(folder, plan, plan.space(classes=10))
    (folder / "study.yaml").write_text(dump_plan(plan))
    for number in (0, 1):  # 0.5 ms both
        tell(study, recorded.study.outcome_of(recorded.study.trials()[number]))
    view, run = open_view(folder), study.run()
    assert [trial.system_attrs["constraints"] for trial in view.get_all_trials(1)] == [[-0.5], [-0.5]]
    (folder / measurements.KEPT).write_text("{}")
    slow = {str(number): score_to_dict({"latency_ms": Reading(3.0, "ms", 2.0, 4.0, "corrected")}) for number in (0, 1)}
    stored = {"of": measurements._stamp(run), "readings": slow}
    (folder / measurements.READ_AGAIN).write_text(json.dumps(stored))
    for told, kept in zip(view.get_all_trials(1), study.trials(), strict=True):
        assert told.values == [kept.values[0], 3.0] and told.system_attrs["constraints"] == [2.0]
        assert told.user_attrs["latency_ms"] == 3.0


def test_a_storage_without_the_study_is_said_to_be_one(recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recorded.folder / "study.yaml"
    plan.write_text(plan.read_text().replace("storage: null", "storage: postgresql://a@b/c\nstore: /shared"))
    monkeypatch.setattr(views, "open_storage", lambda address: optuna.storages.InMemoryStorage())
    with pytest.raises(UserError, match="holds no study 'birds'"):
        open_view(recorded.folder)
