"""What may not be concluded from this run?  Sentences that follow from its record; none that would fit any run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, final

import numpy as np
from scipy.sparse.csgraph import connected_components

from coreml_pareto.objectives.accuracy import right_of
from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.objectives.paired import compare
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.choose import Recommendation, RunnerUp
from coreml_pareto.search.events import read_events
from coreml_pareto.search.figures import SCALES, figure, interval, signed
from coreml_pareto.search.gap import Gap
from coreml_pareto.search.noise import DRAWS, Shares
from coreml_pareto.search.outcome import Failed
from coreml_pareto.search.report.correlation import Correlation
from coreml_pareto.search.report.doubts import CLEAR, flattery, tested
from coreml_pareto.search.report.pictures import Pictures
from coreml_pareto.search.report.words import cautions, many
from coreml_pareto.search.run import Result, Run

COARSE: Final = 0.01
"""An interval of top-1 that reaches further than this to one side is told."""
COARSE_CLASS: Final = 0.10
"""The same of a single class."""
ALIKE: Final = 0.95
"""From this rank correlation on two axes say the same."""
LEVEL: Final = 0.05
"""A difference is shown where chance gives as much less often than this."""
NAMED: Final = 5
"""Classes named at most."""
MANY_FAILED: Final = 0.05


@final
@dataclass(frozen=True)
class Limitation:
    """Something that the run does not show.

    Attributes:
        claim: what is not shown, short enough for a slide.
        because: the evidence, with its figures, and what would settle it.
    """

    claim: str
    because: str


def limitations(
    run: Run,
    answer: object,
    found_shares: Shares,
    found_gap: Gap | None,
    correlations: Correlation | None,
    pictures: Pictures | None,
) -> Iterator[Limitation]:
    """Everything that this run leaves open, what weighs most first.

    Args:
        run: what was found.
        answer: the recommendation; anything else where there is none.
        found_shares: of drawn fronts.
        found_gap: validation minus test.
        correlations: between the run's objectives; None where there are too few packages.
        pictures: what the recommended package answered.
    """
    if isinstance(answer, Recommendation):
        yield from _not_measured(run, answer.chosen)
        yield from _untested(answer.chosen)
        yield from _trained_once(answer.chosen)
        yield from _limits(run, answer.chosen)
        yield from _drawn(answer.chosen, found_shares)
        for other in answer.runners_up:
            yield from _alike(answer.chosen, other)
    if found_gap is not None and found_gap.low > 0:
        yield Limitation("Validation accuracy is not what users will see.", flattery(found_gap))
    if line := tested(run):
        yield Limitation("The test pictures are no longer untouched.", line)
    if isinstance(answer, Recommendation):
        yield from _elsewhere(answer.chosen)
    yield from _classes(pictures)
    yield from _same_axes(run.objectives, correlations)
    yield from _untried(run)
    yield from _failures(run)


def _not_measured(run: Run, chosen: Result) -> Iterator[Limitation]:
    """Estimates: of which readings, how wide."""
    for how, said in (("estimated", "were not measured"), ("corrected", "are corrected estimates, not measured")):
        told = [(row, chosen.score[row.reading]) for row in OBJECTIVES.values() if row.reading in chosen.score]
        rows = [(row, reading) for row, reading in told if reading.how == how]
        if rows:
            nouns = _listed([SCALES[row.name].noun for row, _ in rows])
            names, single = {row.name for row, _ in rows}, len(rows) == 1
            verb = (
                said.replace("were", "was").replace("are corrected estimates", "is a corrected estimate")
                if single
                else said
            )
            way = " `coreml-pareto device-kit` measures latency on the device in hand." if "latency" in names else ""
            figures = "; ".join(f"{SCALES[row.name].noun} {_with_interval(row, reading)}" for row, reading in rows)
            yield Limitation(
                f"{nouns[0].upper()}{nouns[1:]} {verb} on {run.target.device.name}.",
                f"Of the recommended package: {figures} (80 % intervals).{way}",
            )


def _untested(chosen: Result) -> Iterator[Limitation]:
    """No test reading, or one on few pictures."""
    if chosen.test_top1 is None:
        if "top1" in chosen.score:
            yield Limitation(
                "Its accuracy on untouched pictures is not known.",
                "The test split was not read for it: its top-1 is that of the validation pictures which it was chosen by.",
            )
        return
    reading = chosen.test_top1
    if _half(reading) > COARSE:
        images = reading.conditions.get("images", "its")
        yield Limitation(
            f"Accuracy is known to ±{100 * _half(reading):.1f} points only.",
            f"Test top-1 {_with_interval(OBJECTIVES['accuracy'], reading)} (95 %) on {images} test pictures.",
        )


def _trained_once(chosen: Result) -> Iterator[Limitation]:
    if not chosen.repeated:
        yield Limitation(
            "Another training may come out better or worse.",
            f"The recommended network was trained once, with seed {chosen.candidate.recipe.seed}; the spread between seeds "
            "was not measured (`coreml-pareto search --finalists` does).",
        )


def _limits(run: Run, chosen: Result) -> Iterator[Limitation]:
    if caution := cautions(chosen, run.limits):
        yield Limitation(
            "That it keeps every limit is not certain.", f"Its value does, but the interval does not: {caution}."
        )


def _drawn(chosen: Result, shares: Shares) -> Iterator[Limitation]:
    own = shares.get(chosen.trial, 1.0)
    if own < CLEAR:
        yield Limitation(
            "It may not belong to the front.",
            f"With validation pictures and errors of estimates drawn anew it is on the front in {100 * own:.0f} % of "
            f"{DRAWS:,} draws.",
        )


def _alike(chosen: Result, other: RunnerUp) -> Iterator[Limitation]:
    """A runner-up whose accuracy is not told apart, by McNemar's test on the same pictures."""
    name, readings = f"trial {other.result.trial}", [r.score.get("top1") for r in (chosen, other.result)]
    first, second = (None if reading is None else right_of(reading) for reading in readings)
    if first is None or second is None or first.shape != second.shape:
        return
    found = compare(first, second)
    if found.p_value >= LEVEL:
        yield Limitation(
            f"No difference in accuracy to {name} is shown.",
            f"Top-1 {signed(100 * found.value)} points on the same {found.images:,} validation pictures "
            f"(95 %: {signed(100 * found.low)} to {signed(100 * found.high)}; McNemar's exact test: p = {found.p_value:.2g}).",
        )


def _elsewhere(chosen: Result) -> Iterator[Limitation]:
    """Accuracy by our executor, not by Core ML."""
    arithmetic = chosen.score["top1"].conditions.get("executor") if "top1" in chosen.score else None
    if arithmetic is not None:
        yield Limitation(
            "The device's own answers were not compared.",
            f"Accuracy was computed from the saved package ({arithmetic}), not by Core ML; `coreml-pareto verify` on a Mac "
            "compares the two on every compute unit.",
        )


def _classes(pictures: Pictures | None) -> Iterator[Limitation]:
    if pictures is None or not pictures.by_class:
        return
    below = [one for one in pictures.by_class if one.high < 1 / len(pictures.classes)]
    if below:
        named = _listed(
            [one.label for one in below[:NAMED]] + ([f"{len(below) - NAMED} more"] if len(below) > NAMED else [])
        )
        yield Limitation(
            "Not every class is recognised.",
            f"Answered right less often than by guessing (95 %), on the {pictures.split} pictures: {named}.",
        )
    widths = [max(one.high - one.value, one.value - one.low) for one in pictures.by_class]
    coarse = sum(width > COARSE_CLASS for width in widths)
    if coarse:
        least = min(one.images for one in pictures.by_class)
        yield Limitation(
            f"The accuracy of {'each class' if coarse == len(widths) else f'{coarse} of {len(widths)} classes'} "
            "is known roughly.",
            f"As few as {many(least, f'{pictures.split} picture')} of a class: 95 % intervals reach up to "
            f"{100 * max(widths):.0f} points.",
        )


def _same_axes(axes: Sequence[Objective], correlations: Correlation | None) -> Iterator[Limitation]:
    if correlations is None:
        return
    rho = correlations.rho
    agree = np.triu(rho >= ALIKE, k=1)  # nan is never
    groups, member = connected_components(agree, directed=False)
    for group in range(groups):
        places = np.flatnonzero(member == group)
        if len(places) > 1:
            pairs = [rho[i, j] for i, j in combinations(places, 2)]  # of a chain, its ends too
            least = f"{'at least ' if len(pairs) > 1 else ''}{min(pairs):.2f}"
            nouns = _listed([SCALES[axes[place].name].noun for place in places])
            yield Limitation(
                f"{nouns[0].upper()}{nouns[1:]} are not independent reasons.",
                f"Their ranks agree over {many(correlations.packages, 'package')} (Spearman's rho {least}): what is better "
                "on one is mostly better on the other.",
            )


def _untried(run: Run) -> Iterator[Limitation]:
    """How much of the space was tried, as the log has it."""
    planned = [event["candidates"] for event in read_events(run.folder) if event["event"] == "planned"]
    tried = len({result.candidate.digest for result in run.results})
    if planned and tried < planned[-1]:
        yield Limitation(
            "Better candidates may be left in the space.", f"{tried:,} of {planned[-1]:,} candidates were tried."
        )


def _failures(run: Run) -> Iterator[Limitation]:
    failed = [result.outcome for result in run.results if isinstance(result.outcome, Failed)]
    if failed and len(failed) >= MANY_FAILED * len(run.results):
        stage, count = Counter(outcome.stage for outcome in failed).most_common(1)[0]
        yield Limitation(
            "Nothing is known of the candidates that failed.",
            f"{len(failed):,} of {many(len(run.results), 'trial')} failed, {count:,} of them in {stage}.",
        )


def _half(reading: Reading) -> float:
    """How far the interval reaches to the farther side."""
    return max(reading.high - reading.value, reading.value - reading.low)


def _with_interval(row: Objective, reading: Reading) -> str:
    ends = interval(row.name, reading)
    return figure(row.name, reading) + (f" ({ends})" if ends else "")


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
