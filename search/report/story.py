"""Which sentences do paper and slides share?  What to take, how the search ended, whose estimates, what compression did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from coreml_pareto.objectives.accuracy import wilson
from coreml_pareto.objectives.catalogue import Objective
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.choose import Recommendation
from coreml_pareto.search.figures import SCALES, figure, interval
from coreml_pareto.search.inspection import Inspection, Row
from coreml_pareto.search.report import words
from coreml_pareto.search.report.facts import Anchor, Facts
from coreml_pareto.search.report.pictures import Pictures

KINDS: Final = {
    "scored": "scored",
    "infeasible": "over a limit, not trained",
    "pruned": "stopped early",
    "failed": "failed",
}
"""How trials end, for people."""

NOTHING: Final = "–"
LOSSLESS: Final = 999.0
"""The signal-to-noise ratio, dB, that stands for none lost."""


def verdict(facts: Facts) -> str:
    """What to take, in one sentence; or that nothing keeps the limits."""
    if facts.chosen is not None:
        return f"Take trial {facts.chosen.trial}: {words.model_name(facts.chosen)}."
    if not facts.scored:
        return f"No package came out of {words.many(len(facts.run.results), 'trial')}."
    return f"No package keeps {words.limits(facts.run.limits)}."


def refusal(facts: Facts) -> list[str]:
    """Why nothing fits and what would have to give way; empty where something fits."""
    return [] if isinstance(facts.answer, Recommendation) else words.refusal(facts.run, facts.answer)


def about(facts: Facts) -> str:
    """Of which study, for which device, from how many trials."""
    target = " / ".join(facts.run.target.conditions.values())
    return f"study {facts.run.study} · {target} · {words.many(len(facts.run.results), 'trial')}"


def limits(facts: Facts) -> str:
    """The search's limits, in a sentence."""
    return f"Limits: {words.limits(facts.run.limits)}." if facts.run.limits else "No limits were set."


def estimates(facts: Facts) -> str:
    """One line for every place with estimated figures: whose they are; empty where nothing is estimated."""
    return "; ".join(words.estimated(facts.run.target, [result.score for result in facts.scored]))


def tiles(facts: Facts, rows: Sequence[Objective] | None = None) -> tuple[tuple[str, str, str], ...]:
    """The recommended package's readings: noun, value, interval and how it was obtained."""
    shown = facts.objectives if rows is None else rows
    known = [(row, facts.score[row.reading]) for row in shown if row.reading in facts.score]
    return tuple((called(row, reading), figure(row.name, reading), _certainty(row, reading)) for row, reading in known)


def called(row: Objective, reading: Reading) -> str:
    """`validation top-1`: accuracy is of a split."""
    return " ".join([*filter(None, [reading.conditions.get("split")]), SCALES[row.name].noun])


def tested(facts: Facts) -> str:
    """The recommended package's top-1 on test pictures; empty where they were not read."""
    reading = None if facts.chosen is None else facts.chosen.test_top1
    if reading is None:
        return ""
    ends = interval("accuracy", reading, 2)
    return f"On test pictures, by which the search chose nothing: {figure('accuracy', reading)} top-1 ({ends})."


def _certainty(row: Objective, reading: Reading) -> str:
    ends = interval(row.name, reading, 2)
    return f"{ends}, {reading.how}" if ends else reading.how


def anchored(facts: Facts) -> list[tuple[str, Anchor]]:
    """Each package among the anchors once, with all that it is: `fastest, smallest`."""
    names: dict[int, list[str]] = {}
    for anchor in facts.anchors:
        names.setdefault(anchor.result.trial, []).append(anchor.name)
    first = {anchor.result.trial: anchor for anchor in reversed(facts.anchors)}
    every = len(facts.anchors)
    return [
        ("best in every respect" if 1 < len(told) == every else ", ".join(told), first[trial])
        for trial, told in names.items()
    ]


def right(pictures: Pictures) -> str:
    """`2,840 of 10,000 test pictures (28.4 %, 95 %: 27.5–29.3)`."""
    told = f"{pictures.right:,} of {pictures.images:,} {pictures.split} pictures"
    if not pictures.images:
        return told
    low, high = (100 * end for end in wilson(pictures.right, pictures.images))
    return f"{told} ({100 * pictures.right / pictures.images:.1f} %, 95 %: {low:.1f}–{high:.1f})"


@final
@dataclass(frozen=True)
class Stored:
    """The weights of a package that are stored in one way; `snr_db` is the smallest recorded one, None without any."""

    applied: str
    weights: int
    layers: int
    elements: int
    stored_bytes: int
    snr_db: float | None

    @property
    def bits_per_weight(self) -> float:
        """Tables, scales and masks counted."""
        return 8 * self.stored_bytes / self.elements

    def noise(self, digits: int = 1) -> str:
        """The smallest signal-to-noise ratio, for people."""
        if self.snr_db is None:
            return NOTHING
        return "nothing lost" if self.snr_db >= LOSSLESS else f"{self.snr_db:.{digits}f} dB"


def stored(weights: Iterable[Row]) -> tuple[Stored, ...]:
    """Weights by how they are stored, most bytes first."""
    groups: dict[str, list[Row]] = {}
    for row in weights:
        groups.setdefault(row.applied, []).append(row)
    told = (_stored(applied, rows) for applied, rows in groups.items() if sum(row.elements for row in rows))
    return tuple(sorted(told, key=lambda one: -one.stored_bytes))


def _stored(applied: str, rows: Sequence[Row]) -> Stored:
    noise = [row.snr_db for row in rows if row.snr_db is not None]
    return Stored(
        applied=applied,
        weights=len(rows),
        layers=sum(row.layer for row in rows),
        elements=sum(row.elements for row in rows),
        stored_bytes=sum(row.stored_bytes for row in rows),
        snr_db=min(noise, default=None),
    )


def compressed(inspection: Inspection) -> str:
    """What compression really did, in one sentence."""
    layers = [row for row in inspection.rows if row.layer]
    changed = sum(row.compressed for row in layers)
    bits = "" if inspection.bits_per_weight is None else f", {inspection.bits_per_weight:.1f} bits per weight over all"
    if inspection.warning:
        return f"{inspection.warning}{bits}."
    asked = f" as asked ({inspection.asked})" if inspection.asked else ""
    return f"{changed} of {words.many(len(layers), 'layer')} compressed{asked}{bits}."
