"""Whole searches in several processes on one real storage: some are killed, the server goes away, and nothing is lost."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from coreml_pareto.objectives.program import load
from coreml_pareto.search.cli import main
from coreml_pareto.search.events import read_events
from coreml_pareto.search.outcome import Failed, Scored
from coreml_pareto.search.store import open_shelf
from coreml_pareto.search.study import load_run
from coreml_pareto.search.told import AGAIN, LOST

Start = Callable[..., Any]
LONG = 2100
"""Epochs of candidates that take two seconds (laboratory_double.py)."""
STUDY: dict[str, Any] = {
    "name": "many",
    "data": "digits",
    "splits": {"limit": 100},
    "networks": {
        "backbones": ["squeezenet1_1", "mobilenetv2"], "width": [0.25, 0.35, 0.5, 0.75], "resolution": [32, 48],
        "pretrained": False,
    },
    "training": {"epochs": [130, LONG], "rungs": 1, "device": "cpu"},
    "search": {"sampler": "random", "trials": 24, "workers": 1, "packages_per_training": 1, "gate": False},
}  # fmt: skip


def _trials(url: str, name: str, open_at: Any) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=open_at(url)).trials


def _evaluated(folder: Path) -> list[list[str]]:
    """[epochs, digest] of each candidate that a machine had at work (laboratory_double.py)."""
    diary = folder / "diary"
    lines = diary.read_text().splitlines() if diary.exists() else []
    return [line.split()[1:] for line in lines if line.split()[1] != "start"]


def _kill_at_work(machine: Any) -> str:
    """Kill a machine while it has a long candidate at work; return that one's digest."""
    machine.until(lambda: (done := _evaluated(machine.run)) and done[-1][0] == str(LONG))
    os.killpg(machine.process.pid, signal.SIGKILL)
    machine.ended()
    return _evaluated(machine.run)[-1][1]


def _check(trials: list[FrozenTrial], machines: list[Any], killed: str, wanted: int) -> None:
    """Nothing finished is lost, nothing was evaluated twice but what was killed, and that is told."""
    evaluated = Counter(digest for machine in machines for _, digest in _evaluated(machine.run))
    assert {digest for digest, times in evaluated.items() if times > 1} <= {killed}
    lost = [trial for trial in trials if LOST in trial.user_attrs]
    assert len(lost) == 1 and lost[0].state == TrialState.FAIL
    scored = [t for t in trials if t.user_attrs.get("outcome") == "scored" and "repeats" not in t.user_attrs]
    assert wanted <= len(scored) < wanted + len(machines)
    candidates = [json.dumps(trial.user_attrs["candidate"], sort_keys=True) for trial in scored]
    assert len(set(candidates)) == len(candidates)
    again = [trial for trial in scored if trial.user_attrs["candidate"] == lost[0].user_attrs["candidate"]]
    assert [trial.user_attrs[AGAIN] for trial in again] == [lost[0].number]
    assert all(trial.state != TrialState.RUNNING for trial in trials)


def test_of_four_machines_one_is_killed_and_postgresql_goes_away_for_seconds(
    tmp_path: Path, postgres: Any, database: str, machine: Start, open_at: Any
) -> None:
    study = tmp_path / "many.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    machines = [machine("double", study, tmp_path / f"run-{n}", tmp_path / "shared", database) for n in range(4)]
    killed = _kill_at_work(machines[0])
    machines[1].until(lambda: len(_evaluated(machines[1].run)) >= 2)
    postgres.stop()
    time.sleep(6)
    postgres.start()
    assert [one.ended() for one in machines[1:]] == [0, 0, 0], [one.said for one in machines]
    said = "".join(one.said for one in machines)
    assert "does not answer" in said and "answers again after" in said
    assert "was lost and is asked again: its machine" in said
    _check(_trials(database, "many", open_at), machines, killed, STUDY["search"]["trials"])
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"not-to-be-seen" not in path.read_bytes(), path


def test_machines_behind_the_grpc_proxy_have_leases_too(
    tmp_path: Path, proxy: Callable[[str], str], machine: Start, open_at: Any
) -> None:
    study, address = tmp_path / "many.yaml", proxy(f"sqlite:///{tmp_path / 'behind.db'}")
    study.write_text(yaml.safe_dump(STUDY))
    machines = [
        machine("double", study, tmp_path / f"run-{n}", tmp_path / "shared", address, "--trials", "8") for n in range(2)
    ]
    killed = _kill_at_work(machines[0])
    assert machines[1].ended() == 0, machines[1].said
    _check(_trials(address, "many", open_at), machines, killed, 8)


TINY: dict[str, Any] = {
    "name": "tiny",
    "data": "digits",
    "splits": {"limit": 150},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.25, 0.35], "resolution": [32], "pretrained": False},
    "distillation": {"teachers": ["none"]},
    "compression": ["fp16", "int8/channel"],
    "training": {"epochs": [3], "batch_size": 32, "device": "cpu", "rungs": 1},
    "search": {"sampler": "random", "trials": 4, "packages_per_training": 2, "gate": False},
}


def test_real_machines_killed_in_training_and_while_publishing(
    tmp_path: Path, database: str, machine: Start, open_at: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    study, shared = tmp_path / "tiny.yaml", tmp_path / "shared"
    study.write_text(yaml.safe_dump(TINY))
    victims = [machine(how, study, tmp_path / how, shared, database) for how in ("training", "publishing")]
    assert [victim.ended() for victim in victims] == [-signal.SIGKILL] * 2, [victim.said for victim in victims]
    heirs = [machine("none", study, tmp_path / f"heir-{n}", shared, database) for n in range(2)]
    assert [heir.ended() for heir in heirs] == [0, 0], [heir.said for heir in heirs]

    trials = _trials(database, "tiny", open_at)
    lost = [trial for trial in trials if LOST in trial.user_attrs]
    assert len(lost) == 2 and {trial.state for trial in lost} == {TrialState.FAIL}
    monkeypatch.setenv("COREML_PARETO_STORAGE", database)
    runs = [load_run(heir.run) for heir in heirs]
    for run in runs:
        assert {result.trial for result in run.results if isinstance(result.outcome, Failed)} == {
            t.number for t in lost
        }
        assert len(run.scored()) == len({result.candidate for result in run.scored()}) == 4
    # Each is tried again, in line or by another one, which had stepped aside for it.
    told = [
        trial for trial in trials if trial.user_attrs.get("outcome") == "scored" and "repeats" not in trial.user_attrs
    ]
    done = [trial.user_attrs["candidate"] for trial in told]
    assert all(done.count(trial.user_attrs["candidate"]) == 1 for trial in lost)
    again = {trial.user_attrs[AGAIN] for trial in trials if AGAIN in trial.user_attrs}
    assert again == {trial.number for trial in lost}

    # The epoch that one had trained when it was killed is not trained again: its heir tells it, and goes on from there.
    epochs = Counter(
        event["epoch"]
        for one in (*victims, *heirs)
        for event in read_events(one.run)
        if event["event"] == "epoch" and event["stage"] == "training"
    )
    assert epochs == {1: 2, 2: 2, 3: 2}

    # Every package of the front is at hand in every run, also what the other one made, and nothing half-published is.
    for run in runs:
        with (run.folder / "front.csv").open() as file:
            packages = [Path(line["package"]) for line in csv.DictReader(file)]
        assert packages and all(load(package).labels == run.classes for package in packages)
        assert all(package.is_relative_to(run.folder) for package in packages)
    shelf = open_shelf(str(shared))
    assert all(shelf.damage(artifact) is None for artifact in shelf.artifacts())

    # Any command reads the storage from the run folder; packages made elsewhere are fetched.
    late = tmp_path / "late"
    late.mkdir()
    for name in ("study.yaml", "request.json", "machine.json"):
        (late / name).write_bytes((heirs[0].run / name).read_bytes())
    for command in (["front", str(late), "--json"], ["best", str(late), "--json"]):
        assert main(command) == 0
        rows = json.loads(capsys.readouterr().out)
        assert rows and all(load(Path(row["package"])).labels for row in rows)
    assert main(["status", str(late), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == {"scored": 4, "failed": 2}
    monkeypatch.delenv("COREML_PARETO_STORAGE")
    assert main(["front", str(late)]) == 2
    assert "cannot be opened" in (error := capsys.readouterr().err) and "not-to-be-seen" not in error
    assert all(isinstance(result.outcome, Scored | Failed) for result in runs[0].results)


def test_another_question_of_the_same_name_is_refused_before_anything_is_trained(
    tmp_path: Path, database: str, machine: Start
) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    small = STUDY | {"search": STUDY["search"] | {"trials": 1}}
    one.write_text(yaml.safe_dump(small))
    other.write_text(yaml.safe_dump(small | {"networks": STUDY["networks"] | {"width": [0.5]}}))
    assert machine("double", one, tmp_path / "a", tmp_path / "shared", database).ended() == 0
    refused = machine("double", other, tmp_path / "b", tmp_path / "shared", database)
    assert refused.ended() == 2
    assert "differs in networks.width (there [0.25, 0.35, 0.5, 0.75], here [0.5])" in refused.said
    assert not (tmp_path / "b").exists()
