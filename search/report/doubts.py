"""How sure is a front, in words?  Shares of drawn fronts, other seeds, validation against test, and who has seen the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.choose import Recommendation
from coreml_pareto.search.figures import interval, number, unsigned
from coreml_pareto.search.gap import Gap, gap
from coreml_pareto.search.noise import DRAWS, Shares
from coreml_pareto.search.report.words import many, model_name
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.tested import told

CLEAR: Final = 0.9
"""From this share on a package is taken to be on the front."""
SUBSTANTIAL: Final = 1 / 3
"""From this share on a package that is not on the front is named."""
NAMED: Final = 5


def doubts(run: Run, front: Sequence[Result], shares: Shares, column: str = "front %") -> Iterator[str]:
    """What goes below a front: how its shares were drawn, who else may belong to it, what the test says of validation.

    `column` is what the shares are called beside it.
    """
    if shares:
        yield (
            f"{column}: of {DRAWS:,} draws those in which it is on the front; validation images are drawn anew, and what "
            "estimates do not share."
        )
        yield from _others(run, front, shares)
    elif front:
        yield "No shares of drawn fronts: this run has packages that were recorded without which images they got right."
    if (found := gap(front)) is not None:
        yield flattery(found)
    if line := tested(run):
        yield line


def _others(run: Run, front: Sequence[Result], shares: Shares) -> Iterator[str]:
    """Packages off the front that are on many drawn ones, the most likely first."""
    on = {result.trial for result in front}
    likely = [r for r in run.scored() if r.trial not in on and shares.get(r.trial, 0.0) >= SUBSTANTIAL]
    likely.sort(key=lambda result: (-shares[result.trial], result.trial))
    if not likely:
        return
    named = ", ".join(f"trial {r.trial} ({model_name(r)}) {_percent(shares[r.trial])}" for r in likely[:NAMED])
    more = f" and {len(likely) - NAMED} more" if len(likely) > NAMED else ""
    yield f"Not on this front, but on at least a third of those drawn: {named}{more}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def flattery(found: Gap) -> str:
    """What validation minus test says, e.g. `… 1.2 points above test (95 %: 0.3 to 2.1): …`."""
    points, low, high = (100 * value for value in (found.value, found.low, found.high))
    side = f"{abs(points):.1f} points {'above' if points >= 0 else 'below'} test"
    head = f"Top-1 of the front's {many(found.packages, 'package')}: validation on average {side}"
    ends = f"(95 %: {unsigned(low)} to {unsigned(high)})"
    if low > 0:
        return (
            f"{head} {ends}: what is chosen by validation is flattered by it (the winner's curse); expect the test's."
        )
    if high < 0:
        return f"{head} {ends}: no flattery; the test's images are easier."
    return f"{head} {ends}: no difference is shown."


def tested(run: Run) -> str:
    """That a run was searched on after its test was read; empty where it was not."""
    return told(run.looks, len(run.results))


def again(result: Result, mean: Reading) -> str:
    """`3 other seeds: top-1 94.6 (93.2–96.0)`."""
    shown = number("accuracy", mean.value)
    return f"{len(result.repeated)} other seeds: top-1 {shown} ({interval('accuracy', mean)})"


def doubted(answer: Recommendation, shares: Shares) -> Recommendation:
    """The recommendation, its reason followed by how sure it is that it belongs to the front, where that is not clear."""
    own = shares.get(answer.chosen.trial, 1.0)
    if own >= CLEAR:
        return answer
    others = [f"trial {other.result.trial} in {_percent(shares[other.result.trial])}" for other in answer.runners_up]
    beside = f"; {', '.join(others)}" if others else ""
    return replace(answer, reason=f"{answer.reason} Not clear: it is on the front in {_percent(own)} of draws{beside}.")
