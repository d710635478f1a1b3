"""Workers that train for real: the same packages as from one process; one that is killed in training is replaced."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from coreml_pareto.search import session
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.crew import Job, Verdict
from coreml_pareto.search.outcome import Failed, Scored
from coreml_pareto.search.run import Run
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.stages.train import Step
from coreml_pareto.search.workers.pool import Pool

STUDY: dict[str, Any] = {
    "name": "real",
    "data": "digits",
    "splits": {"limit": 200},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.25, 0.35], "resolution": [32], "pretrained": False},
    "distillation": {"teachers": ["squeezenet1_0"], "teacher_width": 0.25, "temperature": [4], "hard_weight": [0.5],
                     "soft_weight": [0.5], "feature_weight": [0.0]},
    "compression": ["fp16", "int8/channel"],
    "training": {"epochs": [1], "batch_size": 32, "device": "cpu", "inherit": False},  # whose weights depends on the order
    "search": {"sampler": "random", "trials": 50, "packages_per_training": 1},
}  # fmt: skip


def _search(folder: Path, **sections: Any) -> tuple[Run, str]:
    console = Console(file=io.StringIO(), width=140)
    with Screen(console) as screen:
        run = session.search(load_plan(None, STUDY | sections), folder, screen)
    assert isinstance(console.file, io.StringIO)
    return run, console.file.getvalue()


def _packages(run: Run) -> dict[str, tuple[str, dict[str, bytes], float]]:
    """Of each candidate the package's key, its files and its accuracy."""
    found = {}
    for result in run.results:
        assert isinstance(result.outcome, Scored), result
        package = result.outcome.package
        files = {str(path.relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}
        files.pop("Manifest.json")  # names its entries at random
        found[result.candidate.digest] = (package.parent.name, files, result.score["top1"].value)
    return found


def test_two_workers_make_the_packages_that_one_process_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both want the same teacher at once: it is trained once, and announced once."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as here: sums of other lengths are other sums
    alone, _ = _search(tmp_path / "alone")
    several, text = _search(tmp_path / "several", search=STUDY["search"] | {"workers": 2})
    assert len(alone.results) == 4 and _packages(several) == _packages(alone)
    assert text.count("teacher squeezenet1_0×0.25") == 1
    records = [json.loads(path.read_text()) for path in (tmp_path / "several").glob("store/train/*/record.json")]
    assert sorted(record["recipe"]["teacher"] or "none" for record in records) == ["none", *["squeezenet1_0"] * 2]
    assert list((tmp_path / "several" / "store" / ".work").iterdir()) == []


def test_a_worker_killed_in_training_costs_that_trial_and_the_next_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, told = list[int](), session._Session.step

    def step(self: session._Session, job: Job, step: Step) -> Verdict:
        if not killed:
            assert isinstance(self.crew, Pool)
            (seat,) = self.crew._seats
            assert seat.process
            killed.append(seat.process._process.pid)
            os.kill(killed[0], signal.SIGKILL)
        return told(self, job, step)

    monkeypatch.setattr(session._Session, "step", step)
    search = STUDY["search"] | {"workers": 1, "trials": 1}
    run, text = _search(tmp_path, search=search, distillation={"teachers": ["none"]})
    first, second = run.results
    assert isinstance(first.outcome, Failed) and re.match("SIGKILL, ", first.outcome.cause)
    assert isinstance(second.outcome, Scored) and killed
    assert "failed in worker: SIGKILL" in text and "(1/1)" in text
