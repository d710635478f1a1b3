"""A tethered iPhone: coremltools' own benchmarker on a phone whose transport (devicectl, Xcode) is made up."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coremltools.models.ml_program.experimental import remote_device

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.devices.measurements import Record
from coreml_pareto.objectives.measuring import phone, worker
from coreml_pareto.spaces.errors import UserError

DEVICE = find_device("iPhone 15 Pro")


def _run(package: Path) -> Record:
    return phone.measure(package, "CPU_AND_NE", DEVICE, "TEAM")


def test_a_twin_is_measured_and_the_bias_is_said(iphone: Any, packages: dict[str, Path]) -> None:
    cable = iphone()
    found = _run(packages["fp16"])
    assert found.device == DEVICE.identifier and found.target == Target(DEVICE, 18, "CPU_AND_NE")
    assert "Somebody" not in str(found)
    assert (found.os, found.os_build) == ("18.1", "22B83")
    assert found.median_ms == 3.0 and found.rounds * found.predictions_per_round == phone.PREDICTIONS
    assert found.load1_ms == 90.0 and found.load2_ms is None and not found.back_to_back
    assert found.details is not None and found.harness == phone.HARNESS and "too high" in found.details.warnings[0]
    assert len(cable.seen) == phone.PREDICTIONS + 1
    assert {(one.shape, one.dtype.name) for one in cable.seen} == {((1, 3, 16, 16), "float32")}


@pytest.mark.parametrize("phones", [0, 2])
def test_one_phone_at_a_time(iphone: Any, packages: dict[str, Path], phones: int) -> None:
    iphone(phones=phones)
    with pytest.raises(UserError, match=rf"one connected iPhone is measured at a time; {phones} are.*device-kit"):
        _run(packages["fp16"])


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (remote_device._DeviceCtlError("not\npermitted", 7), "not permitted"),
        (ValueError("The 'xcodebuild' command is required."), "xcodebuild"),
        (AttributeError("'NoneType' object has no attribute 'error'"), "no answer in time"),
        (KeyError(), "KeyError"),
    ],
)
def test_what_xcode_and_devicectl_refuse(iphone: Any, packages: dict[str, Path], failure: Exception, said: str) -> None:
    iphone(failure=failure)
    with pytest.raises(
        UserError, match=r"could not measure fp16\.mlpackage on the iPhone.*--team; .*device-kit"
    ) as told:
        _run(packages["fp16"])
    assert "\n" not in str(told.value) and said in str(told.value)


# --- a process of its own ---------------------------------------------------------------------------------------------


def _apart(package: Path, patience: float, predictions: int = 20) -> Record:
    return worker.measure_on_phone(package, "CPU_AND_NE", DEVICE, "TEAM", predictions=predictions, patience=patience)


def test_a_record_comes_back_with_as_many_predictions_as_asked(
    iphone_apart: Callable[..., None], packages: dict[str, Path]
) -> None:
    iphone_apart()
    found = _apart(packages["fp16"], patience=300, predictions=23)
    assert found.device == DEVICE.identifier and found.median_ms == 3.0
    assert found.rounds == 1 and found.predictions_per_round == 23 and not found.back_to_back


def test_a_refusal_comes_back(iphone_apart: Callable[..., None], packages: dict[str, Path]) -> None:
    iphone_apart(phones=2)
    with pytest.raises(UserError, match="one connected iPhone is measured at a time; 2 are"):
        _apart(packages["fp16"], patience=300)


@pytest.mark.parametrize("stalled", ["list", "load"])
def test_a_phone_that_stalls_is_given_up(
    iphone_apart: Callable[..., None], packages: dict[str, Path], stalled: str
) -> None:
    """In a call that blocks, as devicectl's do: no event loop would come to its timeout."""
    iphone_apart(stalled=stalled)
    with pytest.raises(UserError) as told:
        _apart(packages["fp16"], patience=20)
    assert str(told.value) == (
        "a measurement on the iPhone ends within 20 s; fp16.mlpackage on CPU_AND_NE gave no answer and was stopped; unlock "
        "the phone, put its cable in anew and try again; or raise --patience, or leave these compute units out"
    )


def test_what_the_process_started_ends_with_it(
    packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """xcodebuild and devicectl: one that goes on holds the phone."""
    note = tmp_path / "pid"
    script = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); time.sleep(600)"
    )
    monkeypatch.setattr(worker, "COMMAND", (sys.executable, "-c", script))
    with pytest.raises(UserError, match="within 10 s"):
        _apart(packages["fp16"], patience=10)
    assert _ends(int(note.read_text()))


def _ends(pid: int) -> bool:
    """Whether a process is gone soon, or dead and not yet fetched by whoever adopted it; a living one is ended here."""
    for _ in range(50):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    return False
