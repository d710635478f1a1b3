"""Only the machine itself is measured, by the one protocol; its Core ML is made up."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.devices.measurements import Record
from coreml_pareto.objectives.measuring import local, own, worker
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.objectives.program import Program, load
from coreml_pareto.objectives.score import static_score

AIR = Target(find_device("MacBook Air 13 (M2)"), 18, "CPU_AND_NE")


@pytest.fixture
def program(packages: dict[str, Path]) -> Program:
    return load(packages["fp16"])


def _here(package: Path, units: str, protocol: Protocol, *, with_energy: bool, patience: float) -> Record:
    assert protocol == Protocol() and not with_energy and patience > 0
    return local.measure(package, units, protocol, with_energy=with_energy)


def test_off_the_machine_it_is_estimated(program: Program) -> None:
    assert own.own_measurement(program, AIR) is None
    assert static_score(program, AIR)["latency_ms"].how == "estimated"


def test_a_measurement_is_a_reading_of_its_target(
    core_ml: Any, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Core ML that takes 1, 2, ... 1000 us once 10 first predictions and a warm-up of 5 are over."""
    monkeypatch.setattr(worker, "measure_apart", _here)
    core_ml.clock = itertools.chain([9_000_000] * 15, (1000 * n for n in range(1, 1001)))
    found = own.own_measurement(program, AIR)
    assert found is not None and found.predictions == 1000
    reading = static_score(program, AIR, found)["latency_ms"]
    assert reading.how == "measured"
    assert (reading.low, reading.value, reading.high) == pytest.approx((0.1009, 0.5005, 0.9001))
    assert reading.conditions["stopwatch"] == f"{local.HARNESS} (system 15.1, build 24B83)"
    assert reading.conditions["os"] == "macOS 15"
    assert own.own_measurement(program, Target(AIR.device, 17)) is None  # another system
    assert own.own_measurement(program, Target(find_device("Mac mini (M4)"), 18)) is None
