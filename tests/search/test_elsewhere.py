"""A finished run on another device: exact readings stay, estimates are those of the packages there, what is missing is named."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.devices.measurements import Measurements, Record
from coreml_pareto.objectives.measuring import records
from coreml_pareto.objectives.measuring.records import package_of
from coreml_pareto.objectives.program import Program, content_digest, load
from coreml_pareto.objectives.reading import exact
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search.choose import front
from coreml_pareto.search.cli import main
from coreml_pareto.search.config import dump_plan, load_plan
from coreml_pareto.search.delivery.calibration import calibration_package
from coreml_pareto.search.elsewhere import elsewhere
from coreml_pareto.search.measurements import import_into
from coreml_pareto.search.outcome import Infeasible, Pruned, Scored
from coreml_pareto.search.report.again import told_again
from coreml_pareto.search.run import Result
from coreml_pareto.search.store import Store
from coreml_pareto.search.study import Study, load_run
from coreml_pareto.spaces.compression import parse

NAMES = ("tiny", "activations", "weights")
OWN, OTHER = Target(find_device("iPhone 15 Pro"), 17), Target(find_device("iPhone 12"), 17, "CPU_ONLY")
FLAGS = ("--device", "iPhone 12", "--compute-units", "CPU_ONLY")
PLAN: dict[str, Any] = {
    "name": "made-up",
    "networks": {"backbones": ["mobilenetv3_small", "squeezenet1_1"], "width": [0.35, 0.5], "resolution": [32, 48]},
    "compression": ["fp16"],
    "limits": {"size": "1MB", "latency": "1s", "accuracy": 0.5},
    "training": {"epochs": [4]},
    "search": {"trials": 15, "sampler": "random"},
}


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three real packages, by name."""
    store = Store(tmp_path_factory.mktemp("packages"))
    return {name: calibration_package(name, store) for name in NAMES}


@pytest.fixture
def folder(packages: dict[str, Path], result_at: Callable[..., Result], tmp_path: Path) -> Path:
    """A run whose first three trials are these packages; then three refused, for size or latency, and one stopped."""
    place, plan = tmp_path / "run", load_plan(None, PLAN)
    study = Study(place, plan, plan.space(10))
    (place / "study.yaml").write_text(dump_plan(plan))
    for number, name in enumerate(NAMES):
        package = place / "store" / "package" / name / "model.mlpackage"
        shutil.copytree(packages[name], package)
        made_up = result_at(number, (0.8 + 0.05 * number, 1.0, 5e5, 2e6, 0.1)).score
        study.tell(study.ask(), Scored({**made_up, **static_score(load(package), OWN)}, package), 1.0)
    slow = static_score(load(packages["tiny"]), OWN)["latency_ms"]
    for size in (2e6, 9e6):
        study.tell(study.ask(), Infeasible(("size",), {"size_bytes": exact(size, "B")}), 0.0)
    study.tell(study.ask(), Infeasible(("latency",), {"latency_ms": replace(slow, value=2e3, high=9e3)}), 0.0)
    study.tell(study.ask(), Pruned("it cannot win", {}, (0.1, 0.2)), 0.0)
    return place


def test_the_readings_are_those_of_the_saved_packages_there(folder: Path) -> None:
    run = load_run(folder)
    found = elsewhere(run, OTHER)
    assert found.run.target == OTHER and not found.newer and not found.gone
    for before, after in zip(run.scored(), found.run.scored(), strict=True):
        assert isinstance(after.outcome, Scored)
        there = static_score(load(after.outcome.package), OTHER)
        assert {name: after.score[name] for name in there} == there
        assert {name for name in after.score if name not in there} == {"top1", "top5"}
        for name in ("top1", "top5", "size_bytes", "bits_per_weight", "macs"):
            assert after.score[name] == before.score[name]
        assert after.score["latency_ms"].value > before.score["latency_ms"].value
    assert elsewhere(run, OWN).run is run
    assert "energy_mah" not in elsewhere(run, Target(find_device("iPad (10th gen)"), 17)).run.scored()[0].score


def test_front_and_best_decide_by_them_and_say_whose_they_are(command: Callable[..., Answer], folder: Path) -> None:
    expected = elsewhere(load_run(folder), OTHER).run
    table = folder / "there.csv"
    answer = command("front", folder, *FLAGS, "--json", "--csv", table)
    assert answer.code == 0 and "the search was for iPhone 15 Pro / iOS 17 / ALL" in answer.err
    rows = json.loads(answer.out)
    assert [row["trial"] for row in rows] == [result.trial for result in front(expected)]
    whose = {(row["device"], row["os"], row["compute_units"]) for row in rows}
    assert whose == {("iPhone 12", "iOS 17", "CPU_ONLY")}
    with table.open() as lines:
        read = list(csv.DictReader(lines))
    assert [(int(row["trial"]), float(row["latency_ms"]), row["device"]) for row in read] == [
        (row["trial"], row["latency_ms"], "iPhone 12") for row in rows
    ]
    for name in ("front", "best"):
        text = " ".join(command(name, folder, *FLAGS).out.split())
        assert "For iPhone 12 / iOS 17 / CPU_ONLY: 3 packages read again, nothing trained" in text
        assert "~ estimated for iPhone 12 / iOS 17 / CPU_ONLY (CPU)" in text
    bound = min(result.score["latency_ms"].value for result in expected.scored()) * 1.0001
    (only,) = json.loads(command("front", folder, *FLAGS, "--max-latency", f"{bound}ms", "--json").out)
    assert only["latency_ms"] <= bound
    assert command("best", folder, "--device", "iPhone 999").code == 2


@pytest.mark.parametrize(
    ("arguments", "told", "untold"),
    [
        ((), (), ("not trained", "stopped early", "--resume")),
        (("--max-size", "5MB"), ("1 candidate was not trained because of the run's limit size ≤ 1MB", "--resume"), ("stopped",)),
        (("--max-size", "9MB"), ("2 candidates were not trained because of the run's limit size ≤ 1MB",), ("latency ≤",)),
        (("--max-latency", "3s"), ("1 candidate was not trained because of the run's limit latency ≤ 1s",), ("size ≤",)),
        (("--min-top1", "0.1"), ("1 candidate was stopped early, without a chance",), ("not trained",)),
        (FLAGS, ("1 candidate was not trained because of the run's limit latency ≤ 1s", "was stopped early"), ("size ≤",)),
    ],
)  # fmt: skip
def test_what_the_runs_own_terms_kept_out_is_named(
    command: Callable[..., Answer],
    folder: Path,
    arguments: tuple[str, ...],
    told: tuple[str, ...],
    untold: tuple[str, ...],
) -> None:
    """The latency of a candidate that was refused by it is not known on another device."""
    for name in ("front", "best"):
        said = command(name, folder, *arguments, "--json").err
        assert all(part in said for part in told), said
        assert not any(part in said for part in untold), said


def test_packages_that_the_system_does_not_open_or_that_are_gone_are_left_out_and_named(
    command: Callable[..., Answer], folder: Path
) -> None:
    run = load_run(folder)
    first, *rest = run.results
    blocks = first.candidate.model_copy(update={"compression": parse("int4/block-32")})
    found = elsewhere(replace(run, results=(replace(first, candidate=blocks), *rest)), OTHER)
    assert [result.trial for result in found.newer] == [0] and [r.trial for r in found.run.scored()] == [1, 2]
    told = told_again(run, found, run.limits)
    assert told[:2] == [
        "For iPhone 12 / iOS 17 / CPU_ONLY: 2 packages read again, nothing trained; the search was for iPhone 15 Pro / "
        "iOS 17 / ALL.",
        "1 package needs a newer system than iOS 17: left out.",
    ]
    shutil.rmtree(folder / "store" / "package" / "tiny")
    found = elsewhere(run, OTHER)
    assert [result.trial for result in found.gone] == [0] and [r.trial for r in found.run.scored()] == [1, 2]
    assert "1 package is gone or damaged" in command("front", folder, *FLAGS, "--json").err


def _measured(program: Program, median: float) -> Record:
    return Record(
        digest=content_digest(program), device="iPhone13,2", os="17.5.1", os_build="21F90", harness="test kit",
        compute_units="CPU_ONLY", median_ms=median, p10_ms=median, p90_ms=median, load1_ms=9.0, load2_ms=3.0, rounds=20,
        predictions_per_round=50, warm_up=7, thermal="nominal", low_power=False, measured_at=records.now(),
    )  # fmt: skip


def test_imported_measurements_of_that_device_count(folder: Path, packages: dict[str, Path]) -> None:
    """They change nothing on the run's own device."""
    own = load_run(folder)
    program = load(packages["tiny"])
    half = 0.5 * static_score(program, OTHER)["latency_ms"].value
    import_into(own, Measurements.of([package_of(program)], [_measured(program, half)]))
    there = elsewhere(load_run(folder), OTHER).run.scored()
    assert [result.score["latency_ms"].how for result in there] == ["measured", "corrected", "corrected"]
    assert there[0].score["latency_ms"].value == half
    assert [r.score for r in load_run(folder).scored()] == [r.score for r in own.scored()]
