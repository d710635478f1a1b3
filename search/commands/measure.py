"""`coreml-pareto measure`: what packages really take, on this Mac or on the iPhone at its cable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from coreml_pareto.objectives.measuring.protocol import Protocol

PHONE, PROTOCOL = "A tethered iPhone", "Protocol"
Record = dict[str, Any]
_PACKAGES = "Core ML packages, NAME.mlpackage."
_COLD = "Besides, so many predictions with two seconds of rest before each, at least 20."
_PATIENCE = "Seconds after which one package on one choice of units is given up."
_IPHONE = "Measure on the connected iPhone, which is this one of `coreml-pareto devices`; needs Xcode and --team."
_TEAM = "Your development team's identifier: signs the app that coremltools installs on the phone."


def measure_command(
    packages: Annotated[list[Path], typer.Argument(metavar="PACKAGE...", help=_PACKAGES)],
    units: options.UnitsList = "ALL",
    rounds: Annotated[int, typer.Option(rich_help_panel=PROTOCOL, help="At least 20.")] = 20,
    predictions: Annotated[int, typer.Option(rich_help_panel=PROTOCOL, help="Of each round, at least 50.")] = 50,
    cold: Annotated[int, typer.Option(rich_help_panel=PROTOCOL, help=_COLD)] = 0,
    patience: Annotated[float, typer.Option(rich_help_panel=PROTOCOL, help=_PATIENCE)] = 600,
    energy: Annotated[
        bool,
        typer.Option(rich_help_panel=PROTOCOL, help="Through powermetrics: a minute more, where `sudo -v` was given."),
    ] = True,
    iphone: Annotated[str | None, typer.Option(metavar="NAME", rich_help_panel=PHONE, help=_IPHONE)] = None,
    team: Annotated[str | None, typer.Option(metavar="ID", rich_help_panel=PHONE, help=_TEAM)] = None,
    as_json: options.Json = False,
) -> None:
    """Load and time packages with Core ML: latency, first and second load, units, peak memory, energy. macOS only.

    Warms up until three predictions in a row agree within 5 %, then times 20 rounds of 50, each prediction by itself.

    Example: `coreml-pareto measure model.mlpackage --compute-units ALL,CPU_ONLY --json > measurements.json`
    """
    from coreml_pareto.objectives.measuring.local import require_macos

    require_macos("measure", "read estimates with `coreml-pareto estimate`")
    from coreml_pareto.objectives.measuring.protocol import Protocol

    protocol = Protocol(rounds=rounds, predictions=predictions, cold=cold)
    one = _measurer(protocol, patience, energy, iphone, team)
    found, refused = _all(packages, options.units_of(units), one)
    if as_json:
        options.print_json(found)
    elif found:
        _show(found)
    if refused:
        raise UserError(f"{len(refused)} of {len(found) + len(refused)} measurements failed: {' | '.join(refused)}")


def _measurer(
    protocol: Protocol, patience: float, energy: bool, iphone: str | None, team: str | None
) -> Callable[[Path, str], Record]:
    """The function that measures one package on one choice of units."""
    from coreml_pareto.objectives.devices.catalogue import find_device
    from coreml_pareto.objectives.measuring import phone, worker

    if (iphone is None) != (team is None):
        raise UserError(
            "--iphone and --team go together: the app on the phone has to be signed; got one of them; give both"
        )
    if iphone is not None and team is not None:
        device = find_device(iphone)
        return lambda package, units: phone.measure(package, units, device, team)
    return lambda package, units: worker.measure_apart(package, units, protocol, with_energy=energy, patience=patience)


def _all(
    packages: Sequence[Path], units: Sequence[str], one: Callable[[Path, str], Record]
) -> tuple[list[Record], list[str]]:
    """Records, and what was refused: one package that fails does not cost the others' minutes."""
    from coreml_pareto.objectives.program import load

    for package in packages:
        load(package)  # refuses before the first minute is spent
    found, refused = list[Record](), list[str]()
    for package in packages:
        for name in units:
            typer.echo(f"Measuring {package.name} on {name}", err=True)
            try:
                found.append(one(package, name))
            except UserError as error:
                refused.append(str(error))
    return found, refused


def _show(records: Sequence[Record]) -> None:
    screen = options.console(markup=False)
    first = records[0]
    screen.print(
        f"{first['device']['name']}, {first['os']['name']} {first['os']['version']}; {first['harness']}", style="dim"
    )
    screen.print(_table(records))
    for one in records:
        for sentence in (*_operations(one), *one["warnings"]):
            screen.print(f"{one['package']['name']} on {one['compute_units']}: {sentence}", style="dim")


def _table(records: Sequence[Record]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("package", "units", "latency (p10–p90)", "first, second load", "memory", "energy"):
        table.add_column(title)
    for one in records:
        table.add_row(one["package"]["name"], one["compute_units"], *_cells(one))
    return table


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    latency, memory, energy = one["latency"], one.get("peak_footprint"), one.get("energy")
    loads = [one[name] for name in ("first_load", "second_load") if name in one]
    return (
        f"{latency['median']:.3g} ms ({latency['p10']:.3g}–{latency['p90']:.3g})",
        ", ".join(f"{load['value']:.3g} ms" for load in loads),
        "–" if memory is None else f"{memory['value'] / 1e6:.1f} MB",
        "–" if energy is None else f"{energy['median']:.3g} mJ",
    )


def _operations(one: Mapping[str, Any]) -> tuple[str, ...]:
    """How many operations Core ML prefers to run where."""
    placement = one.get("placement")
    if placement is None:
        return ()
    return ("operations by preferred unit: " + ", ".join(f"{n} {unit}" for unit, n in placement["preferred"].items()),)
