"""Which Apple devices can a study name, and what is known about them?

`catalogue.csv` holds one row per device; a blank cell means that no published figure was seen, and stays blank. The
`*_src` columns cite the publication by the tags of `CITATIONS.md`.

Operating systems are counted as iOS releases everywhere (15, 16, 17, 18, 26, ...), as Core ML Tools' deployment
targets do: macOS 12 to 15 are 15 to 18, from 26 on the numbers agree. `Device.system` gives the owner's own name.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Literal, get_args

from coreml_pareto.spaces.errors import UserError

ComputeUnits = Literal["ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY"]

ASSUMED_CELL_VOLTS: Final = 3.85
"""Nominal voltage where none is published; the published and derived ones lie between 3.79 and 3.98 V."""

_RELEASES: Final = (15, 16, 17, 18, 26, 27)  # ML programs begin with 15; Apple went from 18 to 26 in autumn 2025


@dataclass(frozen=True)
class Device:
    """One row of the catalogue; None where no figure was published. Bandwidth in GB/s, battery in mAh, Wh and V."""

    name: str
    identifier: str | None
    year: int
    soc: str
    mem_bw_gb_s: float | None
    battery_mah: float | None
    battery_wh: float | None
    battery_v: float | None
    os_first: int | None
    os_latest: int | None
    sources: Mapping[str, str]

    @property
    def is_mac(self) -> bool:
        """Whether it runs macOS."""
        return self.name.startswith("Mac")

    def system(self, os: int) -> str:
        """The system's own name for iOS release `os`, such as 'iOS 17', 'iPadOS 17' or 'macOS 14'."""
        if self.is_mac:
            return f"macOS {os if os >= 26 else os - 3}"
        return f"{'iPadOS' if self.name.startswith('iPad') else 'iOS'} {os}"

    @property
    def voltage(self) -> tuple[float, str]:
        """Nominal battery voltage in V, and where it comes from."""
        if self.battery_v is not None:
            return self.battery_v, "published"
        if self.battery_wh is not None and self.battery_mah is not None:
            return 1000 * self.battery_wh / self.battery_mah, "Wh / mAh as published"
        return ASSUMED_CELL_VOLTS, "assumed, none published"

    @property
    def energy_wh(self) -> float | None:
        """Battery energy in Wh as published, else mAh times `voltage`; None without any capacity."""
        if self.battery_wh is not None:
            return self.battery_wh
        return None if self.battery_mah is None else self.battery_mah * self.voltage[0] / 1000


@dataclass(frozen=True)
class Target:
    """Where a package is to run; UserError when the device never ran that system or the unit has no such name."""

    device: Device
    os: int
    compute_units: ComputeUnits = "ALL"

    def __post_init__(self) -> None:
        if self.compute_units not in get_args(ComputeUnits):
            raise UserError(
                f"compute units are named as in coremltools: {', '.join(get_args(ComputeUnits))}; "
                f"got {self.compute_units!r}"
            )
        _check_os(self.device, self.os)

    @property
    def conditions(self) -> dict[str, str]:
        """What every reading about this target says of it."""
        return {
            "device": self.device.name,
            "os": self.device.system(self.os),
            "compute_units": self.compute_units,
        }


@cache
def devices() -> tuple[Device, ...]:
    """All devices of the catalogue, oldest phones first."""
    text = (files(__package__) / "catalogue.csv").read_text(encoding="utf-8")
    return tuple(_device(row) for row in csv.DictReader(text.splitlines()))


def find_device(name: str) -> Device:
    """The device of that name or model identifier, whatever the case and spacing.

    Raises:
        UserError: no such device; the message lists the nearest names.
    """
    known = {_key(device.name): device for device in devices()}
    known |= {_key(device.identifier): device for device in devices() if device.identifier}
    if (key := _key(name)) in known:
        return known[key]
    near = difflib.get_close_matches(key, known, n=4, cutoff=0.5)
    hint = ", ".join(dict.fromkeys(known[match].name for match in near)) or "none"
    raise UserError(
        f"a device is named as in the catalogue; got {name!r}; nearest: {hint} (`coreml-pareto devices` lists all)"
    )


def _check_os(device: Device, os: int) -> None:
    if os not in _RELEASES:
        known = ", ".join(map(str, _RELEASES))
        raise UserError(f"os is an iOS release that runs ML programs: {known} (macOS 14 counts as 17); got {os}")
    first, latest = device.os_first or _RELEASES[0], device.os_latest or _RELEASES[-1]
    if not first <= os <= latest:
        counted = f" (counted as iOS {first} to {latest})" if device.is_mac else ""
        raise UserError(
            f"{device.name} runs {device.system(first)} to {device.system(latest).split()[-1]}{counted}; got {os}; "
            "name a release in that range, or another device (--device; `coreml-pareto devices` lists all)"
        )


def _key(name: str) -> str:
    return "".join(name.casefold().split())


def _device(row: Mapping[str, str]) -> Device:
    return Device(
        name=row["device"],
        identifier=row["identifier"] or None,
        year=int(row["year"]),
        soc=row["soc"],
        mem_bw_gb_s=_number(row["mem_bw_gb_s"]),
        battery_mah=_number(row["battery_mah"]),
        battery_wh=_number(row["battery_wh"]),
        battery_v=_number(row["battery_v"]),
        os_first=int(row["os_first"]) if row["os_first"] else None,
        os_latest=int(row["os_latest"]) if row["os_latest"] else None,
        sources={key: row[key] for key in row if key.endswith("_src") and row[key]},
    )


def _number(cell: str) -> float | None:
    return float(cell) if cell else None
