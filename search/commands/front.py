"""`coreml-pareto front`: the packages that nothing beats, on any subset of objectives, from the record alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from coreml_pareto.search.noise import Shares
    from coreml_pareto.search.relaxation import Limits
    from coreml_pareto.search.run import Result, Run

_OBJECTIVES = "Comma-separated, e.g. accuracy,size. [default: those of the study]"
_CSV = "Also write the rows of --json as a table."
_PLOT = "Also draw top-1 against the other objectives: FILE.html (self-contained) or FILE.png."


def front_command(
    run: options.RunFolder,
    objectives: Annotated[str | None, typer.Option(metavar="NAMES", help=_OBJECTIVES)] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help=_PLOT)] = None,
    storage: options.Storage = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help=_CSV)] = None,
    as_json: options.Json = False,
    device: options.OtherDevice = None,
    os: options.OtherRelease = None,
    compute_units: options.OtherUnits = None,
    max_size: options.MaxSize = None,
    max_latency: options.MaxLatency = None,
    max_memory: options.MaxMemory = None,
    max_energy: options.MaxEnergy = None,
    min_top1: options.MinTop1 = None,
    strict: options.Strict = False,
) -> None:
    """Show the non-dominated packages of a search with all their readings. Nothing is run again.

    Limits replace the study's own, one by one. For another device the saved packages are read again.

    Examples: `coreml-pareto front runs/quickstart --objectives accuracy,size`,
    `coreml-pareto front runs/quickstart --device "iPhone 12"`
    """
    from coreml_pareto.search.choose import front
    from coreml_pareto.search.commands.again import decide_again
    from coreml_pareto.search.noise import shares
    from coreml_pareto.search.rows import rows, write_csv
    from coreml_pareto.search.storage.packages import bring
    from coreml_pareto.search.study import load_run

    names = options.names_of(objectives)
    _check(csv, plot)
    own = load_run(run)
    given = options.limits_of(
        max_size=max_size,
        max_latency=max_latency,
        max_memory=max_memory,
        max_energy=max_energy,
        min_top1=min_top1,
    )
    limits = {**own.limits, **given}
    record, notes = decide_again(own, limits, device, os, compute_units, strict=strict)
    found = front(record, names, limits, strict)
    drawn = shares(record, names, limits, strict)
    bring(found)
    options.print_notes(notes, as_json=as_json)
    if csv is not None:
        write_csv(rows(found, record, drawn), csv)
    if as_json:
        options.print_json(rows(found, record, drawn))
    else:
        _show(record, found, names, limits, strict, drawn)
    if plot is not None:
        _draw(record, found, names, limits, plot, strict)
    for path in (csv, plot):
        if path is not None:
            typer.echo(f"Wrote {path}", err=True)


def _check(csv: Path | None, plot: Path | None) -> None:
    """Refuse files that could not be written, before anything is read."""
    from coreml_pareto.spaces.errors import UserError

    if plot is not None:
        from coreml_pareto.search.report.charts import check_path

        check_path(plot)
    if csv is not None and (csv.is_dir() or not csv.parent.is_dir()):
        raise UserError(
            f"--csv names a file in a folder that exists; got {csv}; create the folder, or name another file"
        )


def _show(
    run: Run, found: tuple[Result, ...], names: tuple[str, ...] | None, limits: Limits, strict: bool, drawn: Shares
) -> None:
    from coreml_pareto.objectives.catalogue import select
    from coreml_pareto.search.relaxation import known
    from coreml_pareto.search.report import tables, words
    from coreml_pareto.search.report.doubts import doubts

    screen = options.console(markup=False)
    axes = run.objectives if names is None else select(names)
    worse = " (worse ends)" if strict or run.strict else ""
    if not found:
        told = [f"No package of {len(run.scored())} keeps {words.limits(limits)}{worse}."]
        screen.print("\n".join(told if run.scored() else words.endings(run)))
        if any(map(known, run.results)):
            screen.print(f"`coreml-pareto best {run.folder}` with the same limits says how little has to give way.")
        return
    kept = f" within {words.limits(limits)}{worse}" if limits else ""
    on = ", ".join(axis.name for axis in axes)
    screen.print(f"{len(found)} of {len(run.scored())} packages are on the front of {on}{kept}")
    chosen = _recommended(run, found, limits, strict)
    screen.print(tables.front_table(found, limits, chosen, drawn))
    screen.print(tables.details_table(found, run, chosen))
    screen.print(words.conditions(run, found), style="dim")
    for line in doubts(run, found, drawn):
        screen.print(line)
    if (table := tables.correlation_table(run.scored(), axes)) is not None:
        screen.print(table)


def _draw(
    run: Run, found: tuple[Result, ...], names: tuple[str, ...] | None, limits: Limits, path: Path, strict: bool
) -> None:
    from coreml_pareto.search.report.charts import DEFAULT_PANELS, Picture, pareto_figure, save_figure

    panels = DEFAULT_PANELS if names is None else tuple(name for name in names if name != "accuracy")
    picture = Picture(run, found, limits, _recommended(run, found, limits, strict), panels or DEFAULT_PANELS, strict)
    save_figure(pareto_figure(picture), path)


def _recommended(run: Run, found: tuple[Result, ...], limits: Limits, strict: bool) -> Result | None:
    """The study's recommended package, if it is among those shown."""
    from coreml_pareto.search.choose import Recommendation, recommend

    answer = recommend(run, limits, strict=strict) if found else None
    chosen = answer.chosen if isinstance(answer, Recommendation) else None
    return chosen if chosen in found else None
