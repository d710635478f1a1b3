"""What a person sees of a front: the table, the recommended package, and which axes say the same.

Every estimated figure carries a tilde, its interval below it; `words.conditions` is the line that says whose it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.objectives.devices.schemes import Figure, Guide, Use
from coreml_pareto.objectives.energy import format_mah
from coreml_pareto.objectives.explanation import Explanation
from coreml_pareto.objectives.reading import Reading, losses
from coreml_pareto.search.choose import Recommendation
from coreml_pareto.search.figures import SCALES, figure, interval, mark, number, significant
from coreml_pareto.search.noise import Shares
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.relaxation import Limits
from coreml_pareto.search.report.correlation import correlation
from coreml_pareto.search.report.doubts import again
from coreml_pareto.search.report.words import cautions, model_name, otherwise, systems
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.compression import describe, minimum_os

STAR = "★"
_CHARGE = (("nAh", 1e6), ("µAh", 1e3), ("mAh", 1.0))


def front_table(
    results: Sequence[Result], bounds: Limits, recommended: Result | None = None, shares: Shares | None = None
) -> Table:
    """The packages, best top-1 first; two lines each: value and interval. `shares` of drawn fronts have a column."""
    charge, scale = _charge_unit(results)
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", width=1)
    table.add_column("trial", justify="right")
    table.add_column("network, training, compression", ratio=1, min_width=18, overflow="fold")
    for head in ("top-1 %", "test %", "latency ms", "size MB", "memory MB", f"energy {charge}"):
        table.add_column(head.replace(" ", "\n"), justify="right", no_wrap=True)
    if shares:
        table.add_column("front\n%", justify="right", no_wrap=True)
    for result in sorted(results, key=_by_top1):
        chosen = recommended is not None and result.trial == recommended.trial
        table.add_row(
            STAR if chosen else "",
            str(result.trial),
            _description(result, bounds),
            _cell("accuracy", result),
            _plain(result.test_top1),
            *(_cell(name, result) for name in ("latency", "size", "memory")),
            _charge(result, scale),
            *((f"{shares[result.trial]:.0%}"[:-1],) if shares else ()),
            style="bold" if chosen else "",
        )
    return table


def details_table(results: Sequence[Result], run: Run, recommended: Result | None = None) -> Group:
    """The readings that are no objectives, and where each package lies in the run folder; order as in `front_table`."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for head in ("trial", "top-5\n%", "frames\n/s", "bits/\nweight", "MACs\n10^6", "minimum\nOS"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("package", overflow="fold")
    for result in sorted(results, key=_by_top1):
        top5, macs, bits = (result.score.get(name) for name in ("top5", "macs", "bits_per_weight"))
        outcome = result.outcome
        table.add_row(
            str(result.trial),
            _two_lines(top5, 100.0, "{:.1f}".format),
            _two_lines(result.score.get("fps"), 1.0, significant),
            "–" if bits is None else significant(bits.value),
            "–" if macs is None else significant(macs.value * 1e-6),
            run.target.device.system(minimum_os(result.candidate.compression)),
            Text(os.path.relpath(outcome.package, run.folder) if isinstance(outcome, Scored) else "–"),
            style="bold" if recommended is not None and result.trial == recommended.trial else "",
        )
    return Group(Text(f"\nThe same packages; paths begin at {run.folder}", style="bold"), table)


def correlation_table(results: Sequence[Result], objectives: Sequence[Objective]) -> Group | None:
    """Spearman's rank correlation between the axes; None below three packages or two axes."""
    found = correlation(results, objectives)
    if found is None:
        return None
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for objective in objectives:
        table.add_column(objective.name, justify="right")
    for objective, line in zip(objectives, found.rho, strict=True):
        table.add_row(objective.name, *("–" if np.isnan(rho) else f"{rho:+.2f}" for rho in line))
    title = Text(f"Do the axes say the same? Spearman's rank correlation over {found.packages} packages", style="bold")
    legend = "+1: what is better on one is better on the other; -1: each costs the other; –: no difference to rank"
    return Group(title, table, Text(legend, style="dim"))


def best_panel(recommendation: Recommendation, package: str, bounds: Limits) -> Panel:
    """The recommended package, why, all its readings, and what the runners-up would cost or gain."""
    chosen = recommendation.chosen
    parts: list[Text | Table] = [Text(recommendation.reason), Text(), readings_table(_all_readings(chosen))]
    if caution := cautions(chosen, bounds):
        parts.append(Text(caution, style="yellow"))
    if warning := otherwise(Path(package)):
        parts.append(Text(warning, style="yellow"))
    for other in recommendation.runners_up:
        head = Text(f"\nInstead, trial {other.result.trial}, {model_name(other.result)}: ", style="bold")
        parts.append(head.append(other.sentence, style="not bold"))
    parts += [Text(), Text(package, style="dim", overflow="fold")]
    title = Text(f"{STAR} trial {chosen.trial} · {model_name(chosen)}", style="bold")
    return Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED)


def readings_table(readings: Mapping[str, Reading]) -> Table:
    """All readings of one package: value, interval, how it was obtained."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for _ in range(4):
        table.add_column()
    for name, reading in readings.items():
        table.add_row(_NAMES.get(name, name.replace("_", " ")), *_said(name, reading), Text(reading.how, style="dim"))
    return table


def parts_table(found: Explanation) -> Table:
    """Time by kind of operation; the columns and rows add up to the estimate."""
    unit, time = _clock(found)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_footer=True)
    table.add_column("kind of operation", footer="all")
    table.add_column("operations", justify="right", footer=str(sum(part.operations for part in found.parts)))
    for head, name in (("arithmetic", "arithmetic"), ("weights", "weights"), ("read, written", "bytes"), (unit, "ms")):
        table.add_column(head, justify="right", footer=time(sum(getattr(part, name) for part in found.parts)))
    table.add_column("share", justify="right", footer="100 %")
    for part in found.parts:
        amounts = (time(value) for value in (part.arithmetic, part.weights, part.bytes, part.ms))
        table.add_row(part.kind, str(part.operations or "–"), *amounts, _share(part.share))
    return table


def layers_table(found: Explanation) -> Table:
    """The most expensive layers, the most expensive first."""
    unit, time = _clock(found)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for head, justify in (("layer", "left"), ("kind", "left"), ("output", "left"), (unit, "right"), ("share", "right")):
        table.add_column(head, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for layer in found.layers:
        kind = layer.kind if layer.operator in layer.kind else f"{layer.kind} ({layer.operator})"
        shape = " × ".join(map(str, layer.shape))
        table.add_row(Text(layer.name), kind, shape, time(layer.ms), _share(layer.share))
    return table


def _share(value: float) -> str:
    """One decimal, or two significant digits below that."""
    return f"{100 * value:.1f} %" if value >= 0.001 or not value else f"{significant(100 * value, 2)} %"


def _clock(found: Explanation) -> tuple[str, Callable[[float], str]]:
    """The unit of both tables, microseconds where all takes less than 1 ms, and how milliseconds are said in it."""
    unit, scale = ("µs", 1000.0) if found.ms < 1 else ("ms", 1.0)
    return unit, lambda ms: significant(scale * ms) if ms else "–"


def device_table(uses: Sequence[Use]) -> Table:
    """Each compression's minimum OS, the unit that profits and its published speed; `device_notes` go below it."""
    places = _places(uses)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for head in ("compression", "minimum OS", "unit that\nprofits", "speed (time,\nfp16 = 1)", "note"):
        table.add_column(head, no_wrap=head in ("compression", "minimum OS", "note"))
    for use in uses:
        units = ", ".join(use.guide.units) or "–"
        table.add_row(use.name, " / ".join(systems(use.minimum_os)), units, _speed(use), places[use.guide])
    return table


def device_notes(uses: Sequence[Use]) -> Table:
    """What Apple says of each scheme, which reports are open, and the sources."""
    places = _places(uses)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for guide, place in places.items():
        tags = f" ({', '.join(guide.sources)})" if guide.sources else ""
        table.add_row(place, guide.speed + tags, style="dim")
    for report in dict.fromkeys(report for use in uses for report in use.reports):
        concerned = dict.fromkeys(places[use.guide] for use in uses if report in use.reports)
        which = f"of {', '.join(concerned)}, " if len(places) > 1 else ""
        line = f"{which}open since {report.since}: {report.what} ({report.reference})"
        table.add_row("", line, style="dim yellow")
    for line in _origins(uses):
        table.add_row("", line, style="dim")
    return table


def _places(uses: Sequence[Use]) -> dict[Guide, str]:
    """Numbers of the notes."""
    return {guide: str(place) for place, guide in enumerate(dict.fromkeys(use.guide for use in uses), 1)}


def _speed(use: Use) -> str:
    if use.guide.scheme == "fp16":
        return "1"
    if use.relative is None:
        return "nothing published"
    return "–".join(dict.fromkeys(f"{share:.2f}" for share in use.relative))


def _origins(uses: Sequence[Use]) -> list[str]:
    """Whose figures the speeds are, and which pages the tags stand for; reports carry their own address."""
    figures = [figure for use in uses for figure in use.figures]
    told = []
    if figures:
        words = [", ".join(dict.fromkeys(names)) for names in zip(*map(_measured, figures), strict=True)]
        told.append("Speeds: least and largest of Apple's published times; {} on {} with {}.".format(*words))
    sources = {tag: text for use in uses for tag, text in use.sources.items()}
    pages = [f"{tag} {text.split('.html')[0]}" for tag, text in sources.items() if ".html" in text]
    if pages:
        told.append(f"Apple, Core ML Tools guide, apple.github.io/coremltools/docs-guides: {', '.join(pages)}.")
    return told


def _measured(figure: Figure) -> tuple[str, str, str]:
    return figure.network, figure.device, figure.system


def _all_readings(result: Result) -> dict[str, Reading]:
    more = {"test_top1": result.test_top1, "top1_mean": result.mean_top1}
    readings = dict(result.score) | {name: reading for name, reading in more.items() if reading is not None}
    return {name: readings[name] for name in dict.fromkeys((*_NAMES, *readings)) if name in readings}


_NAMES = {
    "top1": "top-1", "top1_mean": "top-1, mean of other seeds",
    "test_top1": "test top-1", "top5": "top-5", "latency_ms": "latency", "fps": "frames per second",
    "size_bytes": "size", "bits_per_weight": "bits per weight", "memory_bytes": "memory, peak",
    "energy_mj": "energy", "energy_mah": "charge", "inferences_per_percent": "inferences per 1 % battery",
    "macs": "multiply-accumulates",
}  # fmt: skip
_OBJECTIVE_OF = {row.reading: name for name, row in OBJECTIVES.items()} | dict.fromkeys(
    ("top5", "test_top1", "top1_mean"), "accuracy"
)


def _said(name: str, reading: Reading) -> tuple[str, str]:
    """Value and interval in the units of the screen."""
    if objective := _OBJECTIVE_OF.get(name):
        return figure(objective, reading), interval(objective, reading)
    if name == "energy_mah":
        ends = f"{format_mah(reading.low)} – {format_mah(reading.high)}"
        return mark(reading) + format_mah(reading.value), ends
    if reading.how == "at least":
        return f"≥ {reading.value:,.0f}", ""
    if reading.how == "exact":
        shown = f"{reading.value:,.0f}" if reading.unit == "1" else f"{significant(reading.value)} {reading.unit}"
        return shown, ""
    unit = "" if reading.unit in ("1", "1/s") else f" {reading.unit}"
    ends = f"{significant(reading.low)}–{significant(reading.high)}"
    return f"{mark(reading)}{significant(reading.value)}{unit}", ends


def _by_top1(result: Result) -> tuple[float, ...]:
    rows = [OBJECTIVES["accuracy"], OBJECTIVES["size"]]
    return (*losses(result.score, rows), result.trial)


def _description(result: Result, bounds: Limits) -> Text:
    candidate = result.candidate
    text = Text(candidate.network.label)
    text.append(f"\n{candidate.recipe.label} · {describe(candidate.compression)}", style="dim")
    if result.mean_top1 is not None:
        text.append(f"\n{again(result, result.mean_top1)}", style="dim")
    if caution := cautions(result, bounds):
        text.append(f"\n{caution}", style="yellow")
    return text


def _cell(name: str, result: Result) -> Text:
    reading = result.score.get(OBJECTIVES[name].reading)
    if reading is None:
        return Text("–")
    text = Text(f"{mark(reading)}{number(name, reading.value)}")
    if ends := interval(name, reading, digits=2):
        text.append(f"\n{ends}", style="dim")
    return text


def _two_lines(reading: Reading | None, factor: float, say: Callable[[float], str]) -> Text:
    """Value and, unless it is exact, interval."""
    if reading is None:
        return Text("–")
    text = Text(f"{mark(reading)}{say(factor * reading.value)}")
    ends = "" if reading.how == "exact" else f"\n{say(factor * reading.low)}–{say(factor * reading.high)}"
    return text.append(ends, style="dim")


def _plain(reading: Reading | None) -> str:
    return "–" if reading is None else number("accuracy", reading.value)


def _charge_unit(results: Sequence[Result]) -> tuple[str, float]:
    """One unit for the column: nAh, µAh or mAh of the largest charge; mJ where the device has no known battery."""
    charges = [result.score["energy_mah"].value for result in results if "energy_mah" in result.score]
    if not charges:
        return SCALES["energy"].unit, 1.0
    return next(((unit, scale) for unit, scale in _CHARGE if max(charges) * scale < 999.5), _CHARGE[-1])


def _charge(result: Result, scale: float) -> Text:
    reading = result.score.get("energy_mah", result.score.get("energy_mj"))
    if reading is None:
        return Text("–")
    text = Text(f"{mark(reading)}{significant(reading.value * scale)}")
    return text.append(f"\n{significant(reading.low * scale, 2)}–{significant(reading.high * scale, 2)}", style="dim")
