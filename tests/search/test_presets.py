"""Every preset runs: a few trials on digits, one epoch each, and an answer at the end."""

from __future__ import annotations

import io
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from coreml_pareto.search.choose import Recommendation, recommend
from coreml_pareto.search.config import load_plan, presets
from coreml_pareto.search.report.summary import print_run
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.session import search
from coreml_pareto.search.study import FIXED

QUICK = {
    "data": "digits",
    "splits": {"limit": 300},
    "networks": {"width": [0.35, 0.5], "resolution": [32], "pretrained": False},
    "distillation": {"teachers": ["none", "mobilenetv3_large"], "teacher_width": 0.35, "teacher_resolution": 32},
    "training": {"epochs": [1], "device": "cpu"},
}
LONGEST = "quickstart"
"""Of each training one package: here its third baseline, the fifth, is waited for."""


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_ends_with_a_front_and_a_recommendation(name: str, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=100)
    trials = 5 if name == LONGEST else 3
    asked = QUICK | {"search": {"trials": trials, "packages_per_training": 1}}
    with Screen(console) as screen:
        run = search(load_plan(name, asked), tmp_path, screen)
    print_run(run, console)
    assert isinstance(console.file, io.StringIO)
    assert isinstance(recommend(run), Recommendation)
    assert len(run.scored()) == trials
    families = {r.candidate.network.family for r in run.scored()}
    assert families == {"mobilenet", "efficientnet", "squeezenet"} if name == LONGEST else len(families) > 1
    assert f"{trials} packages from" in console.file.getvalue()
    record = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path / 'study.db'}").trials
    assert all(FIXED in trial.system_attrs for trial in record[:trials])
    assert set(record[1].params) >= {"family", "width", "teacher", "compression"}
