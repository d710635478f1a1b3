"""A measurement on a Mac whose native Core ML is made up; coremltools' Python code above it is the real one."""

from __future__ import annotations

import itertools
import platform
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.devices.measurements import Details, Placement, Record
from coreml_pareto.objectives.measuring import local, power
from coreml_pareto.objectives.measuring.conditions import Conditions
from coreml_pareto.objectives.measuring.footprint import Footprint
from coreml_pareto.objectives.measuring.local import measure, require_macos
from coreml_pareto.objectives.measuring.placement import counts
from coreml_pareto.objectives.measuring.power import Energy, NoEnergy
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.objectives.program import content_digest, load
from coreml_pareto.spaces.errors import UserError


@pytest.fixture
def package(packages: dict[str, Path]) -> Path:
    return packages["fp16"]


def _run(package: Path, units: str = "ALL", *, with_energy: bool = False) -> Record:
    return measure(package, units, Protocol(), with_energy=with_energy)


def _details(found: Record) -> Details:
    assert found.details is not None
    return found.details


def test_a_record_says_everything_that_pooling_needs(core_ml: Any, package: Path) -> None:
    core_ml.clock = itertools.chain([10**9] * 30, itertools.cycle([2_000_000, 2_010_000, 2_020_000]))
    found = _run(package, "CPU_AND_NE")
    assert Record.model_validate_json(found.model_dump_json(), strict=True) == found
    assert found.compute_units == "CPU_AND_NE" and found.harness == local.HARNESS and found.back_to_back
    assert found.target == Target(find_device("MacBook Air 13 (M2)"), 18, "CPU_AND_NE")
    assert (found.device, found.os, found.os_build) == ("MacBook Air 13 (M2)", "15.1", "24B83")
    assert found.digest == content_digest(load(package))
    assert (found.rounds, found.predictions_per_round, found.warm_up >= 5) == (20, 50, True)
    details = _details(found)
    assert set(details.tools) == {"coreml-pareto", "coremltools", "numpy", "python"}
    assert (found.p10_ms, found.median_ms, found.p90_ms) == (2.0, 2.01, 2.02)
    assert details.python_median_ms is not None and len(details.round_medians_ms) == 20
    assert not any("never settled" in warning for warning in details.warnings)
    assert found.load1_ms > 0 and found.load2_ms is not None and found.load2_ms > 0
    # Twice from one compiled path, then once from the package, for its clock.
    assert core_ml.loads == [".mlmodelc CPU_AND_NE", ".mlmodelc CPU_AND_NE", ".mlpackage CPU_AND_NE"]


def test_the_plan_says_which_unit_each_operation_prefers(core_ml: Any, package: Path) -> None:
    found = _run(package)
    plan = _details(found).plan
    assert counts(plan)["CPU"] == 1 and counts(plan)["unknown"] == 1
    assert found.operations == Placement(neural_engine=len(plan) - 2, gpu=0, cpu=1)
    conv = next(one for one in plan if one.kind == "conv")
    assert conv.share == 0.25 and conv.supported == ("Neural Engine", "CPU")
    unknown = next(one for one in plan if one.preferred == "unknown")
    assert unknown.kind == "classify" and unknown.supported == () and unknown.share is None
    assert any("no unit for 1 of" in warning for warning in _details(found).warnings)


def test_without_plans_the_rest_is_measured(core_ml: Any, package: Path) -> None:
    core_ml.plan = False
    found = _run(package)
    assert found.operations is None and _details(found).plan == () and found.median_ms == 2.0
    assert any("needs macOS 14.4: MLComputePlan is not supported" in warning for warning in _details(found).warnings)


def test_a_load_that_raises(core_ml: Any, package: Path) -> None:
    core_ml.refused_units = {"CPU_AND_NE"}
    with pytest.raises(UserError, match=r"fp16\.mlpackage on CPU_AND_NE.*Failed to build.*code -14; try other"):
        _run(package, "CPU_AND_NE")
    assert _run(package, "CPU_ONLY").median_ms == 2.0


def test_a_prediction_that_raises_once(core_ml: Any, package: Path) -> None:
    core_ml.failing = itertools.chain([False] * 30, [True], itertools.repeat(False))
    found = _run(package)
    assert found.median_ms == 2.0
    assert "a prediction failed and was repeated: Error computing NN outputs." in _details(found).warnings


def test_predictions_that_always_raise(core_ml: Any, package: Path) -> None:
    core_ml.failing = itertools.repeat(True)
    with pytest.raises(UserError, match="2 failed, the last with: Error computing NN outputs"):
        _run(package)


def test_a_clock_that_never_settles(core_ml: Any, package: Path) -> None:
    core_ml.clock = itertools.cycle([1_000_000, 3_000_000])
    found = _run(package)
    assert found.warm_up == 500
    assert any("never settled: no 3 of 500" in warning for warning in _details(found).warnings)


def test_a_silent_clock_is_replaced_by_pythons(core_ml: Any, package: Path) -> None:
    core_ml.clock = itertools.repeat(None)
    found = _run(package)
    assert found.harness == f"{local.HARNESS}, Python's clock"
    assert found.median_ms == _details(found).python_median_ms


def test_memory_is_the_rise_of_the_footprint(core_ml: Any, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("memory is not measured" in warning for warning in _details(_run(package)).warnings)
    steps = itertools.count(1_000_000, 1000)
    watch = local.Watch
    monkeypatch.setattr(local, "Watch", lambda: watch(lambda: Footprint(next(steps), 9_000_000)))
    assert _details(_run(package)).footprint_bytes == 12_000


def test_a_hot_device_is_said(core_ml: Any, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _run(package)
    assert found.thermal is None and found.low_power is None and found.cold_ms is None
    fine, hot, saving = Conditions("nominal", False), Conditions("serious", False), Conditions("fair", True)
    for before, after, said in ((fine, hot, "serious"), (hot, fine, "serious"), (fine, saving, "low power mode is on")):
        states = iter([before, after])
        monkeypatch.setattr(local, "conditions", lambda states=states: next(states))
        with pytest.raises(UserError, match=rf"hot or saving power.*{said}.*measure again"):
            _run(package)
    states = iter([fine, Conditions("fair", False)])
    monkeypatch.setattr(local, "conditions", lambda: next(states))
    found = _run(package)
    assert found.thermal == "fair" and found.low_power is False


def test_energy_where_it_is_permitted_and_the_reason_where_not(
    core_ml: Any, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "energy", lambda predict: Energy(2.5, 2.0, 3.0, 80.0))
    assert _details(_run(package, with_energy=True)).energy == Energy(2.5, 2.0, 3.0, 80.0)

    def refuse(predict: object) -> Energy:
        raise NoEnergy("powermetrics needs the superuser")

    monkeypatch.setattr(power, "energy", refuse)
    found = _run(package, with_energy=True)
    assert _details(found).energy is None
    assert "energy is not measured: powermetrics needs the superuser" in _details(found).warnings
    assert _details(_run(package)).energy is None


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML is there")
def test_off_macos_the_other_ways_are_named() -> None:
    with pytest.raises(UserError, match=r"only macOS has; this is \w+.*phone in hand.*device-kit.*import-measurements"):
        require_macos("measure", "estimate")
