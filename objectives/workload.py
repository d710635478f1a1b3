"""What does a program ask of the hardware?  The operation table, summed up as the estimators' features.

`Slice` has the features of the energy estimate: dense and depthwise multiply-accumulates, weight bytes as if
uncompressed and as effective, and activation bytes: what operations read and write, apart from those that are computed
on the way out of their producer (FUSED). `terms` splits the same rows as the fit of published latencies wants them
(`devices/fit.py`): by what a unit does with the bytes. That reshaping costs time although no data move in the program
is Apple's own advice ("Deploying Transformers on the Apple Neural Engine": tensors lie channels first there).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.priors import (
    GROUPED_TABLES,
    ON_CHIP_BYTES,
    TERMS,
    W8A8_CHIPS,
    Unit,
    realised_saving,
)
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.program.costs import JOINING, REARRANGED
from coreml_pareto.objectives.program.engine import holds
from coreml_pareto.objectives.program.operations.elementwise import ROWS as ELEMENTWISE
from coreml_pareto.objectives.program.operations.resizing import ROWS as RESIZING
from coreml_pareto.objectives.program.operations.shape import ROWS as SHAPE
from coreml_pareto.objectives.program.program import VIEWS

Terms = tuple[float, ...]
"""Amounts in the order of `priors.TERMS`."""

ARITHMETIC = ("spatial", "pointwise", "depthwise")
"""The terms that are multiply-accumulates."""

FUSED = frozenset(ELEMENTWISE) | VIEWS | {"batch_norm", "quantize", "dequantize", "classify"}
"""Kinds whose bytes do not count: activations and element-wise arithmetic (done by the operation before), views (no
data moves), inference batch norm (folded), quantize and dequantize (part of the W8A8 kernel), the label look-up."""

ARRANGING = (frozenset(SHAPE) | frozenset(RESIZING) | VIEWS) - JOINING
"""Kinds that move data about without joining or cutting them; their bytes count in rows of 64."""


@dataclass(frozen=True)
class Slice:
    """Sums over the operations of one precision class.

    MACs are counted, weights and activations are in bytes; `full_weight_bytes` are those of the compute precision,
    `effective_weight_bytes` what counts as moved after weight-only compression.
    """

    dense_macs: int = 0
    depthwise_macs: int = 0
    full_weight_bytes: float = 0.0
    effective_weight_bytes: float = 0.0
    activation_bytes: int = 0
    spilled_bytes: float = 0.0

    @property
    def macs(self) -> int:
        """All multiply-accumulates."""
        return self.dense_macs + self.depthwise_macs


def macs(costs: Iterable[Cost]) -> int:
    """Multiply-accumulates of one inference."""
    return sum(cost.macs for cost in costs)


def is_w8a8(cost: Cost) -> bool:
    """Whether an operation computes on 8-bit weights and activations."""
    return cost.precision == "w8a8"


def runs_on_neural_engine(costs: Iterable[Cost]) -> bool:
    """Whether every multiply-accumulate is in a precision of the Neural Engine.

    It computes in fp16 and int8; programs with fp32 compute stay on GPU and CPU (Apple, Core ML Tools guide, "Typed
    execution"). Single operations that it hands over are told by `off_engine`.
    """
    return all(cost.precision != "fp32" for cost in costs if cost.macs)


def off_engine(costs: Iterable[Cost], target: Target) -> tuple[Cost, ...]:
    """The operations that the target's Neural Engine is reported not to run (`program/engine.py`), used or not."""
    return tuple(cost for cost in costs if holds(cost.off_engine, target.device.soc))


def handed_over(costs: Sequence[Cost], target: Target) -> tuple[Cost, ...]:
    """Those for which a program would leave the Neural Engine: none where that is not allowed, or runs nothing of it."""
    return off_engine(costs, target) if _engine_allowed(costs, target) else ()


def units(costs: Sequence[Cost], target: Target) -> tuple[Unit, ...]:
    """The units that may run the program under the target's compute units.

    A program that the Neural Engine runs is taken to run there whenever it is allowed: it is the fastest unit on every
    published classifier, and Core ML's own choice is not published. One with operations that it hands over may be faster
    as a whole on another allowed unit: going there and back has its price (`priors.FALLBACK`).
    """
    others: tuple[Unit, ...] = ("GPU", "CPU") if target.compute_units in ("ALL", "CPU_AND_GPU") else ("CPU",)
    if not _engine_allowed(costs, target):
        return others
    return ("Neural Engine", *others) if off_engine(costs, target) else ("Neural Engine",)


def _engine_allowed(costs: Sequence[Cost], target: Target) -> bool:
    return target.compute_units in ("ALL", "CPU_AND_NE") and runs_on_neural_engine(costs)


def full_weight_bytes(cost: Cost) -> int:
    """Weight bytes in the compute precision: 4 for each element in fp32, else 2."""
    return cost.weight_elements * (4 if cost.precision == "fp32" else 2)


def effective_weight_bytes(cost: Cost, eta: float) -> float:
    """W_eff = W (1 - eta g (1 - stored bits / full bits)): masks, tables and scales count as stored bits.

    g is 1, and less (GROUPED_TABLES) where groups of channels have look-up tables of their own.
    """
    full, channels = full_weight_bytes(cost), cost.table_channels
    share = GROUPED_TABLES[max(least for least in GROUPED_TABLES if least <= channels)].value if channels else 1.0
    return full - eta * share * max(0.0, full - cost.weight_bytes)


def eta(target: Target, unit: Unit) -> float:
    """Share of the saved weight bytes that is really saved; nothing is published off the Neural Engine: 0 there."""
    return realised_saving(target.os).value if unit == "Neural Engine" else 0.0


def gains_from_w8a8(target: Target, unit: Unit) -> bool:
    """Whether W8A8 is known to be faster there; elsewhere its weights count as weight-only int8."""
    return unit == "Neural Engine" and target.device.soc in W8A8_CHIPS


def total(costs: Iterable[Cost], *, eta: float = 0.0, on_chip_bytes: float = 0.0) -> Slice:
    """Sum some rows; activations of one operation beyond `on_chip_bytes` count as spilled."""
    rows = list(costs)
    moved = [c.read_bytes + c.written_bytes for c in rows if c.kind not in FUSED]
    return Slice(
        dense_macs=sum(c.macs for c in rows if c.group != "depthwise"),
        depthwise_macs=sum(c.macs for c in rows if c.group == "depthwise"),
        full_weight_bytes=sum(full_weight_bytes(c) for c in rows),
        effective_weight_bytes=sum(effective_weight_bytes(c, eta) for c in rows),
        activation_bytes=sum(moved),
        spilled_bytes=sum(max(0.0, amount - on_chip_bytes) for amount in moved),
    )


def terms(costs: Iterable[Cost], *, eta: float = 0.0) -> Terms:
    """What the fit of latencies is made of, in the order of `priors.TERMS`: GMAC and MB."""
    summed = dict.fromkeys(TERMS, 0.0)
    for cost in costs:
        for term, amount in row_terms(cost, eta=eta):
            summed[term] += amount
    return tuple(summed.values())


def row_terms(cost: Cost, *, eta: float = 0.0) -> Iterator[tuple[str, float]]:
    """The same of one operation; operations that nobody knows are priced by the bytes that they read and write."""
    if cost.macs:
        yield arithmetic_term(cost), cost.macs / 1e9
    if cost.weight_elements:
        yield "weights", effective_weight_bytes(cost, eta) / 1e6
    moved = cost.read_bytes + cost.written_bytes
    if cost.kind in ARRANGING or cost.note == REARRANGED:
        yield "arranged", cost.aligned_bytes / 1e6
    elif cost.kind not in FUSED:
        yield "activations", moved / 1e6
        yield "spilled", max(0.0, moved - ON_CHIP_BYTES.value) / 1e6


def arithmetic_term(cost: Cost) -> str:
    """1 x 1 convolutions and matrix products are the same arithmetic."""
    if cost.group == "depthwise":
        return "depthwise"
    return "pointwise" if cost.group == "matrix" or cost.kernel == 1 else "spatial"
