"""Before anything is trained: can the limits be kept, and how many trainings does the budget hold?

Asked of a new run with limits that need no data, and of one that goes on with others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from coreml_pareto.search import budget
from coreml_pareto.search.config import Plan
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.reach import Reach, before_training, probe_seconds, survey
from coreml_pareto.search.record import PLAN, REQUEST, STORE, begun
from coreml_pareto.search.report.foreseen import reach_table
from coreml_pareto.search.report.words import many, unreachable
from coreml_pareto.search.screen import Clock, Screen
from coreml_pareto.search.store import Shelf, Store
from coreml_pareto.search.teaching import own_teachers
from coreml_pareto.search.trial import open_laboratory


class NothingCanFit(Exception):
    """No candidate of the space can keep the limits; the text names the nearest and the smallest relaxation."""


def foresee(plan: Plan, folder: Path, data: DataSet, screen: Screen, clock: Clock, shared: Shelf | None) -> None:
    """Show what is known of the limits and the budget before a new run trains anything.

    Raises:
        NothingCanFit: the run folder is free again for another question; the probes stay in its store.
    """
    if not before_training(plan.bounds) or begun(folder):
        return
    try:
        require_possible(plan, folder, data, screen, clock, shared)
    except NothingCanFit:
        for name in (REQUEST, PLAN):
            (folder / name).unlink(missing_ok=True)
        raise
    screen.note("timing a training step")
    screen.say(budget_line(plan, data, clock.seconds))


def require_possible(
    plan: Plan, folder: Path, data: DataSet, screen: Screen, clock: Clock, shared: Shelf | None
) -> None:
    """Show what is known of the limits; the probes stay in the run's store.

    Raises:
        NothingCanFit: nothing in the space can keep them.
    """
    until = clock.seconds + probe_seconds(plan.search.seconds)
    found = reach_of(plan, data, Store(folder / STORE, shared), lambda: clock.seconds >= until, screen.note)
    screen.show(reach_table(found, plan.bounds))
    if found.refusal is not None:
        raise NothingCanFit("\n".join(unreachable(found.refusal)))


def reach_of(plan: Plan, data: DataSet, store: Store, late: Callable[[], bool], note: Callable[[str], None]) -> Reach:
    """Return what probes tell of a plan's limits; they stay in the store.

    Args:
        late: whether the time for probes is over.
        note: told what is probed.
    """
    laboratory = open_laboratory(plan, data, store, lambda teacher: None)
    return survey(plan.space(len(data.classes)), plan.bounds, laboratory, late, strict=plan.strict, note=note)


def budget_line(plan: Plan, data: DataSet, spent: float) -> str:
    """How many trainings the budget holds, by the time that the median network takes (estimated)."""
    network, seconds = budget.training_seconds(plan, data)
    search, told = plan.search, list[str]()
    packages = plan.packages_per_training
    share = budget.TRAINING_SHARE if own_teachers(plan) else budget.UNTAUGHT_SHARE
    if search.seconds is not None:
        fit = int(share * max(0.0, search.seconds - spent) / seconds)
        told.append(f"the timeout holds about {many(fit, 'training')}")
    if search.trials is not None:
        wanted = math.ceil(search.trials / packages)
        verb = "takes" if search.trials == 1 else "take"
        told.append(f"{many(search.trials, 'trial')} {verb} about {many(wanted, 'training')}")
    each = f"one takes about {spell_duration(seconds)} ({network.label}, the median network; estimated)"
    return f"Budget: {' and '.join(told)}, {many(packages, 'package')} of each; {each}."
