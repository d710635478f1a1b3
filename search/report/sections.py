"""The tables of a report as words: what HTML and Markdown set side by side, said once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.objectives.reading import Reading, losses
from coreml_pareto.search.choose import packages
from coreml_pareto.search.figures import ESTIMATE, SCALES, figure, interval, significant
from coreml_pareto.search.inspection import Inspection, Row
from coreml_pareto.search.report.doubts import doubts
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.importance import LEAST_BEST
from coreml_pareto.search.report.story import NOTHING, Stored, called, stored
from coreml_pareto.search.report.words import many, model_name
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.compression import describe, minimum_os

NAMED: Final = 3
"""Layers named beside a reason, at most."""


@final
@dataclass(frozen=True)
class Cell:
    """One figure of a table: value with unit, its interval (empty where exact), how it was obtained."""

    text: str
    ends: str = ""
    how: str = ""
    best: bool = False


@final
@dataclass(frozen=True)
class Line:
    """One row: what it is, then a cell for each column."""

    label: str
    cells: tuple[Cell, ...]


@final
@dataclass(frozen=True)
class Otherwise:
    """Layers that are not stored as was asked, and why."""

    asked: str
    applied: str
    reason: str
    layers: int
    names: str
    elements: float


def key_figures(result: Result) -> list[Line]:
    """The five objectives of a package, those it has a reading for."""
    known = [(row, result.score[row.reading]) for row in OBJECTIVES.values() if row.reading in result.score]
    return [Line(called(row, reading), (_cell(row, reading),)) for row, reading in known]


def test_cell(result: Result) -> Cell:
    """Top-1 on the test split."""
    return _percent(result.test_top1)


def front_rows(facts: Facts) -> list[tuple[Result, list[Cell]]]:
    """The front with its readings and its share of drawn fronts, the best top-1 first."""
    order = sorted(facts.front, key=lambda result: (*losses(result.score, [OBJECTIVES["accuracy"]]), result.trial))
    return [
        (
            result,
            [*(_known(result, row) for row in facts.objectives), _share(facts.share(result))],
        )
        for result in order
    ]


def side_by_side(results: Sequence[Result], facts: Facts) -> list[Line]:
    """Packages as columns: what they are, their readings, the best of each objective marked."""
    texts: Mapping[str, Callable[[Result], str]] = {
        "trial": lambda r: str(r.trial),
        "network": lambda r: r.candidate.network.label,
        "training": lambda r: r.candidate.recipe.label,
        "compression": lambda r: describe(r.candidate.compression),
    }
    lines = [Line(label, tuple(Cell(say(result)) for result in results)) for label, say in texts.items()]
    lines += [_compared(results, row) for row in facts.objectives]
    more: Mapping[str, Callable[[Result], Cell]] = {
        "top-1 on test": lambda r: _percent(r.test_top1),
        "frames per second": lambda r: _plain(r.score.get("fps")),
        "bits per weight": lambda r: _plain(r.score.get("bits_per_weight")),
        "opens on": lambda r: Cell(f"{facts.run.target.device.system(minimum_os(r.candidate.compression))} and newer"),
        "on drawn fronts": lambda r: _share(facts.share(r)),
    }  # fmt: skip
    lines += [Line(label, tuple(say(result) for result in results)) for label, say in more.items()]
    return [line for line in lines if any(cell.text != NOTHING for cell in line.cells)]


def doubts_of(facts: Facts) -> list[str]:
    """How sure the front is: shares, validation against test, who has seen the test."""
    return list(doubts(facts.run, facts.front, facts.shares, "On drawn fronts"))


def instead(facts: Facts) -> list[tuple[Result, str, str]]:
    """Each runner-up, its name, and what taking it would gain and cost."""
    return [(other.result, model_name(other.result), other.sentence) for other in facts.runners_up]


def forms(found: Inspection) -> list[tuple[Stored, float]]:
    """How layers are stored, each form with its share of all layers' weights, the most weights first."""
    told = stored(_layers(found))
    whole = sum(one.elements for one in told)
    return sorted(((one, one.elements / whole) for one in told), key=lambda pair: -pair[1])


def exceptions(found: Inspection) -> list[Otherwise]:
    """Layers that are not as asked, by reason, the most weights first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in _layers(found):
        if row.asked not in (None, row.applied):
            groups.setdefault((str(row.asked), row.applied, row.reason), []).append(row)
    whole = sum(row.elements for row in _layers(found))
    told = [
        Otherwise(asked, applied, reason, len(rows), _named(rows), sum(row.elements for row in rows) / whole)
        for (asked, applied, reason), rows in groups.items()
    ]
    return sorted(told, key=lambda exception: -exception.elements)


def bytes_by_content(found: Inspection) -> list[tuple[str, int]]:
    """What a package's bytes on disk hold; they add up to its size."""
    sizes = found.sizes
    told = {
        "weights": sizes.weights, "other constants": sizes.constants, "headers and padding": sizes.framing,
        "program": sizes.program, "manifest and the rest": sizes.other,
    }  # fmt: skip
    return [(what, size) for what, size in told.items() if size]


def importance_table(facts: Facts) -> list[tuple[str, list[float | None]]]:
    """Knobs as rows, a share for each objective of `facts.importances`, the weightiest knob first."""
    total: Counter[str] = Counter()
    for shares in facts.importances.values():
        total.update(shares)
    return [(knob, [shares.get(knob) for shares in facts.importances.values()]) for knob, _ in total.most_common()]


def importance_note(facts: Facts) -> str:
    """What the shares mean, and on what they rest."""
    return (
        f"PED-ANOVA over {many(len(packages(facts.run)), 'package')} from {many(facts.run.trainings, 'trained network')}: how "
        f"far a choice among the best tenth (at least {LEAST_BEST} packages) differs from the same choice among all; –: not "
        "told from chance (chi-squared tests at 5 %, Holm; packages of one network, or of one training, count once). "
        "It describes what was tried here; of choices that were varied together it cannot say which one it was."
    )


def noun(name: str) -> str:
    """`Top-1`, `Latency`: an objective at the head of a column."""
    return _noun(OBJECTIVES[name])


def _noun(row: Objective) -> str:
    return SCALES[row.name].noun


def _compared(results: Sequence[Result], row: Objective) -> Line:
    known = [result for result in results if row.reading in result.score]
    best = min((losses(result.score, [row]) for result in known), default=None)
    cells = (_known(r, row, best=len(known) > 1 and losses(r.score, [row]) == best) for r in results)
    return Line(_noun(row), tuple(cells))


def _known(result: Result, row: Objective, *, best: bool = False) -> Cell:
    reading = result.score.get(row.reading)
    return Cell(NOTHING) if reading is None else _cell(row, reading, best=best)


def _cell(row: Objective, reading: Reading, *, best: bool = False) -> Cell:
    return Cell(figure(row.name, reading), interval(row.name, reading), reading.how, best)


def _percent(reading: Reading | None) -> Cell:
    return Cell(NOTHING) if reading is None else _cell(OBJECTIVES["accuracy"], reading)


def _plain(reading: Reading | None) -> Cell:
    if reading is None:
        return Cell(NOTHING)
    guessed = reading.how in ("estimated", "corrected")
    ends = "" if reading.how == "exact" else f"{significant(reading.low)}–{significant(reading.high)}"
    return Cell(f"{ESTIMATE if guessed else ''}{significant(reading.value)}", ends, reading.how)


def _share(share: float | None) -> Cell:
    return Cell(NOTHING if share is None else f"{100 * share:.0f} %")


def _layers(found: Inspection) -> Iterator[Row]:
    return (row for row in found.rows if row.layer)


def _named(rows: Sequence[Row]) -> str:
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return ", ".join(row.name for row in rows[:NAMED]) + more
