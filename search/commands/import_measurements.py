"""`coreml-pareto import-measurements`: a device's own stopwatch corrects its estimates, and re-scores a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.objectives.imported import Evidence
    from coreml_pareto.search.run import Run

_FILES = "What the app of `device-kit` exported, or `measure` wrote."
_RUN = "Re-score this search: its estimates become measured or corrected."


def _print_schema(wanted: bool) -> None:
    if wanted:
        from coreml_pareto.objectives.devices.measurements import json_schema

        typer.echo(json_schema(), nl=False)
        raise typer.Exit


def import_measurements_command(
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help=_FILES)] = None,
    run: Annotated[Path | None, typer.Option(metavar="RUN", help=_RUN)] = None,
    as_json: options.Json = False,
    schema: Annotated[
        bool, typer.Option("--schema", is_eager=True, callback=_print_schema, help="Print the JSON Schema of a file.")
    ] = False,
    storage: options.Storage = None,
) -> None:
    """Check measurements of devices, keep them, correct the devices' estimates, and show the error before and after.

    All or nothing: a bad record is one line of error, and then nothing is imported. With --run the measurements stay
    with that search, and `front` and `best` follow without a training; otherwise `estimate` uses them.

    Example: `coreml-pareto import-measurements iphone.json --run runs/quickstart`
    """
    from coreml_pareto.objectives.devices.measurements import read
    from coreml_pareto.objectives.imported import evidence
    from coreml_pareto.search.measurements import import_into, keep, user_folder

    if not files:
        raise UserError("measurements come in files; got none; name what the app of `device-kit` or `measure` wrote")
    new = read(files)
    if run is None:
        groups, notes = evidence(keep(new, user_folder())), [f"Kept in {user_folder()}; `estimate` uses them."]
    else:
        from coreml_pareto.search.measurements import kept
        from coreml_pareto.search.study import load_run

        after = import_into(load_run(run), new)
        every = kept(run)
        groups, notes = () if every is None else evidence(every), _told(after)
    if as_json:
        options.print_json({"corrections": [_row(group) for group in groups], "notes": notes})
    else:
        _show(groups, notes)


def _told(run: Run) -> list[str]:
    """What the run's latencies are now."""
    how = [result.score["latency_ms"].how for result in run.scored() if "latency_ms" in result.score]
    place = " / ".join(run.target.conditions.values())
    if not {"measured", "corrected"} & set(how):
        return [
            f"Nothing was measured on {place} or a newer system of it, so the run's latencies stay estimates; its "
            "measurements are kept, for `front` and `best` with that --device."
        ]
    counts = ", ".join(f"{how.count(kind)} {kind}" for kind in ("measured", "corrected", "estimated") if kind in how)
    return [f"Latencies of {run.folder} for {place}: {counts}. `coreml-pareto best {run.folder}` follows them."]


def _row(group: Evidence) -> dict[str, Any]:
    found = group.fit
    return {
        **group.target.conditions,
        "harness": group.harness,
        "networks": found.networks,
        "correction": found.correction.kind,
        "error_before": found.before,
        "error_after": found.after,
        "error_left_out": found.left_out,
        "interval_factor": found.factor,
    }


def _show(groups: tuple[Evidence, ...], notes: list[str]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for head in ("device", "system", "units", "networks", "correction", "error before", "after", "each left out"):
        table.add_column(head, justify="right" if head not in ("device", "system", "units", "correction") else "left")
    for group in groups:
        found = group.fit
        left = "–" if found.left_out is None else f"{found.left_out:.0%}"
        errors = (f"{found.before:.0%}", f"{found.after:.0%}", left)
        table.add_row(*group.target.conditions.values(), str(found.networks), found.correction.kind, *errors)
    screen = options.console(markup=False)
    screen.print(table)
    for group in groups:
        screen.print(f"{' / '.join(group.target.conditions.values())}: by {group.harness}", style="dim")
    screen.print("Mean relative error of the latency; what counts for other networks is the last column.", style="dim")
    for note in notes:
        screen.print(note)
