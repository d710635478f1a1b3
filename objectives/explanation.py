"""Where does an estimated latency go?  By kind of operation, and the operations that take most.

Nothing is estimated anew: these are the summands of `latency`, so they add up to it. On the Neural Engine every operation
has its share of the terms of the fit (`devices/fit.py`): arithmetic (spatial, pointwise, depthwise), weights, and
what it reads and writes (activations, spilled, arranged). On a GPU or CPU each has arithmetic, weights and
activations. What belongs to no operation is told as such: t0 of every call, and the penalty of programs with operations
that the Neural Engine does not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coreml_pareto.objectives.catalogue import Subject
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.objectives.latency import Shares, unit_milliseconds, unit_shares
from coreml_pareto.objectives.program import Cost, Program
from coreml_pareto.objectives.program.costs import CONTROL_FLOW, JOINING, running
from coreml_pareto.objectives.program.operations import elementwise, normalization, pooling, quantization, reduction
from coreml_pareto.objectives.workload import ARITHMETIC, ARRANGING, handed_over

DISPATCH: Final = "dispatch (t0)"
HANDED_OVER: Final = "off the Neural Engine"
MOST: Final = 5
_BY_GROUP: Final = {"depthwise": "depthwise convolution", "matrix": "matrix product"}
_BY_KIND: Final[Mapping[str, str]] = {
    **dict.fromkeys(elementwise.ROWS, "elementwise"),
    **dict.fromkeys(normalization.ROWS, "normalisation"),
    **dict.fromkeys(pooling.ROWS, "pooling"),
    **dict.fromkeys(reduction.ROWS, "reduction"),
    **dict.fromkeys(quantization.ROWS, "quantisation and labels"),
    **dict.fromkeys(JOINING, "concatenation and cutting"),
    **dict.fromkeys(ARRANGING, "reshape, transpose, resize"),
    **dict.fromkeys(CONTROL_FLOW, "control flow"),
}


@dataclass(frozen=True)
class Part:
    """Milliseconds of one kind of operation and their share of the estimate, 0..1.

    `arithmetic`, `weights` and `bytes` (read and written) add up to `ms`; what belongs to no operation has none of them.
    """

    kind: str
    operations: int
    ms: float
    share: float
    arithmetic: float = 0.0
    weights: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Layer:
    """One operation: name and operator in the program, shape of its output, milliseconds and their share, 0..1."""

    name: str
    kind: str
    operator: str
    shape: tuple[int, ...]
    ms: float
    share: float


@dataclass(frozen=True)
class Explanation:
    """An estimate taken apart: `parts` add up to `ms`; `layers` are the most expensive operations.

    `handed_over` names the operations that the Neural Engine is reported not to run, with their reasons; where another
    unit runs the whole program, they are why. Empty where the Neural Engine is not allowed, or runs nothing of it.
    """

    ms: float
    unit: Unit
    parts: tuple[Part, ...]
    layers: tuple[Layer, ...]
    handed_over: tuple[str, ...]


def explain(program: Program, target: Target, most: int = MOST) -> Explanation:
    """Take the estimated latency of a program on a target apart; UserError for open shapes."""
    subject = Subject(program, target)
    total = unit_milliseconds(subject.costs, target, subject.unit)[0]
    shares, handed = unit_shares(subject.costs, target, subject.unit), handed_over(subject.costs, target)
    layers = sorted(_layers(program, subject.costs, shares, total), key=lambda layer: -layer.ms)
    return Explanation(
        ms=total,
        unit=subject.unit,
        parts=_parts(subject.costs, shares, total, len(handed)),
        layers=tuple(layer for layer in layers[:most] if layer.ms > 0),
        handed_over=tuple(f"{cost.name} ({cost.kind}): {cost.off_engine}" for cost in handed),
    )


def kind_of(cost: Cost) -> str:
    """What a person calls an operation."""
    if cost.group == "dense":
        return "1x1 convolution" if cost.kernel == 1 else "dense convolution"
    return _BY_GROUP.get(cost.group) or _BY_KIND.get(cost.kind, "unknown operation")


def _parts(costs: Sequence[Cost], shares: Shares, total: float, handed: int) -> tuple[Part, ...]:
    """The dispatch, the kinds from the most expensive on, the penalty."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for cost, terms in zip(costs, shares.operations, strict=True):
        found.setdefault(kind_of(cost), []).append(terms)
    kinds = sorted((_part(kind, rows, total) for kind, rows in found.items()), key=lambda part: -part.ms)
    penalty = Part(HANDED_OVER, handed, shares.fallback, shares.fallback / total)
    return (Part(DISPATCH, 0, shares.t0, shares.t0 / total), *kinds, *([penalty] if shares.fallback else []))


def _part(kind: str, rows: Sequence[Mapping[str, float]], total: float) -> Part:
    arithmetic = sum(row.get(name, 0.0) for row in rows for name in ARITHMETIC)
    weights = sum(row.get("weights", 0.0) for row in rows)
    moved = sum(ms for row in rows for name, ms in row.items() if name not in ARITHMETIC and name != "weights")
    ms = arithmetic + weights + moved
    return Part(kind, len(rows), ms, ms / total, arithmetic, weights, moved)


def _layers(program: Program, costs: Sequence[Cost], shares: Shares, total: float) -> list[Layer]:
    shapes = [operation.outputs[0][1].shape if operation.outputs else () for operation in running(program)]
    times = [sum(terms.values()) for terms in shares.operations]
    return [
        Layer(cost.name, kind_of(cost), cost.kind, shape, ms, ms / total)
        for cost, shape, ms in zip(costs, shapes, times, strict=True)
    ]
