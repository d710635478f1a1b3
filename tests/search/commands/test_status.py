"""`coreml-pareto status`: on a run at work, on one that was killed, on one whose record cannot be read; never a write."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.search.config import dump_plan, load_plan
from coreml_pareto.search.events import Log
from coreml_pareto.search.lock import sole_search
from coreml_pareto.search.outcome import Failed
from coreml_pareto.search.report.words import many
from coreml_pareto.search.run import Result
from coreml_pareto.search.study import Study, load_run

ResultAt = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, result_at: ResultAt) -> Path:
    """A run with two packages, a failure, and a trial in training."""
    folder = tmp_path / "run"
    plan = load_plan(None, {"name": "seen", "networks": {"backbones": ["squeezenet1_1"]}, "search": {"trials": 9}})
    study = Study(folder, plan, plan.space(10))
    (folder / "study.yaml").write_text(dump_plan(plan))
    log = Log(folder, lambda: 100.0)
    log.write("started", trials=9, timeout=None, results=0, seconds=2.0)
    outcomes = [
        result_at(0, (0.9, 1.0, 1e5, 1e6, 1.0)).outcome,
        result_at(1, (0.95, 2.0, 2e5, 2e6, 2.0)).outcome,
        Failed("package", "the disk is [full]"),
    ]
    for number, outcome in enumerate(outcomes):
        study.tell(study.ask(), outcome, 1.0)
        told = {"stage": "package", "cause": "the disk is [full]"} if number == 2 else {}
        log.write("told", trial=number, outcome="failed" if told else "scored", **told)
    log.write("front", trials=[0, 1], hypervolume=0.25)
    study.ask()
    log.write("asked", trial=3, name="squeezenet1_1 @64 · fp16")
    log.write("stage_begun", trial=3, stage="training")
    log.write("epoch", trial=3, stage="training", epoch=2, epochs=12, loss=0.5, top1=0.5)
    return folder


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_search_at_work(command: Callable[..., Any], folder: Path) -> None:
    trainings = load_run(folder).trainings
    with sole_search(folder):
        before = _content(folder)
        answer = command("status", str(folder))
        plain = json.loads(command("status", str(folder), "--json").out)
        assert _content(folder) == before
    text = " ".join(answer.out.split())
    for part in (
        f"{folder}: a search is at work since 2", f"2 scored from {many(trainings, 'training')}, 1 failed (2 of 9)",
        "best top-1 95.0 % (trial 1)", "0.250",
        "trial 3, squeezenet1_1 @64 · fp16: training", "epoch 2 of 12, top-1 50.0%", "failed in package: the disk is [full]",
    ):  # fmt: skip
        assert part in text
    assert (
        plain["at_work"] and plain["trials"] == {"scored": 2, "failed": 1} and plain["hypervolume"] == [[100.0, 0.25]]
    )
    assert plain["trainings"] == trainings
    assert [line["trial"] for line in plain["front"]] == [0, 1] and [doing["trial"] for doing in plain["doing"]] == [3]
    assert plain["failures"] == [{"trial": 2, "cause": "package: the disk is [full]"}]
    assert plain["seconds_left"] == pytest.approx(plain["seconds"] / 2 * 7) and plain["seconds"] >= 100


def test_a_search_that_was_killed(command: Callable[..., Any], folder: Path) -> None:
    answer = command("status", str(folder))
    assert answer.code == 0 and "no search is at work; its last search was killed" in " ".join(answer.out.split())
    assert "trial 3," not in answer.out


def test_a_run_without_a_log_is_read_from_its_record(command: Callable[..., Any], folder: Path) -> None:
    (folder / "events.jsonl").unlink()
    plain = json.loads(command("status", str(folder), "--json").out)
    assert (
        plain["since"] is None and plain["trials"] == {"scored": 2, "failed": 1} and 0 < plain["hypervolume"][0][1] < 1
    )


def test_a_record_with_a_write_to_be_rolled_back_is_left_to_the_next_search(
    command: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    """A hot journal, as a kill in the middle of a write leaves it."""
    with closing(sqlite3.connect(folder / "study.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE filler (text TEXT)")
        connection.executemany("INSERT INTO filler VALUES (?)", [("x" * 4000,)] * 200)
        killed = Path(shutil.copytree(folder, tmp_path / "killed"))
        connection.execute("ROLLBACK")
    assert (killed / "study.db-journal").stat().st_size > 0
    before = _content(killed)
    plain = json.loads(command("status", str(killed), "--json").out)
    assert _content(killed) == before
    assert not plain["record_read"] and plain["trials"] == {"scored": 2, "failed": 1} and plain["trainings"] is None
    assert "counts are the log's" in command("status", str(killed)).out


def test_no_run_folder(command: Callable[..., Any], tmp_path: Path) -> None:
    answer = command("status", str(tmp_path))
    assert answer.code == 2 and "is no run folder" in answer.err
