"""A measurement on a Mac whose native Core ML is made up; coremltools' Python code above it is the real one."""

from __future__ import annotations

import itertools
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.measuring import local, power
from coreml_pareto.objectives.measuring.conditions import Conditions
from coreml_pareto.objectives.measuring.footprint import Footprint
from coreml_pareto.objectives.measuring.local import measure, require_macos
from coreml_pareto.objectives.measuring.power import Energy, NoEnergy
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.objectives.measuring.records import SCHEMA, package_digest
from coreml_pareto.spaces.errors import UserError


@pytest.fixture
def package(packages: dict[str, Path]) -> Path:
    return packages["fp16"]


def _run(package: Path, units: str = "ALL", *, with_energy: bool = False) -> dict[str, Any]:
    return measure(package, units, Protocol(), with_energy=with_energy)


def test_a_record_says_everything_that_pooling_needs(core_ml: Any, package: Path) -> None:
    core_ml.clock = itertools.chain([10**9] * 30, itertools.cycle([2_000_000, 2_010_000, 2_020_000]))
    found = _run(package, "CPU_AND_NE")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["schema"] == SCHEMA and found["compute_units"] == "CPU_AND_NE"
    assert found["device"] == {"name": "MacBook Air 13 (M2)", "identifier": "Mac14,2", "soc": "M2"}
    assert found["os"] == {"name": "macOS", "version": "15.1", "build": None}
    assert found["package"] == {"name": "fp16.mlpackage", "digest": package_digest(package)}
    assert found["protocol"]["rounds"] == 20 and found["protocol"]["predictions"] == 50
    assert set(found["tools"]) == {"coreml-pareto", "coremltools", "numpy", "python"}
    latency = found["latency"]
    assert (latency["unit"], latency["clock"], latency["n"]) == ("ms", "Core ML", 1000)
    assert latency["p10"] == 2.0 and latency["median"] == 2.01 and latency["p90"] == 2.02
    assert found["latency_python"]["n"] == 1000 and len(found["round_medians_ms"]) == 20
    assert found["warm_up"]["stable"]
    assert all(found[name]["unit"] == "ms" and found[name]["value"] > 0 for name in ("first_load", "second_load"))
    # Twice from one compiled path, then once from the package, for its clock.
    assert core_ml.loads == [".mlmodelc CPU_AND_NE", ".mlmodelc CPU_AND_NE", ".mlpackage CPU_AND_NE"]


def test_the_plan_says_which_unit_each_operation_prefers(core_ml: Any, package: Path) -> None:
    found = _run(package)
    plan = found["placement"]
    assert plan["preferred"]["CPU"] == 1 and plan["preferred"]["unknown"] == 1
    assert plan["preferred"]["Neural Engine"] == len(plan["operations"]) - 2
    conv = next(one for one in plan["operations"] if one["kind"] == "conv")
    assert conv["share"] == 0.25 and conv["supported"] == ["Neural Engine", "CPU"]
    unknown = next(one for one in plan["operations"] if one["preferred"] == "unknown")
    assert unknown["kind"] == "classify" and unknown["supported"] == [] and unknown["share"] is None
    assert any("no unit for 1 of" in warning for warning in found["warnings"])


def test_without_plans_the_rest_is_measured(core_ml: Any, package: Path) -> None:
    core_ml.plan = False
    found = _run(package)
    assert found["placement"] is None and found["latency"]["n"] == 1000
    assert any("needs macOS 14.4: MLComputePlan is not supported" in warning for warning in found["warnings"])


def test_a_load_that_raises(core_ml: Any, package: Path) -> None:
    core_ml.refused_units = {"CPU_AND_NE"}
    with pytest.raises(UserError, match=r"fp16\.mlpackage on CPU_AND_NE.*Failed to build.*code -14; try other"):
        _run(package, "CPU_AND_NE")
    assert _run(package, "CPU_ONLY")["latency"]["n"] == 1000


def test_a_prediction_that_raises_once(core_ml: Any, package: Path) -> None:
    core_ml.failing = itertools.chain([False] * 30, [True], itertools.repeat(False))
    found = _run(package)
    assert found["latency"]["n"] == 1000
    assert "a prediction failed and was repeated: Error computing NN outputs." in found["warnings"]


def test_predictions_that_always_raise(core_ml: Any, package: Path) -> None:
    core_ml.failing = itertools.repeat(True)
    with pytest.raises(UserError, match="2 failed, the last with: Error computing NN outputs"):
        _run(package)


def test_a_clock_that_never_settles(core_ml: Any, package: Path) -> None:
    core_ml.clock = itertools.cycle([1_000_000, 3_000_000])
    found = _run(package)
    assert found["warm_up"] == {"predictions": 500, "stable": False}
    assert any("never settled: no 3 of 500" in warning for warning in found["warnings"])


def test_a_silent_clock_is_replaced_by_pythons(core_ml: Any, package: Path) -> None:
    core_ml.clock = itertools.repeat(None)
    found = _run(package)
    assert found["latency"]["clock"] == "Python"
    assert found["latency"]["median"] == found["latency_python"]["median"]


def test_memory_is_the_rise_of_the_footprint(core_ml: Any, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("memory is not measured" in warning for warning in _run(package)["warnings"])
    steps = itertools.count(1_000_000, 1000)
    watch = local.Watch
    monkeypatch.setattr(local, "Watch", lambda: watch(lambda: Footprint(next(steps), 9_000_000)))
    found = _run(package)["peak_footprint"]
    assert found == {"unit": "bytes", "value": 12_000, "above": "the process before the first load"}


def test_a_hot_device_is_said(core_ml: Any, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _run(package)
    assert found["conditions"] == {"before": None, "after": None} and found["latency_cold"] is None
    states = iter([Conditions("nominal", False), Conditions("serious", False)])
    monkeypatch.setattr(local, "conditions", lambda: next(states))
    found = _run(package)
    assert found["conditions"]["after"] == {"thermal": "serious", "low_power": False}
    assert any("hot or saving power" in warning for warning in found["warnings"])


def test_energy_where_it_is_permitted_and_the_reason_where_not(
    core_ml: Any, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "energy", lambda predict: Energy(2.5, 2.0, 3.0, 80.0))
    assert _run(package, with_energy=True)["energy"]["median"] == 2.5

    def refuse(predict: object) -> Energy:
        raise NoEnergy("powermetrics needs the superuser")

    monkeypatch.setattr(power, "energy", refuse)
    found = _run(package, with_energy=True)
    assert found["energy"] is None
    assert "energy is not measured: powermetrics needs the superuser" in found["warnings"]
    assert _run(package)["energy"] is None


def test_the_digest_is_of_the_content(package: Path, packages: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "other.mlpackage"
    shutil.copytree(package, copy)
    (copy / "Manifest.json").write_text((copy / "Manifest.json").read_text() + "\n")
    assert package_digest(copy) == package_digest(package) != package_digest(packages["int8"])


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML is there")
def test_off_macos_the_other_ways_are_named() -> None:
    with pytest.raises(UserError, match=r"only macOS has; this is \w+.*phone in hand.*device-kit.*import-measurements"):
        require_macos("measure", "estimate")
