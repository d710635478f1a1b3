"""`coreml-pareto device-kit`: an app for Xcode that measures a search's packages on the phone in hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coreml_pareto.search.commands import options

_OUT = "A folder that does not exist yet, or is empty."
_UNITS = "Comma-separated, in the order of measuring."


def device_kit_command(
    run: options.RunFolder,
    out: Annotated[Path, typer.Option(metavar="DIR", help=_OUT)],
    units: Annotated[str, typer.Option("--compute-units", metavar="NAMES", help=_UNITS)] = (
        "ALL,CPU_AND_NE,CPU_AND_GPU,CPU_ONLY"
    ),
    storage: options.Storage = None,
) -> None:
    """Write an app with the packages of a search's front and a calibration set; it measures and exports one JSON file.

    Open the .swiftpm in Xcode, choose a team and a phone, run, and bring the exported file to `import-measurements`.

    Example: `coreml-pareto device-kit runs/quickstart --out kit`
    """
    from coreml_pareto.search.delivery.kit import check, parse_units, write_kit
    from coreml_pareto.search.study import load_run

    chosen = parse_units(units)
    record = load_run(run)
    check(record, out)
    with options.console(markup=False).status("making the calibration set"):
        kit = write_kit(record, out, chosen)
    typer.echo(f"Wrote {kit.app}: {kit.front} packages of the front, {kit.calibration} to calibrate.")
    typer.echo(f"How to go on stands in {out / 'README.md'}; the app needs {kit.system} or newer.")
