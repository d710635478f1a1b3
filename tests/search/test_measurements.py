"""A run and the measurements imported into it: readings follow, the record of the search stays, nothing half-imported."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.devices.measurements import Record
from coreml_pareto.objectives.latency import Measurement, latency
from coreml_pareto.objectives.measuring import worker
from coreml_pareto.objectives.measuring.local import HARNESS, measure
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.objectives.program import content_digest, costs, load
from coreml_pareto.objectives.reading import Score
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search.choose import front
from coreml_pareto.search.cli import main
from coreml_pareto.search.config import dump_plan, load_plan
from coreml_pareto.search.data import load_data
from coreml_pareto.search.delivery.calibration import calibration_package
from coreml_pareto.search.measurements import KEPT, READ_AGAIN, kept_evidence
from coreml_pareto.search.outcome import Infeasible, Scored
from coreml_pareto.search.run import Result
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.train import Step, Trainer
from coreml_pareto.search.store import Store
from coreml_pareto.search.study import Study, load_run
from coreml_pareto.search.trial import Laboratory
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe

NAMES = ("tiny", "activations", "weights")
TARGET = Target(find_device("iPhone 15 Pro"), 17)
PLAN: dict[str, Any] = {
    "name": "made-up",
    "networks": {"backbones": ["mobilenetv3_small", "squeezenet1_1"], "width": [0.35, 0.5], "resolution": [32, 48]},
    "training": {"epochs": [4]},
    "search": {"trials": 15, "sampler": "random"},
}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Answer]:
    """command("front", folder) -> exit code, stdout, stderr; the user's folder is a temporary one."""
    monkeypatch.setattr("coreml_pareto.search.measurements.user_folder", lambda: tmp_path / "user")

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
    """A run whose three trials are these packages, the larger the more accurate."""
    place, plan = tmp_path / "run", load_plan(None, PLAN)
    study = Study(place, plan, plan.space(10))
    (place / "study.yaml").write_text(dump_plan(plan))
    for number, name in enumerate(NAMES):
        package = place / "store" / "package" / name / "model.mlpackage"
        shutil.copytree(packages[name], package)
        made_up = result_at(number, (0.8 + 0.05 * number, 1.0, 5e5, 2e6, 0.1)).score
        study.tell(study.ask(), Scored({**made_up, **static_score(load(package), TARGET)}, package), 1.0)
    return place


def exported(folder: Path, factors: dict[str, float], path: Path, **fields: Any) -> Path:
    """A file of an iPhone 15 Pro that takes so many times its estimate for packages of the run."""
    rows, records = [], []
    for name, factor in factors.items():
        package = folder / "store" / "package" / name / "model.mlpackage"
        program = load(package)
        median = factor * static_score(program, TARGET)["latency_ms"].value
        digest = content_digest(program)
        rows.append(
            {"digest": digest, "name": f"{name} 🐦", "role": "front", "costs": [vars(row) for row in costs(program)]}
        )
        records.append(
            {
                "digest": digest, "device": "iPhone16,1", "os": "17.5.1", "os_build": "21F90", "harness": "test kit",
                "compute_units": "ALL", "median_ms": median, "p10_ms": 0.9 * median, "p90_ms": 1.2 * median,
                "load1_ms": 120.0, "load2_ms": 15.0, "rounds": 20, "predictions_per_round": 50, "warm_up": 7,
                "thermal": "nominal", "low_power": False, "measured_at": "2026-11-25T10:00:00Z",
            } | fields
        )  # fmt: skip
    plain = {"format": "coreml-pareto-measurements", "version": 1, "unit": "ms", "packages": rows, "records": records}
    path.write_text(json.dumps(plain), "utf-8")
    return path


def latencies(folder: Path) -> dict[int, tuple[str, float]]:
    scores = {result.trial: result.score["latency_ms"] for result in load_run(folder).results}
    return {trial: (reading.how, reading.value) for trial, reading in scores.items()}


def test_estimates_become_measured_or_corrected_and_the_record_stays(
    command: Callable[..., Answer], folder: Path, tmp_path: Path
) -> None:
    before, record = latencies(folder), (folder / "study.db").read_bytes()
    file = exported(folder, {"tiny": 2.0, "activations": 2.0}, tmp_path / "phone.json")
    answer = command("import-measurements", file, "--run", folder)
    assert answer.code == 0, answer
    assert "2 measured, 1 corrected" in answer.out and "ridge" in answer.out and "100%" not in answer.out
    after = latencies(folder)
    assert [after[trial][0] for trial in range(3)] == ["measured", "measured", "corrected"]
    assert [after[t][1] / before[t][1] for t in range(2)] == pytest.approx([2, 2], rel=1e-6)
    assert after[2][1] / before[2][1] == pytest.approx(2, rel=0.25)  # held back: two networks say little of its weights
    assert (folder / "study.db").read_bytes() == record
    for name in (KEPT, READ_AGAIN):
        (folder / name).unlink()
    assert latencies(folder) == before


def test_front_best_and_csv_follow_without_a_training(
    command: Callable[..., Answer], folder: Path, tmp_path: Path
) -> None:
    """The middle package, slower than the most accurate one by its estimate, turns out to be the faster of the two."""
    assert [result.trial for result in front(load_run(folder), ["accuracy", "latency"])] == [0, 2]
    estimated = [value for _, value in latencies(folder).values()]
    between = math.sqrt(estimated[0] * estimated[2]) / estimated[1]
    file = exported(folder, {"tiny": 1.0, "activations": between, "weights": 1.0}, tmp_path / "phone.json")
    assert command("import-measurements", file, "--run", folder).code == 0
    rows = json.loads(command("front", folder, "--objectives", "accuracy,latency", "--json").out)
    assert [(row["trial"], row["latency_ms_how"]) for row in rows] == [(n, "measured") for n in (0, 1, 2)]
    assert "measured on iPhone 15 Pro with test kit" in " ".join(command("front", folder).out.split())
    assert json.loads(command("best", folder, "--priority", "latency", "--json").out)[0]["trial"] == 0
    csv = (folder / "front.csv").read_text()
    assert csv.count("measured") == 2 * csv.count("iPhone 15 Pro") > 0  # latency_ms and fps


def test_packages_that_a_search_adds_later_are_read_again_too(
    command: Callable[..., Answer], folder: Path, tmp_path: Path
) -> None:
    file = exported(folder, {"tiny": 2.0, "activations": 2.0}, tmp_path / "phone.json")
    command("import-measurements", file, "--run", folder)
    expected = latencies(folder)
    stored = json.loads((folder / READ_AGAIN).read_text())
    del stored["readings"]["2"]
    (folder / READ_AGAIN).write_text(json.dumps(stored))
    assert latencies(folder) == expected
    for damaged in ("{", '{"of": 1}', "[]"):
        (folder / READ_AGAIN).write_text(damaged)
        assert latencies(folder) == expected


def test_a_package_that_is_gone_keeps_its_estimate(
    command: Callable[..., Answer], folder: Path, tmp_path: Path
) -> None:
    file = exported(folder, {"tiny": 2.0}, tmp_path / "phone.json")
    shutil.rmtree(folder / "store" / "package" / "weights")
    assert command("import-measurements", file, "--run", folder).code == 0
    assert [how for how, _ in latencies(folder).values()] == ["measured", "corrected", "estimated"]


def test_a_bad_file_imports_nothing(command: Callable[..., Answer], folder: Path, tmp_path: Path) -> None:
    good = exported(folder, {"tiny": 2.0}, tmp_path / "good.json")
    bad = exported(folder, {"activations": 2.0}, tmp_path / "bad.json", device="Pixel 9")
    answer = command("import-measurements", good, bad, "--run", folder)
    assert answer.code == 2 and answer.err.count("\n") == 1 and "bad.json, record 1" in answer.err
    assert not (folder / KEPT).exists() and not (folder / READ_AGAIN).exists() and not (folder / "front.csv").exists()


def test_a_file_imported_twice_counts_once_and_a_contradiction_is_refused(
    command: Callable[..., Answer], folder: Path, tmp_path: Path
) -> None:
    file = exported(folder, {"tiny": 2.0}, tmp_path / "phone.json")
    command("import-measurements", file, "--run", folder)
    kept = (folder / KEPT).read_text()
    assert command("import-measurements", file, "--run", folder).code == 0
    assert (folder / KEPT).read_text() == kept
    other = exported(folder, {"tiny": 3.0}, tmp_path / "other.json")
    answer = command("import-measurements", other, "--run", folder)
    assert answer.code == 2 and "came with two" in answer.err and (folder / KEPT).read_text() == kept


def test_another_device_changes_nothing_and_says_so(
    command: Callable[..., Answer], folder: Path, tmp_path: Path
) -> None:
    before = latencies(folder)
    file = exported(folder, {"tiny": 2.0}, tmp_path / "phone.json", device="iPhone 13")
    answer = command("import-measurements", file, "--run", folder)
    assert answer.code == 0 and "stay estimates" in " ".join(answer.out.split())
    assert latencies(folder) == before and (folder / KEPT).is_file()


def test_a_damaged_file_of_kept_measurements_is_bad_input(command: Callable[..., Answer], folder: Path) -> None:
    (folder / KEPT).write_text("{")
    answer = command("front", folder)
    assert answer.code == 2 and KEPT in answer.err and answer.err.count("\n") == 1


def test_without_a_run_estimate_follows(
    command: Callable[..., Answer], folder: Path, packages: dict[str, Path], tmp_path: Path
) -> None:
    plain = json.loads(command("estimate", packages["weights"], "--json").out)
    file = exported(folder, {"tiny": 2.0, "activations": 2.0}, tmp_path / "phone.json")
    answer = command("import-measurements", file, "--json")
    assert answer.code == 0
    (row,) = json.loads(answer.out)["corrections"]
    assert row["networks"] == 2 and row["error_before"] == pytest.approx(0.5) and row["error_left_out"] is None
    assert row["error_after"] < 0.15 and row["device"] == "iPhone 15 Pro"
    corrected = json.loads(command("estimate", packages["weights"], "--json").out)
    assert corrected["latency_ms_how"] == corrected["fps_how"] == "corrected"
    assert corrected["latency_ms"] == pytest.approx(2 * plain["latency_ms"], rel=0.25)
    assert "corrected for iPhone 15 Pro" in " ".join(command("estimate", packages["weights"]).out.split())
    assert json.loads(command("estimate", packages["tiny"], "--json").out)["latency_ms_how"] == "measured"
    other = json.loads(command("estimate", packages["weights"], "--device", "iPhone 14", "--json").out)
    assert other["latency_ms_how"] == "estimated"


def test_the_schema_is_printed_and_no_file_is_refused(command: Callable[..., Answer]) -> None:
    answer = command("import-measurements", "--schema")
    assert answer.code == 0 and json.loads(answer.out)["title"] == "Measurements"
    assert command("import-measurements").code == 2


def test_a_damaged_package_keeps_its_estimate(command: Callable[..., Answer], folder: Path, tmp_path: Path) -> None:
    file = exported(folder, {"tiny": 2.0}, tmp_path / "phone.json")
    (folder / "store/package/weights/model.mlpackage/Manifest.json").write_text("{")
    assert command("import-measurements", file, "--run", folder).code == 0
    assert [how for how, _ in latencies(folder).values()] == ["measured", "corrected", "estimated"]


class Nobody:
    """A witness that looks away."""

    def note(self, doing: str) -> None:
        pass

    def stage(self, name: str, seconds: float | None) -> None:
        pass

    def step(self, step: Step) -> None:
        pass

    def packaged(self, known: Score) -> None:
        pass


def test_a_search_that_goes_on_asks_by_what_was_measured(
    command: Callable[..., Answer], folder: Path, packages: dict[str, Path], tmp_path: Path
) -> None:
    """Limits and readings of new candidates follow the correction; a measured package has its own time."""
    assert kept_evidence(folder, TARGET) is None
    file = exported(folder, {"tiny": 2.0, "activations": 2.0}, tmp_path / "phone.json")
    command("import-measurements", file, "--run", folder)
    found = kept_evidence(folder, TARGET)
    data = load_data("digits", limit=300)
    store = Store(tmp_path / "store")
    laboratory = Laboratory(
        store=store, data=data, trainer=Trainer(store, data, "false", "cpu"),
        packager=Packager(store, data, {"seed": 0}), target=TARGET, limits={"latency": 1e9}, strict=False,
        teach=lambda name: pytest.fail(name), announce=lambda teacher: None,
    )  # fmt: skip
    network = Network(
        family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=32, classes=10, stem_stride=1
    )
    recipe = Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.01, batch_size=32)
    candidate = Candidate(network=network, recipe=recipe, compression=Compression())
    before = laboratory.probe(candidate)["latency_ms"]
    after = replace(laboratory, evidence=found).probe(candidate)["latency_ms"]
    assert (before.how, after.how) == ("estimated", "corrected") and after.value == pytest.approx(
        2 * before.value, rel=0.1
    )
    limited = replace(laboratory, evidence=found, limits={"latency": 1.5 * before.value})
    outcome = limited.evaluate(candidate, Nobody())
    assert isinstance(outcome, Infeasible) and outcome.limits == ("latency",)
    assert outcome.score["latency_ms"].how == "corrected"
    assert isinstance(replace(limited, evidence=None).evaluate(candidate, Nobody()), Scored)
    scored = replace(laboratory, evidence=found).evaluate(candidate, Nobody())
    assert isinstance(scored, Scored) and scored.score["latency_ms"].how == scored.score["fps"].how == "corrected"


def test_from_measure_to_new_readings_the_whole_way(
    command: Callable[..., Answer], folder: Path, core_ml: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run for a MacBook Air; Core ML (made up, 2 ms) measures one package there; the run's readings follow."""
    plan = load_plan(None, {**PLAN, "target": {"device": "MacBook Air 13 (M2)", "os": 17}})
    (folder / "study.yaml").write_text(dump_plan(plan))
    before = latencies(folder)

    def here(package: Path, units: str, protocol: Protocol, **_: object) -> Record:
        return measure(package, units, protocol, with_energy=False)

    monkeypatch.setattr(worker, "measure_apart", here)
    mac = tmp_path / "mac.json"
    package = folder / "store/package/tiny/model.mlpackage"
    assert command("measure", package, "--compute-units", "ALL", "--no-energy", "--out", mac).code == 0
    answer = command("import-measurements", mac, "--run", folder)
    assert answer.code == 0 and "1 measured, 2 corrected" in answer.out and HARNESS in answer.out
    after = latencies(folder)
    assert after[0] == ("measured", 2.0) and [after[n][0] for n in (1, 2)] == ["corrected"] * 2
    assert all(after[n] != before[n] for n in range(3))
    (row,) = json.loads(command("import-measurements", mac, "--run", folder, "--json").out)["corrections"]
    assert row["harness"] == HARNESS and row["networks"] == 1 and row["error_after"] < row["error_before"]


def test_what_the_search_measured_itself_is_not_corrected_away(
    command: Callable[..., Answer], folder: Path, result_at: Callable[..., Result], tmp_path: Path
) -> None:
    plan = load_plan(None, PLAN)
    study, package = Study(folder, plan, plan.space(10)), folder / "store/package/weights/model.mlpackage"
    own = latency(costs(load(package)), TARGET, Measurement(TARGET, 7.0, 6.0, 8.0, 1000, "the Mac itself"))
    study.tell(study.ask(), Scored({**result_at(3, (0.9, 1.0, 5e5, 2e6, 0.1)).score, **own}, package), 1.0)
    file = exported(folder, {"tiny": 2.0}, tmp_path / "phone.json")
    assert command("import-measurements", file, "--run", folder).code == 0
    found = latencies(folder)
    assert found[2][0] == "corrected" and found[3] == ("measured", 7.0)
