"""`coreml-pareto devices`: which devices a study can name, and what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from coreml_pareto.objectives.devices.catalogue import Device

_NAME = "One device, or a part of the name, e.g. `iPhone 15`."


def devices_command(
    name: Annotated[str | None, typer.Argument(help=_NAME)] = None, as_json: options.Json = False
) -> None:
    """List the Apple devices that estimates can be made for; blank: no published figure.

    Example: `coreml-pareto devices "iPhone 15 Pro"`
    """
    chosen = _chosen(name)
    if as_json:
        options.print_json([_row(device) for device in chosen])
    elif len(chosen) == 1:
        _print_one(chosen[0])
    else:
        _print_all(chosen)


def _chosen(name: str | None) -> Sequence[Device]:
    """The device of that name; else all whose name contains it; else the refusal with the nearest names."""
    from coreml_pareto.objectives.devices.catalogue import devices, find_device
    from coreml_pareto.spaces.errors import UserError

    if name is None:
        return devices()
    try:
        return (find_device(name),)
    except UserError:
        part = "".join(name.casefold().split())
        if part and (matching := [d for d in devices() if part in "".join(d.name.casefold().split())]):
            return matching
        raise


def _row(device: Device) -> dict[str, Any]:
    from coreml_pareto.objectives.devices.priors import floor

    volts, origin = device.voltage
    known = floor(device.soc)
    battery = device.energy_wh is not None
    return {
        "device": device.name, "identifier": device.identifier, "year": device.year, "chip": device.soc,
        "memory_bandwidth_gb_s": device.mem_bw_gb_s, "battery_mah": device.battery_mah,
        "battery_wh": device.energy_wh, "battery_v": volts if battery else None,
        "battery_v_how": origin if battery else None, "os_first": device.os_first, "os_latest": device.os_latest,
        "latency_floor_ms": known.t0.value, "latency_floor_ms_low": known.t0.low,
        "latency_floor_ms_high": known.t0.high, "latency_interval_factor": known.interval,
        "stopwatch": known.stopwatch, "sources": dict(device.sources),
    }  # fmt: skip


def _systems(device: Device) -> str:
    if device.os_first is None and device.os_latest is None:
        return ""
    first = "" if device.os_first is None else device.system(device.os_first)
    return f"{first} – {'' if device.os_latest is None else device.system(device.os_latest).split()[-1]}"


def _print_all(devices: Sequence[Device]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for head, justify in (("device", "left"), ("year", "right"), ("chip", "left"), ("systems", "left")):
        table.add_column(head, justify="right" if justify == "right" else "left")
    table.add_column("memory GB/s", justify="right")
    table.add_column("battery Wh", justify="right")
    for device in devices:
        numbers = (device.mem_bw_gb_s, device.energy_wh)
        shown = ("" if number is None else f"{number:.1f}" for number in numbers)
        table.add_row(device.name, str(device.year), device.soc, _systems(device), *shown)
    screen = options.console(markup=False)
    screen.print(table)
    screen.print("`coreml-pareto devices NAME` shows one with what its estimates rest on.", style="dim")


def _print_one(device: Device) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    for key, value in _row(device).items():
        if key == "sources":
            value = ", ".join(f"{name.removesuffix('_src')} {tag}" for name, tag in value.items())
        said = "not published" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " "), said)
    screen = options.console(markup=False)
    screen.print(table)
    screen.print("Estimates are priors from published figures, not measurements of this device.", style="dim")
