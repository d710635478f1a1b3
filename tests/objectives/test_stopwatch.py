"""Only the machine itself is measured; what Core ML would answer is made up, for these tests run anywhere."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_pareto.objectives import stopwatch
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.program import Program, load
from coreml_pareto.objectives.score import static_score

AIR = Target(find_device("MacBook Air 13 (M2)"), 17, "CPU_AND_NE")
MAX = Target(find_device("MacBook Pro 14/16 (M1 Max)"), 17)


def _mac(monkeypatch: pytest.MonkeyPatch, version: str, **hardware: str) -> None:
    """Pretend to be a Mac; the answer has the form of macOS' system_profiler."""
    answer = json.dumps({"SPHardwareDataType": [{"_name": "hardware_overview", **hardware}]}).encode()
    stopwatch.hardware.cache_clear()
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: (version, ("", "", ""), "arm64"))
    done = subprocess.CompletedProcess([], 0, stdout=answer)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)


AIR_M2 = {"machine_name": "MacBook Air", "machine_model": "Mac14,2", "chip_type": "Apple M2"}
PRO_M1_MAX = {"machine_name": "MacBook Pro", "machine_model": "MacBookPro18,2", "chip_type": "Apple M1 Max"}


@pytest.mark.parametrize(
    ("target", "version", "hardware", "expected"),
    [
        (AIR, "14.5", AIR_M2, True),
        (AIR, "15.1", AIR_M2, False),  # another system
        (AIR, "14.5", AIR_M2 | {"chip_type": "Apple M3"}, False),
        (AIR, "14.5", AIR_M2 | {"machine_name": "Mac mini"}, False),
        (AIR, "14.5", {}, False),
        (MAX, "14.0", PRO_M1_MAX, True),
        (MAX, "14.0", PRO_M1_MAX | {"machine_model": "MacBookPro18,1"}, False),
        (Target(AIR.device, 26), "26.1", AIR_M2, True),
        (Target(find_device("iPhone 15 Pro"), 17), "14.5", AIR_M2, False),
    ],
)
def test_the_target_is_this_machine(
    target: Target, version: str, hardware: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mac(monkeypatch, version, **hardware)
    assert stopwatch.is_this_machine(target) is expected


def test_off_macos_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not stopwatch.is_this_machine(AIR)


def test_this_device_is_one_of_the_catalogue_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _mac(monkeypatch, "14.5", **AIR_M2)
    assert stopwatch.this_device() == AIR.device
    _mac(monkeypatch, "14.5", machine_name="Mac", machine_model="Mac99,9", chip_type="Apple M9")
    assert stopwatch.this_device() is None
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert stopwatch.this_device() is None


class Steady:
    """Core ML that takes 1 ms, 2 ms, ... after slow first predictions."""

    def __init__(self, path: Path, compute_units: str) -> None:
        assert compute_units == "CPU_AND_NE" and path.suffix == ".mlpackage"

    def seconds(self, image: np.ndarray[Any, Any], predictions: int) -> list[float]:
        assert image.shape == (16, 16, 3)
        timed = predictions - stopwatch.WARM_UP
        return [9.0] * stopwatch.WARM_UP + [(1 + place) / 1000 for place in range(timed)]


@pytest.fixture
def program(packages: dict[str, Path]) -> Program:
    return load(packages["fp16"])


def test_a_measurement_is_a_reading_of_its_target(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stopwatch.measure(program, AIR) is None
    assert static_score(program, AIR)["latency_ms"].how == "estimated"
    _mac(monkeypatch, "14.5", **AIR_M2)
    monkeypatch.setattr(stopwatch, "CoreMLRunner", Steady)
    reading = static_score(program, AIR, stopwatch.measure(program, AIR))["latency_ms"]
    assert reading.how == "measured"
    assert (reading.low, reading.value, reading.high) == pytest.approx((20.9, 100.5, 180.1))
    assert reading.conditions["stopwatch"] == stopwatch.STOPWATCH
    assert reading.conditions["os"] == "macOS 14"
