"""Decided again on other terms: whose figures are these now, and what did the run's own terms keep from being trained?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from coreml_pareto.search.elsewhere import Elsewhere
from coreml_pareto.search.outcome import Infeasible, Pruned
from coreml_pareto.search.relaxation import Limits
from coreml_pareto.search.report.words import limit, many
from coreml_pareto.search.run import Run, broken


def told_again(before: Run, found: Elsewhere, limits: Limits, *, strict: bool = False) -> list[str]:
    """Return the sentences that go with a front or a recommendation; none where the terms are the run's own.

    Args:
        before: the run on its own target.
        found: the same on the target asked for.
        limits: those asked for.
        strict: hold limits against the worse end of each interval.
    """
    kept_out = list(_kept_out(before, found.run, limits, strict=strict or before.strict))
    way = f"`coreml-pareto search --resume {before.folder}` on these terms goes on with them."
    return [*_whose(before, found), *kept_out, *([way] if kept_out else [])]


def _kept_out(before: Run, there: Run, limits: Limits, *, strict: bool) -> Iterator[str]:
    """What was never trained, or not to its end, for reasons that may no longer hold."""
    for names, count in _not_trained(there, limits, strict=strict).items():
        bounds = before.limits  # a limit that was dropped since is told by its name
        own = " and ".join(limit(name, bounds[name]) if name in bounds else name for name in names)
        yield f"{many(count, 'candidate')} {_were(count)} not trained because of the run's limit {own}."
    stopped = sum(isinstance(result.outcome, Pruned) for result in before.results)
    if stopped and (there.target != before.target or _lower(before.limits, limits)):
        yield f"{many(stopped, 'candidate')} {_were(stopped)} stopped early, without a chance on the run's own terms."


def _whose(before: Run, found: Elsewhere) -> Iterator[str]:
    """Whose figures these are, and which packages have none."""
    if found.run.target == before.target:
        return
    place, own = (" / ".join(run.target.conditions.values()) for run in (found.run, before))
    count = many(len(found.run.scored()), "package")
    yield f"For {place}: {count} read again, nothing trained; the search was for {own}."
    if found.newer:
        verb = "needs" if len(found.newer) == 1 else "need"
        system = found.run.target.conditions["os"]
        yield f"{many(len(found.newer), 'package')} {verb} a newer system than {system}: left out."
    if found.gone:
        verb = "is" if len(found.gone) == 1 else "are"
        yield f"{many(len(found.gone), 'package')} {verb} gone or damaged, so nothing is known of them there: left out."


def _not_trained(run: Run, limits: Limits, *, strict: bool) -> Counter[tuple[str, ...]]:
    """How many candidates a limit of the run refused which may keep these ones, by the limits that refused them."""
    refused = (result.outcome for result in run.results if isinstance(result.outcome, Infeasible))
    return Counter(outcome.limits for outcome in refused if not broken(outcome.score, limits, strict=strict))


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _lower(before: Limits, limits: Limits) -> bool:
    """Whether less accuracy is asked for, below which the run stopped its trainings."""
    return "accuracy" in before and limits.get("accuracy", 0.0) < before["accuracy"]
