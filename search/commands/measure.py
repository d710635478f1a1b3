"""`coreml-pareto measure`: what packages really take, on this Mac or on the iPhone at its cable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from coreml_pareto.objectives.devices.measurements import Details, MeasuredPackage, Measurements, Record
    from coreml_pareto.objectives.measuring.protocol import Protocol

PHONE, PROTOCOL = "A tethered iPhone", "Protocol"
_PACKAGES = "Core ML packages, NAME.mlpackage."
_ROUNDS = "At least 20; a Mac only."
_PREDICTIONS = "Of each round, at least 50; on an iPhone all of them, at least 20."
_ENERGY = "Through powermetrics: a minute more, where `sudo -v` was given; a Mac only."
_COLD = "A Mac only: besides, so many predictions with two seconds of rest before each, at least 20."
_PATIENCE = "Seconds after which one package on one choice of units is given up."
_OUT = "Write the measurements into this file, for `import-measurements`."
_IPHONE = "Measure on the connected iPhone, which is this one of `coreml-pareto devices`; needs Xcode and --team."
_TEAM = "Your development team's identifier: signs the app that coremltools installs on the phone."


def measure_command(
    packages: Annotated[list[Path], typer.Argument(metavar="PACKAGE...", help=_PACKAGES)],
    units: options.UnitsList = "ALL",
    rounds: Annotated[int | None, typer.Option(rich_help_panel=PROTOCOL, show_default="20", help=_ROUNDS)] = None,
    predictions: Annotated[
        int | None, typer.Option(rich_help_panel=PROTOCOL, show_default="50, on an iPhone 30", help=_PREDICTIONS)
    ] = None,
    cold: Annotated[int | None, typer.Option(rich_help_panel=PROTOCOL, show_default="0", help=_COLD)] = None,
    patience: Annotated[float, typer.Option(rich_help_panel=PROTOCOL, help=_PATIENCE)] = 600,
    energy: Annotated[
        bool | None,
        typer.Option(
            "--energy/--no-energy",
            rich_help_panel=PROTOCOL,
            show_default="energy, on an iPhone no-energy",
            help=_ENERGY,
        ),
    ] = None,
    iphone: Annotated[str | None, typer.Option(metavar="NAME", rich_help_panel=PHONE, help=_IPHONE)] = None,
    team: Annotated[str | None, typer.Option(metavar="ID", rich_help_panel=PHONE, help=_TEAM)] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help=_OUT)] = None,
    as_json: options.Json = False,
) -> None:
    """Load and time packages with Core ML: latency, first and second load, units, peak memory, energy. macOS only.

    Warms up until three predictions in a row agree within 5 %, then times 20 rounds of 50, each prediction by itself.

    Example: `coreml-pareto measure model.mlpackage --compute-units ALL,CPU_ONLY --out mac.json`
    """
    from coreml_pareto.objectives.measuring.local import require_macos

    require_macos("measure", "read estimates with `coreml-pareto estimate`")
    from coreml_pareto.objectives.devices.measurements import Measurements
    from coreml_pareto.objectives.measuring.protocol import Protocol

    one: Callable[[Path, str], Record]
    if out is not None and not out.absolute().parent.is_dir():
        raise UserError(f"--out names a file in a folder that exists; {out.parent} does not; make it, or name another")
    if (iphone is None) != (team is None):
        raise UserError(
            "--iphone and --team go together: the app on the phone has to be signed; got one of them; give both"
        )
    if iphone is not None and team is not None:
        _refuse_on_a_phone({"--rounds": rounds, "--cold": cold, "--energy": energy})
        one = _on_the_phone(iphone, team, predictions, patience)
    else:
        given = {"rounds": rounds, "predictions": predictions, "cold": cold}
        one = _on_this_mac(Protocol(**{key: n for key, n in given.items() if n is not None}), patience, energy)
    known, found, refused = _all(packages, options.units_of(units), one)
    if found:
        document = Measurements.of((known[record.digest] for record in found), found)
        if out is not None:
            _write(document, out)
        if as_json:
            typer.echo(document.text(), nl=False)
        else:
            _show(document)
    if refused:
        raise UserError(f"{len(refused)} of {len(found) + len(refused)} measurements failed: {' | '.join(refused)}")


def _refuse_on_a_phone(given: Mapping[str, object]) -> None:
    """UserError for options of the protocol that nothing on the phone obeys; None, 0 and False ask for nothing."""
    if named := [name for name, value in given.items() if value]:
        raise UserError(
            "an iPhone at the cable predicts once every few seconds, so that there are no rounds and every prediction is "
            f"cold, and powermetrics reads this Mac alone; got {', '.join(named)}; leave {'it' if len(named) == 1 else 'them'} "
            "out (--predictions and --patience are obeyed), or measure by the app that `coreml-pareto device-kit` writes"
        )


def _on_the_phone(iphone: str, team: str, predictions: int | None, patience: float) -> Callable[[Path, str], Record]:
    """The function that measures one package on one choice of units of the phone."""
    from coreml_pareto.objectives.devices.catalogue import find_device
    from coreml_pareto.objectives.devices.measurements import APART
    from coreml_pareto.objectives.measuring import phone, worker

    count = phone.PREDICTIONS if predictions is None else predictions
    if count < APART:
        raise UserError(
            f"predictions that lie apart, as on an iPhone at the cable, are at least {APART}; got --predictions {count}; "
            f"leave it out, or say --predictions {APART}"
        )
    device = find_device(iphone)
    return lambda package, units: worker.measure_on_phone(
        package, units, device, team, predictions=count, patience=patience
    )


def _on_this_mac(protocol: Protocol, patience: float, energy: bool | None) -> Callable[[Path, str], Record]:
    """The same on this Mac."""
    from coreml_pareto.objectives.measuring import worker

    asked = energy is not False
    return lambda package, units: worker.measure_apart(package, units, protocol, with_energy=asked, patience=patience)


def _all(
    packages: Sequence[Path], units: Sequence[str], one: Callable[[Path, str], Record]
) -> tuple[dict[str, MeasuredPackage], list[Record], list[str]]:
    """Packages by digest, records, and what was refused: one package that fails does not cost the others' minutes."""
    from coreml_pareto.objectives.measuring.records import package_of
    from coreml_pareto.objectives.program import load

    described = [package_of(load(package)) for package in packages]  # refuses before the first minute is spent
    found, refused = list["Record"](), list[str]()
    for package in packages:
        for name in units:
            typer.echo(f"Measuring {package.name} on {name}", err=True)
            try:
                found.append(one(package, name))
            except UserError as error:
                refused.append(str(error))
    return {package.digest: package for package in described}, found, refused


def _write(document: Measurements, out: Path) -> None:
    from coreml_pareto.search.store import write_atomically

    try:
        write_atomically(out, document.text())
    except OSError as error:
        raise UserError(f"--out names a file that can be written; {out}: {error.strerror}; name another") from error


def _show(document: Measurements) -> None:
    screen = options.console(markup=False)
    first = document.records[0]
    screen.print(_place(first), style="dim")
    screen.print(_table(document))
    for one in document.records:
        for sentence in (*_operations(one), *_details(one).warnings):
            screen.print(f"{document.package(one.digest).name} on {one.compute_units}: {sentence}", style="dim")


def _place(record: Record) -> str:
    """Where and by which stopwatch; of a device that the catalogue lacks, what follows from that."""
    from coreml_pareto.objectives.devices.catalogue import find_device

    try:
        device = find_device(record.device)
    except UserError as error:
        return f"{record.device}, {record.os}; {record.harness}. Nothing can be estimated for it, so nothing imported: {error}"
    return f"{device.name}, {'macOS' if device.is_mac else 'iOS'} {record.os}; {record.harness}"


def _table(document: Measurements) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("package", "units", "latency (p10–p90)", "first, second load", "memory", "energy"):
        table.add_column(title)
    for one in document.records:
        table.add_row(document.package(one.digest).name, one.compute_units, *_cells(one))
    return table


def _cells(one: Record) -> tuple[str, ...]:
    memory, energy = _details(one).footprint_bytes, _details(one).energy
    loads = [load for load in (one.load1_ms, one.load2_ms) if load is not None]
    return (
        f"{one.median_ms:.3g} ms ({one.p10_ms:.3g}–{one.p90_ms:.3g})",
        ", ".join(f"{load:.3g} ms" for load in loads),
        "–" if memory is None else f"{memory / 1e6:.1f} MB",
        "–" if energy is None else f"{energy.median_mj:.3g} mJ",
    )


def _details(one: Record) -> Details:
    from coreml_pareto.objectives.devices.measurements import Details

    return one.details or Details()


def _operations(one: Record) -> tuple[str, ...]:
    """How many operations Core ML prefers to run where."""
    from coreml_pareto.objectives.measuring.placement import counts

    if not (plan := _details(one).plan):
        return ()
    return ("operations by preferred unit: " + ", ".join(f"{n} {unit}" for unit, n in counts(plan).items()),)
