"""How is a comparison told?  One sentence for each pair, the readings side by side, and where the answers differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.energy_ratio import Ratio
from coreml_pareto.search.comparison import LEVEL, Comparison, Pair
from coreml_pareto.search.figures import ESTIMATE, SCALES, figure, interval, significant
from coreml_pareto.search.report.words import many

SHOWN_CLASSES: Final = 5
SHOWN_IMAGES: Final = 10
LEAST_P: Final = 1e-4


def verdict(pair: Pair) -> str:
    """One sentence: who is right more often, or that no difference is shown and which could have been; what it takes."""
    return f"{_top1(pair)}; {_costs(pair)}."


def _top1(pair: Pair) -> str:
    first, second, difference = pair.first.letter, pair.second.letter, pair.top1
    if not pair.shown:
        open_to = f"they leave about ±{100 * pair.resolution:.1f} points open"
        return (
            f"No difference in top-1 shown between {second} and {first}: {_points(difference.value)} "
            f"({_ends(pair)}, {p_text(pair.p_value)}) on {many(difference.images, 'image')}, {open_to}"
        )
    often = "more" if difference.value > 0 else "less"
    return (
        f"{second} is right {often} often than {first}: {_points(difference.value)} of top-1 "
        f"({_ends(pair)}, {p_text(pair.p_value)}, {many(difference.images, 'image')})"
    )


def _costs(pair: Pair) -> str:
    """What the second takes of the first, by what is known to differ and what is not."""
    differing = {name: ratio for name, ratio in pair.ratios.items() if ratio.ranks}
    alike = [SCALES[name].noun for name in pair.ratios if name not in differing]
    told = [f"{_factor(ratio)} the {SCALES[name].noun}" for name, ratio in differing.items()]
    parts = [f"{pair.second.letter} takes {_listed(told)}"] if told else []
    parts += [f"no difference shown in {_listed(alike)}"] if alike else []
    return ", ".join(parts)


def _ends(pair: Pair) -> str:
    return f"95 %: {_signed(pair.top1.low)} to {_signed(pair.top1.high)}"


def _points(share: float) -> str:
    return f"{_signed(share)} points"


def _signed(share: float) -> str:
    """Percentage points with their sign, a minus as in print; a difference of nothing has none."""
    text = f"{100 * share:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def p_text(p: float) -> str:
    """`p = 0.031`, `p < 0.0001`."""
    return f"p < {LEAST_P:.4f}" if p < LEAST_P else f"p = {significant(p, 2)}"


def times(ratio: Ratio) -> str:
    """`0.52 ×`, `~0.52 × (80 %: 0.40–0.70)`; exact ratios have no interval."""
    ends = "" if ratio.low == ratio.high else f" (80 %: {significant(ratio.low)}–{significant(ratio.high)})"
    return _factor(ratio) + ends


def _factor(ratio: Ratio) -> str:
    return f"{'' if ratio.low == ratio.high else ESTIMATE}{significant(ratio.value)} ×"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def readings_side_by_side(found: Comparison) -> Table:
    """The readings of two packages, and the second's against the first's."""
    (pair,) = found.pairs
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for head in ("", pair.first.letter, pair.second.letter, f"{pair.second.letter} against {pair.first.letter}"):
        table.add_column(head)
    table.add_row(
        "top-1", *(_cell("accuracy", "top1", found, n) for n in (0, 1)), f"{_points(pair.top1.value)}\n{_ends(pair)}"
    )
    table.add_row("top-5", *(_cell("accuracy", "top5", found, n) for n in (0, 1)), "")
    for name in ("latency", "size", "memory", "energy"):
        against = times(pair.ratios[name]).replace(" (", "\n").rstrip(")") if name in pair.ratios else "–"
        cells = (_cell(name, OBJECTIVES[name].reading, found, n) for n in (0, 1))
        table.add_row(SCALES[name].noun, *cells, against)
    return table


def _cell(objective: str, key: str, found: Comparison, place: int) -> Text:
    reading = found.answers[place].score.get(key)
    if reading is None:
        return Text("–")
    text = Text(figure(objective, reading))
    if ends := interval(objective, reading):
        text.append(f"\n{ends}", style="dim")
    return text


def pairs_table(found: Comparison) -> Table:
    """More than two packages: one row for each pair, Holm's p-values."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    table.add_column("pair", no_wrap=True)
    for head in ("top-1,\npoints", "p", "p, Holm", "same\nanswer", "latency", "size", "memory", "energy"):
        table.add_column(head, justify="right", no_wrap=True)
    for pair in found.pairs:
        top1 = f"{_signed(pair.top1.value)}\n{_signed(pair.top1.low)} to {_signed(pair.top1.high)}"
        p_values = (p_text(p).removeprefix("p ").removeprefix("= ") for p in (pair.top1.p_value, pair.p_value))
        same = f"{100 * pair.agreement.share[0]:.1f} %"
        cells = [_short(pair.ratios.get(name)) for name in ("latency", "size", "memory", "energy")]
        style = "bold" if pair.shown else ""
        table.add_row(f"{pair.second.letter} against {pair.first.letter}", top1, *p_values, same, *cells, style=style)
    return table


def _short(ratio: Ratio | None) -> str:
    return "–" if ratio is None else times(ratio).replace(" (80 %: ", "\n").rstrip(")")


def differences(pair: Pair, images: int = SHOWN_IMAGES) -> Group:
    """Where two packages differ: counts, classes, images."""
    a, b, agreed = pair.first.letter, pair.second.letter, pair.agreement
    share, low, high = (100 * value for value in agreed.share)
    counts = (
        f"Both right {agreed.both_right}, only {a} {agreed.only_first}, only {b} {agreed.only_second}, both wrong "
        f"{agreed.both_wrong}; the same answer to {agreed.same} of {agreed.images} "
        f"({share:.1f} %, 95 %: {low:.1f} to {high:.1f})."
    )
    parts: list[Text | Table] = [Text(counts)]
    classes = [row for row in pair.classes if row.difference.only_first or row.difference.only_second]
    parts += [_classes_table(pair, SHOWN_CLASSES)] if classes else []
    parts += [_images_table(pair, images)] if pair.disputed and images else []
    return Group(*parts)


def _classes_table(pair: Pair, most: int) -> Table:
    rows = [row for row in pair.classes if row.difference.only_first or row.difference.only_second]
    title = (
        f"Classes that differ most, {min(most, len(rows))} of {len(rows)} (p: Holm's over {len(pair.classes)} classes)"
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
    table.add_column("class", overflow="fold")
    for head in ("images", "points", f"only {pair.first.letter}", f"only {pair.second.letter}", "p"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows[:most]:
        found = row.difference
        ends = f"{_signed(found.value)} ({_signed(found.low)} to {_signed(found.high)})"
        counts = (found.only_second, found.only_first)  # of the difference second minus first
        p = p_text(row.p_value).removeprefix("p ").removeprefix("= ")
        table.add_row(Text(row.label), str(found.images), ends, *map(str, counts), p)
    return table


def _images_table(pair: Pair, most: int) -> Table:
    title = f"Images with different answers, {min(most, len(pair.disputed))} of {len(pair.disputed)}"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
    for head in ("image", "class", pair.first.letter, pair.second.letter):
        table.add_column(head, overflow="fold")
    for one in pair.disputed[:most]:
        answers = (Text(said, style="" if said == one.label else "dim") for said in (one.first, one.second))
        table.add_row(Text(one.image), Text(one.label), *answers)
    return table


def notes(found: Comparison) -> Iterator[str]:
    """What belongs below: how it was tested, and what each package's own notes say, once where they are the same."""
    adjusted = f", adjusted for {len(found.pairs)} pairs (Holm 1979)" if len(found.pairs) > 1 else ""
    yield (
        f"top-1: McNemar's exact test{adjusted}, a difference is shown below {LEVEL:g}; paired intervals at 95 % (Agresti and "
        "Min 2005). Ratios of estimates: what both share is cancelled."
    )
    letters: dict[str, list[str]] = {}
    for one in found.answers:
        for note in one.notes:
            letters.setdefault(note, []).append(one.contender.letter)
    for note, who in letters.items():
        yield note if len(who) == len(found.answers) else f"{', '.join(who)}: {note}"


def as_json(found: Comparison, readings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For machines: `readings` are the flat rows of the packages, in their order."""
    packages = [
        {"letter": one.contender.letter, "name": one.contender.name, **row}
        for one, row in zip(found.answers, readings, strict=True)
    ]
    return {"packages": packages, "pairs": [_pair_json(pair) for pair in found.pairs], "notes": list(notes(found))}


def _pair_json(pair: Pair) -> dict[str, Any]:
    share, low, high = pair.agreement.share
    agreement = {**asdict(pair.agreement), "share": share, "share_low": low, "share_high": high}
    top1 = asdict(pair.top1)
    only = {"only_first": top1.pop("only_second"), "only_second": top1.pop("only_first")}  # of first and second here
    return {
        "first": pair.first.letter,
        "second": pair.second.letter,
        "verdict": verdict(pair),
        "difference_shown": pair.shown,
        "top1": {**top1, **only, "p_value_holm": pair.p_value, "resolution": pair.resolution},
        "agreement": agreement,
        "ratios": {name: asdict(ratio) for name, ratio in pair.ratios.items()},
        "classes": [
            {
                "label": row.label,
                "images": row.difference.images,
                "difference": row.difference.value,
                "low": row.difference.low,
                "high": row.difference.high,
                "p_value": row.difference.p_value,
                "p_value_holm": row.p_value,
            }
            for row in pair.classes
        ],
        "disputed": [asdict(one) for one in pair.disputed],
    }
