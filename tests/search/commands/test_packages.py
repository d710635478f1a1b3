"""`coreml-pareto evaluate` and `coreml-pareto estimate`, on a package that is trained and saved here."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from coreml_pareto.objectives.devices.catalogue import Target, devices
from coreml_pareto.objectives.devices.measurements import Measurements, Record
from coreml_pareto.objectives.latency import Measurement
from coreml_pareto.objectives.measuring import records
from coreml_pareto.objectives.program import Program, content_digest, load
from coreml_pareto.search import evaluation
from coreml_pareto.search.choose import front
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.measurements import keep
from coreml_pareto.search.rows import row
from coreml_pareto.search.run import Run
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.session import search

STUDY: dict[str, Any] = {
    "name": "one",
    "data": "digits",
    "splits": {"seed": 4},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.35], "resolution": [32], "pretrained": False},
    "compression": ["int8/channel"],
    "training": {"epochs": [1], "device": "cpu"},
    "search": {"trials": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real search of one trial, its splits drawn with a seed of its own."""
    with Screen(Console(file=io.StringIO())) as screen:
        return search(load_plan(None, STUDY), tmp_path_factory.mktemp("run"), screen)


@pytest.mark.parametrize(("split", "key"), [("validation", "top1"), ("test", "test_top1")])
def test_evaluate_reproduces_the_stored_readings(command: Callable[..., Any], run: Run, split: str, key: str) -> None:
    stored = row(front(run)[0], run)
    answer = command("evaluate", stored["package"], "--data", "digits", "--split", split, "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["split_seed"] == 4 and told["top1"] == stored[key]
    shared = set(told) & set(stored) - {"top1", "top5", "top1_low", "top1_high"}
    assert {
        "latency_ms",
        "size_bytes",
        "memory_bytes",
        "energy_mj",
        "macs",
        "minimum_os",
        "device",
        "battery",
    } <= shared
    assert {name: told[name] for name in shared} == {name: stored[name] for name in shared}
    assert told["notes"][-1] == "the pictures and splits are those of the package's own search"


def test_evaluate_for_people(command: Callable[..., Any], run: Run) -> None:
    answer = command("evaluate", row(front(run)[0], run)["package"], "--data", "digits")
    assert answer.code == 0
    for part in ("top-1", "latency", "~", "test images of digits", "Vision's .centerCrop", "iPhone 15 Pro"):
        assert part in answer.out


def test_estimate_needs_no_data_and_follows_the_target(command: Callable[..., Any], run: Run) -> None:
    package = row(front(run)[0], run)["package"]
    here = json.loads(command("estimate", package, "--json").out)
    there = json.loads(command("estimate", package, "--device", "iPhone 13", "--ios", "16", "--json").out)
    assert here["latency_ms"] == row(front(run)[0], run)["latency_ms"]
    assert there["os"] == "iOS 16" and there["device"] == "iPhone 13" and there["latency_ms"] != here["latency_ms"]
    assert "top1" not in here and here["size_bytes"] == there["size_bytes"]


def test_explain_tells_where_the_latency_goes(command: Callable[..., Any], run: Run) -> None:
    package = row(front(run)[0], run)["package"]
    told = json.loads(command("estimate", package, "--explain", "--json").out)
    found = told["explanation"]
    assert sum(part["ms"] for part in found["parts"]) == pytest.approx(told["latency_ms"], rel=1e-9)
    assert sum(part["share"] for part in found["parts"]) == pytest.approx(1)
    assert len(found["layers"]) == 5 and set(found["layers"][0]) == {"name", "kind", "operator", "shape", "ms", "share"}
    assert "explanation" not in json.loads(command("estimate", package, "--json").out)
    screen = command("estimate", package, "--explain").out
    for said in ("dispatch (t0)", "dense convolution", "1x1 convolution", "weights", "100 %", "Neural Engine go"):
        assert said in screen
    assert all(layer["name"] in screen for layer in found["layers"])
    assert "dispatch" not in command("estimate", package).out


def test_an_assumed_voltage_is_said(command: Callable[..., Any], run: Run) -> None:
    package = row(front(run)[0], run)["package"]
    assumed = next(d for d in devices() if d.battery_mah is not None and "assumed" in d.voltage[1])
    phone = ("--device", assumed.name)
    told = json.loads(command("estimate", package, *phone, "--json").out)
    assert told["battery"].endswith("3.85 V (assumed, none published)")
    assert told["battery"] in " ".join(command("estimate", package, *phone).out.split())


def test_a_measured_latency_is_never_said_to_be_estimated(
    command: Callable[..., Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = row(front(run)[0], run)["package"]
    without = " ".join(command("estimate", package).out.split())
    assert "no measurement of that device" in without and "latency measured" not in without

    def measure(program: Program, target: Target) -> Measurement:
        return Measurement(target, 0.5, 0.4, 0.6, 200, "a stopwatch")

    monkeypatch.setattr(evaluation, "own_measurement", measure)
    told = " ".join(command("evaluate", package, "--data", "digits").out.split())
    assert "latency measured on iPhone 15 Pro with a stopwatch (median of 200 predictions" in told
    assert "~ estimated for iPhone 15 Pro" in told and "no measurement" not in told


def test_what_was_imported_without_a_run_counts_for_estimate_and_evaluate(
    command: Callable[..., Any], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("coreml_pareto.search.measurements.user_folder", lambda: tmp_path)
    program = load(Path(row(front(run)[0], run)["package"]))
    record = Record(
        digest=content_digest(program), device="iPhone16,1", os="17.5.1", os_build="21F90", harness="test kit",
        compute_units="ALL", median_ms=4.0, p10_ms=3.0, p90_ms=5.0, load1_ms=9.0, load2_ms=3.0, rounds=20,
        predictions_per_round=50, warm_up=7, thermal="nominal", low_power=False, measured_at=records.now(),
    )  # fmt: skip
    keep(Measurements.of([records.package_of(program)], [record]), tmp_path)
    for arguments in (("estimate",), ("evaluate", "--data", "digits")):
        told = json.loads(command(arguments[0], str(program.path), *arguments[1:], "--json").out)
        assert (told["latency_ms"], told["latency_ms_how"], told["fps"]) == (4.0, "measured", 250.0)


def test_without_a_release_the_nearest_legal_one_is_taken(command: Callable[..., Any], run: Run) -> None:
    package = row(front(run)[0], run)["package"]
    assert json.loads(command("estimate", package, "--device", "iPhone 17", "--json").out)["os"] == "iOS 26"
    assert json.loads(command("estimate", package, "--device", "iPhone XS", "--json").out)["os"] == "iOS 17"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "digits", "--split", "all"], "a split is train, validation or test"),
        (["--data", "digits", "--seed", "1"], "seed 4; got --seed 1"),
        (["--data", "digits", "--mean", "0.5", "--std", "0.5"], "its own scale and bias apply"),
        (["--data", "digits", "--device", "Nokia"], "a device is named as in the catalogue"),
        (["--data", "digits", "--ios", "15"], "needs iOS 16 or newer"),
        (["--data", "digits", "--compute-units", "NPU"], "compute units are named"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_refusals(command: Callable[..., Any], run: Run, arguments: list[str], said: str) -> None:
    device = [] if "--device" in arguments or "--ios" not in arguments else ["--device", "iPhone 13"]
    answer = command("evaluate", row(front(run)[0], run)["package"], *arguments, *device)
    assert answer.code == 2 and answer.err.startswith("error: ") and said in answer.err


def test_other_classes_are_a_mismatch(command: Callable[..., Any], run: Run, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.new("RGB", (16, 16), (40 * number, 100, 20)).save(tmp_path / name / f"{number}.png")
    answer = command("evaluate", row(front(run)[0], run)["package"], "--data", str(tmp_path))
    assert answer.code == 2
    assert "only in the data: 'cat', 'dog'; only in the package: '0', '1', '2', '3', '4' and 5 more" in answer.err


@pytest.mark.parametrize("name", ["evaluate", "estimate"])
def test_no_package(command: Callable[..., Any], tmp_path: Path, name: str) -> None:
    data = ["--data", "digits"] if name == "evaluate" else []
    answer = command(name, str(tmp_path / "none.mlpackage"), *data)
    assert answer.code == 2 and "does not exist" in answer.err
