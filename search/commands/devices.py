"""`coreml-pareto devices`: which devices a study can name, what is known of each, and what its estimates rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from coreml_pareto.objectives.devices.catalogue import Device
    from coreml_pareto.objectives.devices.coverage import Coverage, Published

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
    from coreml_pareto.objectives.devices.coverage import coverage
    from coreml_pareto.objectives.devices.fit import fitted
    from coreml_pareto.objectives.devices.published import STOPWATCHES, stopwatch_of

    volts, origin = device.voltage
    floor = fitted().floor(device.soc, stopwatch := stopwatch_of(device.soc))
    battery = device.energy_wh is not None
    return {
        "device": device.name, "identifier": device.identifier, "year": device.year, "chip": device.soc,
        "memory_bandwidth_gb_s": device.mem_bw_gb_s, "battery_mah": device.battery_mah,
        "battery_wh": device.energy_wh, "battery_v": volts if battery else None,
        "battery_v_how": origin if battery else None, "os_first": device.os_first, "os_latest": device.os_latest,
        "latency_floor_ms": floor.ms, "latency_floor_ms_low": floor.interval[0],
        "latency_floor_ms_high": floor.interval[1],
        "stopwatch": STOPWATCHES[stopwatch], "sources": dict(device.sources), **_covered(coverage(device)),
    }  # fmt: skip


def _covered(found: Coverage) -> dict[str, Any]:
    """What the fit has of the device's chip and of others, and what was published of chip and device."""
    from coreml_pareto.objectives.devices.coverage import count, in_fit

    return {
        "latencies_in_fit": sum(in_fit().values()),
        "latencies_in_fit_of_chip": found.in_fit,
        "latencies_published": count(found.own),
        "latencies_published_of_chip": count(found.chip),
        "other_chips_in_fit": [asdict(one) for one in found.neighbours],
        "published": [asdict(row) for row in found.chip],
    }


def _systems(device: Device) -> str:
    if device.os_first is None and device.os_latest is None:
        return ""
    first = "" if device.os_first is None else device.system(device.os_first)
    return f"{first}–{'' if device.os_latest is None else device.system(device.os_latest).split()[-1]}"


def _print_all(devices: Sequence[Device]) -> None:
    from rich import box
    from rich.table import Table

    from coreml_pareto.objectives.devices.coverage import count, coverage, in_fit

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for head in ("device", "chip", "systems"):
        table.add_column(head, no_wrap=True)
    table.add_column("memory\nGB/s", justify="right")
    table.add_column("battery\nWh", justify="right")
    table.add_column("of chip,\nin the fit", justify="right")
    table.add_column("of chip,\npublished", justify="right")
    for device in devices:
        numbers = (device.mem_bw_gb_s, device.energy_wh)
        shown = ("" if number is None else f"{number:.1f}" for number in numbers)
        found = coverage(device)
        counts = (str(found.in_fit), str(count(found.chip)))
        table.add_row(device.name, device.soc, _systems(device), *shown, *counts)
    screen = options.console(markup=False)
    screen.print(table)
    screen.print(
        f"\nEstimates are fitted to {sum(in_fit().values())} published latencies of all chips at once. A chip with 0 in"
        "\nthe fit follows its neighbours. What else was published is too coarse, of compressed"
        "\nnetworks, or of such that could not be built.\n"
        "`coreml-pareto devices NAME` shows one with what its estimates rest on.", style="dim"
    )  # fmt: skip


def _print_one(device: Device) -> None:
    from rich.table import Table

    from coreml_pareto.objectives.devices.coverage import coverage

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    for key, value in _row(device).items():
        if key == "sources":
            value = ", ".join(f"{name.removesuffix('_src')} {tag}" for name, tag in value.items())
        if key == "other_chips_in_fit":
            break
        said = "not published" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " "), said)
    screen = options.console(markup=False)
    screen.print(table)
    _print_published(device, coverage(device))
    screen.print("Estimates are fitted to published figures; they are not measurements of this device.", style="dim")


def _print_published(device: Device, found: Coverage) -> None:
    """Who published how many latencies, on which unit, with which stopwatch."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("published on", no_wrap=True)
    for head in ("unit", "harness", "weights", "source"):
        table.add_column(head)
    table.add_column("latencies", justify="right")
    for (name, units, harness, calibrates), rows in _grouped(found.chip).items():
        forms, sources = (
            ", ".join(dict.fromkeys(cells)) for cells in zip(*((r.scheme, r.source) for r in rows), strict=True)
        )
        count = str(sum(row.measurements for row in rows))
        table.add_row(name, units or "?", harness or "?", forms, sources, count if calibrates else f"({count})")
    screen = options.console(markup=False)
    screen.print()
    screen.print(_behind(device, found) + "\n")
    if not found.chip:
        return
    screen.print(table)
    screen.print("(in brackets: too coarse, old or second-hand to carry an estimate; ?: not said)", style="dim")
    screen.print("Of the others the fit has those whose networks could be built, in fp16 or W8A8.", style="dim")


def _behind(device: Device, found: Coverage) -> str:
    """What the fit knows of a device, in a sentence or two."""
    from coreml_pareto.objectives.devices.coverage import in_fit

    whole = f"Estimates are fitted to {sum(in_fit().values())} published latencies, {found.in_fit} of them of the {device.soc}."
    if found.in_fit:
        return whole
    near = ", ".join(f"{one.chip} ({one.generations_apart:.1f}; {one.in_fit})" for one in found.neighbours[:3])
    return f"{whole} Its effects follow other chips', the nearest by generations in the prior: {near} latencies."


def _grouped(rows: Sequence[Published]) -> dict[tuple[str, str | None, str | None, bool], list[Published]]:
    """One entry for each device, unit and harness, those that carry an estimate apart."""
    groups: dict[tuple[str, str | None, str | None, bool], list[Published]] = {}
    for row in rows:
        groups.setdefault((row.device, row.units, row.harness, row.calibrates), []).append(row)
    return groups
