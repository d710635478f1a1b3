"""Which machine is this, and is it the one that a target names?

macOS tells through `system_profiler SPHardwareDataType -json` (keys machine_name, machine_model, chip_type). One device's
milliseconds never stand for another's, so a target is this machine only where device and system agree.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from functools import cache

from coreml_pareto.objectives.devices.catalogue import Device, Target, devices
from coreml_pareto.spaces.errors import UserError


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


def build() -> str:
    """The system's build, such as 24B83; UserError where macOS does not tell."""
    try:
        done = subprocess.run(["sw_vers", "-buildVersion"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"a record names the system's build; sw_vers could not be run ({error})") from error
    if not (found := done.stdout.strip()):
        raise UserError("a record names the system's build; `sw_vers -buildVersion` printed none; try it in a terminal")
    return found


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
