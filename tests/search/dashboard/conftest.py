"""A run folder as a search leaves it: told by `Study`, with a limit that some trials break, and a package on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from coreml_pareto.objectives.reading import exact
from coreml_pareto.search.config import Plan, dump_plan, load_plan
from coreml_pareto.search.outcome import Failed, Infeasible, Outcome, Pruned, Scored
from coreml_pareto.search.run import Result
from coreml_pareto.search.study import Study

HOSTILE = "<script>alert('a')</script> `x` | [y](javascript:z) \u202eטקסט\u202c 🐦\nnext"
PACKAGE = Path("store/package/0123abcd/model.mlpackage")


class Recorded(NamedTuple):
    """A run folder and what every trial is: numbers of those that break the limit, and of the feasible front."""

    folder: Path
    plan: Plan
    study: Study
    infeasible: set[int]
    best: set[int]
    package: Path
    hostile: str


def plan_of(**sections: Any) -> Plan:
    """A plan with one limit, 1 MB, on two axes."""
    content: dict[str, Any] = {
        "name": "birds", "data": "digits", "networks": {"backbones": ["squeezenet1_1"], "width": [0.35, 0.5, 1.0]},
        "compression": ["fp16", "int8/channel"], "objectives": ["accuracy", "size"], "limits": {"size": "1MB"},
        "training": {"epochs": [4, 8]}, "search": {"trials": 15, "seed": 5},
    }  # fmt: skip
    return load_plan(None, content | sections)


@pytest.fixture
def scored(result_at: Callable[..., Result]) -> Callable[[Path, float, float], Scored]:
    """scored(folder, top1, size): a package in that run folder."""

    def make(folder: Path, top1: float, size: float) -> Scored:
        score = result_at(0, (top1, 0.5, size, 2e6, 0.1)).score
        return Scored(score, folder / PACKAGE, {"training": "4567"})

    return make


def tell(study: Study, outcome: Outcome) -> int:
    """Ask for one more candidate and tell it."""
    return study.tell(study.ask(), outcome, 1.5)


@pytest.fixture(name="plan_of")
def plan_of_fixture() -> Callable[..., Plan]:
    return plan_of


@pytest.fixture(name="tell")
def tell_fixture() -> Callable[[Study, Outcome], int]:
    return tell


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run folder that every test gets a copy of is made, by the first one."""
    return tmp_path_factory.mktemp("recorded") / "run"


@pytest.fixture
def recorded(tmp_path: Path, templates: Path, scored: Callable[[Path, float, float], Scored]) -> Recorded:
    """Trials 0 and 3 are the front; 1 is dominated; 2, over the limit, would beat 3; 4 was refused; 5 stopped; 6 failed."""
    plan, folder = plan_of(), tmp_path / "run"
    if not templates.exists():
        _record(templates, plan, scored)
    shutil.copytree(templates, folder)
    study = Study(folder, plan, plan.space(classes=10))
    return Recorded(folder, plan, study, {2, 4}, {0, 3}, folder / PACKAGE, HOSTILE)


def _record(folder: Path, plan: Plan, scored: Callable[[Path, float, float], Scored]) -> None:
    study = Study(folder, plan, plan.space(classes=10))
    package = folder / PACKAGE
    (package / "Data").mkdir(parents=True)
    (package / "Manifest.json").write_text("{}")
    (package / "Data" / "weight.bin").write_bytes(bytes(range(256)) * 100)
    (folder / "study.yaml").write_text(dump_plan(plan))
    (folder / "request.json").write_text(json.dumps({}))
    study.note("classes", [f"{number}" for number in range(10)])
    told: list[Outcome] = [
        scored(folder, 0.8, 2e5), scored(folder, 0.7, 9e5), scored(folder, 0.99, 2e6), scored(folder, 0.9, 8e5),
        Infeasible(("size",), {"size_bytes": exact(3e6, "B")}), Pruned("cannot enter the front", {}, (0.2, 0.3)),
        Failed("training", HOSTILE),
    ]  # fmt: skip
    for outcome in told:
        tell(study, outcome)
