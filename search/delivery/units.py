"""On which units of the chip should the model run?  The estimate for each choice, and what speaks for one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final, get_args

from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target
from coreml_pareto.objectives.program import Program
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.objectives.score import static_score


@final
@dataclass(frozen=True)
class Row:
    """Latency, energy and memory under one choice of compute units, and the unit that is taken to do the work."""

    units: ComputeUnits
    score: Mapping[str, Reading]

    @property
    def unit(self) -> str:
        """Neural Engine, GPU or CPU, as the latency's conditions say; `not known` of a stopwatch."""
        return self.score["latency_ms"].conditions.get("unit", "not known")


def rows(program: Program, target: Target, known: Mapping[str, Reading]) -> tuple[Row, ...]:
    """All choices on a device; that of the target has the readings on record, which may be measured."""
    found = []
    for units in get_args(ComputeUnits):
        own = units == target.compute_units
        found.append(Row(units, known if own else static_score(program, replace(target, compute_units=units))))
    return tuple(found)


def recommended(choices: Sequence[Row], own: ComputeUnits) -> tuple[ComputeUnits, str]:
    """The search's own choice, unless another one is faster beyond both intervals; and the reason in a sentence."""
    mine = next(row for row in choices if row.units == own)
    latency = mine.score["latency_ms"]
    surely = [row for row in choices if row.score["latency_ms"].high < latency.low]
    if surely:
        best = min(surely, key=lambda row: row.score["latency_ms"].value)
        return best.units, (
            f"Its latency lies below that of {own}, which the search was made for, with both intervals apart."
        )
    return own, (
        "The search was made for it, and no other choice is faster with both intervals apart: what is estimated for the "
        "others is no reason to leave it."
    )
