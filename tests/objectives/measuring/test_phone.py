"""A tethered iPhone: coremltools' own benchmarker on a phone whose transport (devicectl, Xcode) is made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.models.ml_program.experimental import async_wrapper, remote_device

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.devices.measurements import Record
from coreml_pareto.objectives.measuring import phone
from coreml_pareto.spaces.errors import UserError

DEVICE = find_device("iPhone 15 Pro")
CONNECTED = remote_device.Device(
    name="Somebody's iPhone", type=remote_device.DeviceType.IPHONE, identifier="1", udid="2", os_version="18.1",
    os_build_number="22B83", developer_mode_state="enabled", state=remote_device.DeviceState.CONNECTED, session=None,
)  # fmt: skip


class Service:
    """`_RemoteMLModelService`: what coremltools talks to on the phone."""

    load_duration_in_nano_seconds, last_predict_duration_in_nano_seconds = 90_000_000, 3_000_000

    def __init__(self, failure: Exception | None) -> None:
        self.failure, self.seen = failure, list[np.ndarray[Any, Any]]()

    async def load_on_device(self, **arguments: Any) -> Service:
        assert Path(arguments["compiled_model_path"]).name == "model.mlmodelc"
        assert arguments["compute_units"].name == "CPU_AND_NE"
        if self.failure is not None:
            raise self.failure
        return self

    async def predict(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        self.seen.append(inputs["image"])
        return {}

    async def unload(self) -> None:
        """Nothing to do."""


@pytest.fixture
def connect(core_ml: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """connect(phones, failure): so many iPhones at the cable, on which loads may fail."""

    def make(phones: int = 1, failure: Exception | None = None) -> Service:
        async def prepare(device: Any, credentials: Any = None, **_: Any) -> Any:
            assert credentials.development_team == "TEAM"
            return replace(device, os_version="18.1")

        service = Service(failure)
        monkeypatch.setattr(remote_device._DeviceCtl, "get_devices", staticmethod(lambda: [CONNECTED] * phones))
        monkeypatch.setattr(remote_device.Device, "prepare_for_model_debugging", prepare)
        monkeypatch.setattr(async_wrapper, "_RemoteMLModelService", service)
        return service

    return make


def _run(package: Path) -> Record:
    return phone.measure(package, "CPU_AND_NE", DEVICE, "TEAM")


def test_a_twin_is_measured_and_the_bias_is_said(connect: Any, packages: dict[str, Path]) -> None:
    service = connect()
    found = _run(packages["fp16"])
    assert found.device == DEVICE.identifier and found.target == Target(DEVICE, 18, "CPU_AND_NE")
    assert "Somebody" not in str(found)
    assert (found.os, found.os_build) == ("18.1", "22B83")
    assert found.median_ms == 3.0 and found.rounds * found.predictions_per_round == phone.PREDICTIONS
    assert found.load1_ms == 90.0 and found.load2_ms is None and not found.back_to_back
    assert found.details is not None and found.harness == phone.HARNESS and "too high" in found.details.warnings[0]
    assert len(service.seen) == phone.PREDICTIONS + 1
    assert {(one.shape, one.dtype.name) for one in service.seen} == {((1, 3, 16, 16), "float32")}


@pytest.mark.parametrize("phones", [0, 2])
def test_one_phone_at_a_time(connect: Any, packages: dict[str, Path], phones: int) -> None:
    connect(phones)
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
def test_what_xcode_and_devicectl_refuse(
    connect: Any, packages: dict[str, Path], failure: Exception, said: str
) -> None:
    connect(failure=failure)
    with pytest.raises(
        UserError, match=r"could not measure fp16\.mlpackage on the iPhone.*--team; .*device-kit"
    ) as told:
        _run(packages["fp16"])
    assert "\n" not in str(told.value) and said in str(told.value)
