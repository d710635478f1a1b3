"""Which objectives are there?  One row each: what it reads, which way is better, how its limit is written.

A study names them `accuracy`, `latency`, `size`, `memory`, `energy`. A new objective is one file and one row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from coreml_pareto.objectives.accuracy import Batches, evaluate
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.objectives.energy import energy
from coreml_pareto.objectives.latency import Measurement, fastest, latency
from coreml_pareto.objectives.memory import memory
from coreml_pareto.objectives.pareto import Scale
from coreml_pareto.objectives.program import Cost, Program, costs
from coreml_pareto.objectives.reading import Bound, Direction, Score
from coreml_pareto.objectives.size import size
from coreml_pareto.spaces.errors import UserError


@dataclass(frozen=True, eq=False)
class Subject:
    """A package to be read: its program, where it is to run, labelled images and a stopwatch's result if there are any."""

    program: Program
    target: Target
    batches: Batches | None = None
    measurement: Measurement | None = None

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """The operation table."""
        return costs(self.program)

    @cached_property
    def unit(self) -> Unit:
        """The unit that runs the program: the fastest of the allowed ones."""
        return fastest(self.costs, self.target)


@dataclass(frozen=True)
class Objective:
    """One row: `reading` is the one that is optimised and limited, `read` returns it and its companions."""

    name: str
    reading: str
    unit: str
    direction: Direction
    limit: str  # the command line's flag without dashes
    needs_data: bool
    scale: Scale  # how packages are weighed against each other
    read: Callable[[Subject], Score]

    @property
    def bound(self) -> Bound:
        """Which side of a limit is legal: at most ('max') or at least ('min')."""
        return "min" if self.direction == "maximize" else "max"


def _accuracy(subject: Subject) -> Score:
    if subject.batches is None:
        raise UserError("accuracy needs labelled images; none given; name the data, or leave accuracy out")
    return evaluate(subject.program, subject.batches).score


OBJECTIVES: Mapping[str, Objective] = {
    row.name: row
    for row in (
        Objective("accuracy", "top1", "share", "maximize", "min-top1", True, "odds", _accuracy),
        Objective("latency", "latency_ms", "ms", "minimize", "max-latency", False, "ratio",
                  lambda subject: latency(subject.costs, subject.target, subject.measurement)),
        Objective("size", "size_bytes", "B", "minimize", "max-size", False, "ratio",
                  lambda subject: size(subject.program)),
        Objective("memory", "memory_bytes", "B", "minimize", "max-memory", False, "ratio",
                  lambda subject: memory(subject.program, subject.target, subject.unit)),
        Objective("energy", "energy_mj", "mJ", "minimize", "max-energy", False, "ratio",
                  lambda subject: energy(subject.costs, subject.target)),
    )
}  # fmt: skip


def select(names: Iterable[str]) -> tuple[Objective, ...]:
    """The rows of these names, in the given order.

    Raises:
        UserError: no names, an unknown or a repeated one.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in OBJECTIVES]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        got = ", ".join(wanted) or "none"
        raise UserError(f"objectives are named once each, out of {', '.join(OBJECTIVES)}; got {got}")
    return tuple(OBJECTIVES[name] for name in wanted)
