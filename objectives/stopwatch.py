"""How long does an inference take on this very machine?  Core ML's own answer, where the target is the Mac we run on.

Back-to-back predictions of one picture: median, 10th and 90th percentile. For every other target there is no
measurement and `latency` estimates: one device's milliseconds never stand for another's. What the machine is, macOS
tells through `system_profiler SPHardwareDataType -json` (keys machine_name, machine_model, chip_type).

The project's own tests run on Linux: there the decision is tested, and the arithmetic with a made-up Core ML.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from functools import cache

import numpy as np

from coreml_pareto.objectives.devices.catalogue import Device, Target, devices
from coreml_pareto.objectives.latency import Measurement
from coreml_pareto.objectives.program import CoreMLRunner, ImageInput, Program

WARM_UP, PREDICTIONS = 20, 200
STOPWATCH = "coremltools' MLModel.predict from Python, one picture at a time, back to back"


def measure(program: Program, target: Target) -> Measurement | None:
    """Return the stopwatch's answer for a saved image classifier; None where the target is not this machine."""
    if not isinstance(program.input, ImageInput) or not is_this_machine(target):
        return None
    picture = np.zeros((program.input.height, program.input.width, 3), np.uint8)
    seconds = CoreMLRunner(program.path, target.compute_units).seconds(picture, WARM_UP + PREDICTIONS)[WARM_UP:]
    low, median, high = (float(1000 * value) for value in np.quantile(seconds, (0.1, 0.5, 0.9)))
    return Measurement(target, median, low, high, PREDICTIONS, STOPWATCH)


def this_device() -> Device | None:
    """The Mac that this process runs on; None off macOS and where the catalogue has no such Mac, or several."""
    found = [device for device in devices() if device.is_mac and _is(device, hardware())] if _is_macos() else []
    return found[0] if len(found) == 1 else None


def is_this_machine(target: Target) -> bool:
    """Whether the target is the Mac that this process runs on, under the system that it runs."""
    if not _is_macos() or not target.device.is_mac:
        return False
    release = int(platform.mac_ver()[0].split(".")[0])
    return target.os == (release if release >= 26 else release + 3) and _is(target.device, hardware())


def _is_macos() -> bool:
    return platform.system() == "Darwin"


def _is(device: Device, hardware: Mapping[str, str]) -> bool:
    """Whether macOS describes this device: by its model identifier where one is known, else by name and chip."""
    if device.identifier is not None:
        return hardware.get("machine_model") == device.identifier
    chip = hardware.get("chip_type", "").removeprefix("Apple ")
    name = hardware.get("machine_name", "?")
    return device.name.startswith(name) and device.soc == chip


@cache
def hardware() -> Mapping[str, str]:
    """What macOS says of this machine; empty where it says nothing."""
    answer = subprocess.run(["system_profiler", "SPHardwareDataType", "-json"], capture_output=True, check=False)
    try:
        found: dict[str, str] = json.loads(answer.stdout)["SPHardwareDataType"][0]
    except (ValueError, KeyError, IndexError):
        return {}
    return found
