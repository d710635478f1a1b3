"""`coreml-pareto estimate` and the parts that `evaluate` shares with it: what a package takes, without any data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from coreml_pareto.objectives.devices.catalogue import Target
    from coreml_pareto.objectives.explanation import Explanation
    from coreml_pareto.objectives.program import Program
    from coreml_pareto.objectives.reading import Reading


def estimate_command(
    package: options.Package,
    device: options.DeviceName = options.DEFAULT_DEVICE,
    release: options.Release = None,
    units: options.Units = "ALL",
    explain: Annotated[bool, typer.Option("--explain", help="Show where the latency goes: kinds, layers.")] = False,
    as_json: options.Json = False,
) -> None:
    """Read size and MACs of any Core ML package, and estimate its latency, memory and energy; no pictures needed.

    Nothing is run, so nothing is measured: where the device is this Mac, `evaluate` measures the latency. Measurements
    that `import-measurements` keeps correct the latency of their device. Only shapes are read: any ML program without open
    ones will do. Of several functions the default one is read, of branches the dearer one counts.

    `--json`: each reading under its name; what is not exact has `_low`, `_high` and `_how` behind it. `_how` "at least" is a
    bound from below, `_high` is null. `conditions` says what each reading rests on: unit, stopwatch, method, what is
    assumed, what is not counted. `notes` are the sentences below the table.

    Example: `coreml-pareto estimate model.mlpackage --device "iPhone 13" --ios 16`
    """
    from coreml_pareto.objectives.explanation import explain as explained
    from coreml_pareto.objectives.program import costs, load
    from coreml_pareto.objectives.score import static_score
    from coreml_pareto.search.measurements import kept_readings

    program = load(package, any_inputs=True, default_function=True)
    target = options.target_of(program, device, release, units)
    score = static_score(program, target) | kept_readings(program.path, costs(program), target)
    found = explained(program, target) if explain else None
    show(program, target, score, as_json=as_json, facts={"explanation": asdict(found)} if found else None)
    if found and not as_json:
        _print_explanation(found, score)


def show(
    program: Program,
    target: Target,
    score: Mapping[str, Reading],
    *,
    as_json: bool,
    notes: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Print one package's readings, as JSON or for people; `facts` go into the JSON, `notes` into both."""
    from coreml_pareto.search.report import words
    from coreml_pareto.search.rows import battery

    origins, notes = words.origins(target, [score]), (*program.remarks, *notes)
    if as_json:
        row = {"package": str(program.path.absolute()), **(facts or {}), **flat(score)}
        row |= {"minimum_os": system(program, target), **target.conditions, "battery": battery(score)}
        row["conditions"] = {name: dict(reading.conditions) for name, reading in score.items()}
        row["notes"] = [*origins, *notes]
        options.print_json(row)
        return
    _print_readings(program, target, score, origins, notes)


def flat(score: Mapping[str, Reading]) -> dict[str, Any]:
    """Every reading under its name; unless it is exact, its interval and origin behind it, of a bound no upper end."""
    from coreml_pareto.search.rows import COUNTS

    row: dict[str, Any] = {}
    for name, reading in score.items():
        row[name] = round(reading.value) if name in COUNTS else reading.value
        if reading.how != "exact":
            high = None if reading.how == "at least" else reading.high
            row |= {f"{name}_low": reading.low, f"{name}_high": high, f"{name}_how": reading.how}
    return row


def system(program: Program, target: Target) -> str:
    """The oldest system that opens the package, by the name that the target's owner knows."""
    oldest = options.oldest_release(program)
    return program.minimum_os if oldest is None else target.device.system(oldest)


def _print_readings(
    program: Program, target: Target, score: Mapping[str, Reading], origins: Sequence[str], notes: Sequence[str]
) -> None:
    from coreml_pareto.search.report.tables import readings_table

    screen = options.console(markup=False)
    screen.print(f"{program.path.name}, opens on {system(program, target)} and newer", style="bold")
    screen.print(readings_table(score))
    screen.print("; ".join(origins), style="dim")
    for note in notes:
        screen.print(note, style="dim")


def _print_explanation(found: Explanation, score: Mapping[str, Reading]) -> None:
    """Both tables; below them what belongs to no layer, and what an import made of the estimate."""
    from coreml_pareto.search.report.tables import layers_table, parts_table

    screen = options.console(markup=False)
    screen.print(f"\nWhere the estimated {found.ms:.3g} ms on the {found.unit} go", style="bold")
    screen.print(parts_table(found))
    screen.print("The most expensive layers", style="bold")
    screen.print(layers_table(found))
    for name in found.handed_over:
        screen.print(f"not run by the Neural Engine, as is reported: {name}", style="yellow")
    reading = score["latency_ms"]
    if reading.how != "estimated":
        screen.print(f"This is the estimate; {reading.how} are {reading.value:.3g} ms.", style="dim")
