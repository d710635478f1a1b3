"""Before anything is trained: can the limits be kept, and how many trainings does the budget hold?

The first is asked of a new run with limits that need no data, and of one that goes on with others; the second of every
new run. There what was timed for the plan is used; where nothing was, the median network is timed. A training may be on
any rung, so its time has two ends. Counted are its epochs, those under the compressions of its packages, a teacher's
looks at its images, and the training of the teachers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from coreml_pareto.search import budget
from coreml_pareto.search.budget import Paces
from coreml_pareto.search.config import Plan
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.effort import EXPONENT, LOOKING
from coreml_pareto.search.reach import Reach, before_training, probe_seconds, survey
from coreml_pareto.search.record import PLAN, REQUEST, STORE, begun
from coreml_pareto.search.report.foreseen import reach_table
from coreml_pareto.search.report.words import many, unreachable
from coreml_pareto.search.screen import Clock, Screen
from coreml_pareto.search.store import Shelf, Store
from coreml_pareto.search.teaching import own_teachers, teacher_network, teacher_recipe
from coreml_pareto.search.trial import open_laboratory
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.counts import count
from coreml_pareto.spaces.space import RUNG, Space, Value, choose_from

Span = tuple[float, float]
"""The least and the most."""


class NothingCanFit(Exception):
    """No candidate of the space can keep the limits; the text names the nearest and the smallest relaxation."""


@final
@dataclass(frozen=True)
class Outlook:
    """How long trainings take, estimated.

    Attributes:
        network: the median one of the space.
        epochs: of its shortest and its longest training.
        seconds: of these.
        teachers: seconds of training all teachers of the study.
    """

    network: Network
    epochs: tuple[int, int]
    seconds: Span
    teachers: float


def foresee(
    plan: Plan, folder: Path, data: DataSet, screen: Screen, clock: Clock, shared: Shelf | None, paces: Paces
) -> None:
    """Show what is known of the limits and the budget before a new run trains anything.

    Args:
        paces: what was timed for the plan.

    Raises:
        NothingCanFit: the run folder is free again for another question; the probes stay in its store.
    """
    if begun(folder):
        return
    if before_training(plan.bounds):
        try:
            require_possible(plan, folder, data, screen, clock, shared)
        except NothingCanFit:
            for name in (REQUEST, PLAN):
                (folder / name).unlink(missing_ok=True)
            raise
    screen.note("timing a training step")
    try:
        screen.say(budget_line(plan, clock.seconds, outlook(plan, data, paces)))
    except RuntimeError as error:  # too little memory; its trials fail in the same way, smaller ones may not
        screen.say(f"Budget: the median network cannot be timed ({str(error).partition(chr(10))[0]}).")


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


def outlook(plan: Plan, data: DataSet, paces: Paces) -> Outlook:
    """Return how long the trainings of a resolved plan take on this machine.

    Args:
        paces: what was timed already; where it lacks the space, the median network is timed now.
    """
    space, images = plan.space(len(data.classes)), budget.images_of(plan, data)
    network = _median(space, paces)
    law = paces.backbones.get(network.backbone)
    epoch = law.seconds(network) * images if law else budget.seconds_per_epoch(network, plan, data)
    teachers = dict(_teachers(plan, len(data.classes), network, epoch / images, paces))
    looking = LOOKING * images * sum(teachers.values()) / max(1, len(plan.distillation.teachers))
    least, most = _epochs(space, network)
    further = budget.fine_tuning(plan) * epoch
    taught = math.fsum(
        pace * images * teacher_recipe(plan, name, len(data.classes)).epochs for name, pace in teachers.items()
    )
    seconds = tuple(number * (epoch + looking) + further for number in (least, most))
    return Outlook(network, (least, most), (seconds[0], seconds[1]), taught)


def budget_line(plan: Plan, spent: float, found: Outlook) -> str:
    """How many trainings the budget holds and how long they take; `spent` are the seconds that are gone."""
    search, packages, told = plan.search, plan.packages_per_training, list[str]()
    if search.seconds is not None:
        told.append(f"the timeout holds {_held(max(0.0, search.seconds - spent), found)}")
    whole = ""
    if search.trials is not None:
        wanted = math.ceil(search.trials / packages)
        verb = "takes" if search.trials == 1 else "take"
        told.append(f"{many(search.trials, 'trial')} {verb} about {many(wanted, 'training')}")
        with_teachers = ", that included" if found.teachers else ""
        total = tuple(wanted * seconds + found.teachers for seconds in found.seconds)
        whole = (
            f"; in all about {_spell((total[0], total[1]))} of training{with_teachers}"
            if search.seconds is None
            else ""
        )
    low, high = found.epochs
    epochs = many(high, "epoch") if low == high else f"{low} to {high} epochs"
    each = f"one takes about {_spell(found.seconds)} ({epochs} of {found.network.label}, the median network; estimated)"
    taught = f"; {_teaching(plan)} about {_spell((found.teachers, found.teachers))} once" if found.teachers else ""
    return f"Budget: {' and '.join(told)}, {many(packages, 'package')} of each; {each}{taught}{whole}."


def _held(left: float, found: Outlook) -> str:
    """How many trainings fit into the seconds that are left, with what their packages and the teachers take."""
    time = max(0.0, budget.UNTAUGHT_SHARE * left - found.teachers)
    most, least = (int(time / seconds) for seconds in found.seconds)
    if most == 0:
        return "less than one training, which is finished all the same"
    if least == 0:
        return f"up to about {many(most, 'training')}"
    return f"about {many(most, 'training')}" if least == most else f"about {least} to {many(most, 'training')}"


def _teaching(plan: Plan) -> str:
    return (
        "a teacher, if one is asked, takes" if len(own_teachers(plan)) == 1 else "all teachers, if they are asked, take"
    )


def _spell(seconds: Span) -> str:
    """`20 s to 1 min 00 s`, or one of them where they are the same; never 0 s."""
    low, high = (spell_duration(max(1.0, end)) for end in seconds)
    return low if low == high else f"{low} to {high}"


def _median(space: Space, paces: Paces) -> Network:
    """Return the network whose training is the median one: by what was timed, else by size."""

    def cost(network: Network) -> float:
        law = paces.backbones.get(network.backbone)
        return law.seconds(network) * max(space.epochs_of(network.backbone)) if law else budget.size(network)

    costs = {network: cost(network) for network in space.networks()}
    middle = statistics.median_high(costs.values())
    return next(network for network, own in costs.items() if own == middle)


def _epochs(space: Space, network: Network) -> tuple[int, int]:
    """Return for how long a network is trained at least, on the lowest rung, and at most."""
    family, lengths = network.family, space.epochs_of(network.backbone)
    lowest: dict[str, Value] = {
        "family": family,
        f"backbone.{family}": network.backbone,
        "epochs": min(lengths),
        RUNG: space.ladder[0],
    }
    return space.decode(choose_from(lowest)).recipe.epochs, max(lengths)


def _teachers(plan: Plan, classes: int, student: Network, pace: float, paces: Paces) -> Iterator[tuple[str, float]]:
    """Yield the teachers that the study trains itself with their seconds per image, timed or by `effort.py`.

    Args:
        pace: seconds per image of the student.
    """
    for name in own_teachers(plan):
        macs = count(teacher_network(plan, name, classes)).macs
        yield name, paces.teachers.get(name, pace * (macs / count(student).macs) ** EXPONENT)
