"""An iPhone at the cable, as far as coremltools can see: devicectl, Xcode and the transfer of files are made up.

Everything above them is coremltools' own Python code. Where it is told to, the phone stalls as devicectl does: in a call
that no event loop can interrupt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coremltools.models.ml_program.experimental import async_wrapper, remote_device

CONNECTED = remote_device.Device(
    name="Somebody's iPhone", type=remote_device.DeviceType.IPHONE, identifier="1", udid="2", os_version="18.1",
    os_build_number="22B83", developer_mode_state="enabled", state=remote_device.DeviceState.CONNECTED, session=None,
)  # fmt: skip


@dataclass
class Behaviour:
    """What cable and phone are to do; by default one phone works, and each prediction takes 3 ms."""

    phones: int = 1
    failure: Exception | None = None  # of a load
    stalled: str = ""  # "list": devicectl never says which devices there are; "load": a load never returns
    seen: list[Any] = field(default_factory=list)  # inputs of predictions


class Service:
    """`_RemoteMLModelService`: what coremltools talks to on the phone."""

    load_duration_in_nano_seconds, last_predict_duration_in_nano_seconds = 90_000_000, 3_000_000

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    async def load_on_device(self, **arguments: Any) -> Service:
        assert Path(arguments["compiled_model_path"]).name == "model.mlmodelc"
        assert arguments["compute_units"].name == "CPU_AND_NE"
        if self.behaviour.stalled == "load":
            time.sleep(600)
        if self.behaviour.failure is not None:
            raise self.behaviour.failure
        return self

    async def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.behaviour.seen.append(inputs["image"])
        return {}

    async def unload(self) -> None:
        """Nothing to do."""


def install(behaviour: Behaviour, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Put the phone at the cable."""

    def listed() -> list[Any]:
        if behaviour.stalled == "list":
            time.sleep(600)
        return [CONNECTED] * behaviour.phones

    async def prepare(device: Any, credentials: Any = None, **_: Any) -> Any:
        assert credentials.development_team == "TEAM"
        return replace(device, os_version="18.1")

    put(remote_device._DeviceCtl, "get_devices", staticmethod(listed))
    put(remote_device.Device, "prepare_for_model_debugging", prepare)
    put(async_wrapper, "_RemoteMLModelService", Service(behaviour))
