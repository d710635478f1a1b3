"""Which machine this is, by what macOS says of it; its answers are made up, for these tests run anywhere."""

from __future__ import annotations

import json
import platform
import subprocess

import pytest

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.measuring import machine
from coreml_pareto.spaces.errors import UserError

AIR = Target(find_device("MacBook Air 13 (M2)"), 17, "CPU_AND_NE")
MAX = Target(find_device("MacBook Pro 14/16 (M1 Max)"), 17)


def _mac(monkeypatch: pytest.MonkeyPatch, version: str, **hardware: str) -> None:
    """Pretend to be a Mac; the answer has the form of macOS' system_profiler."""
    answer = json.dumps({"SPHardwareDataType": [{"_name": "hardware_overview", **hardware}]}).encode()
    machine.hardware.cache_clear()
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
    assert machine.is_this_machine(target) is expected


def test_off_macos_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not machine.is_this_machine(AIR)


def test_this_device_is_one_of_the_catalogue_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _mac(monkeypatch, "14.5", **AIR_M2)
    assert machine.this_device() == AIR.device
    _mac(monkeypatch, "14.5", machine_name="Mac", machine_model="Mac99,9", chip_type="Apple M9")
    assert machine.this_device() is None
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert machine.this_device() is None


def test_a_build_is_named_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 0, stdout="24B83\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert machine.build() == "24B83"
    answer.stdout = ""
    with pytest.raises(UserError, match="sw_vers -buildVersion"):
        machine.build()

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("sw_vers")

    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(UserError, match="could not be run"):
        machine.build()
