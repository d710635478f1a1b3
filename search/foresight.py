"""What would a compression make of a network's estimates, without making the package?

A network is converted and read once, uncompressed. What a compression changes of its operations is arithmetic on the
shapes of the weights, by the rules of those who write them (`stages.compress.decide`, `stored_bits`); W8A8 also the
precision of convolutions, fp32 the width of everything. So an estimate for any compression, device or unit takes
milliseconds, and no second conversion. It is that of the written package where each layer's form follows from its shape;
mixed precision, whose forms follow from the trained weights, counts with its average, and pruning as if it removed what
it asks for. Sizes are not foreseen: they are exact, and read from a package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final, final

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.energy import energy
from coreml_pareto.objectives.latency import fastest, latency
from coreml_pareto.objectives.memory import memory
from coreml_pareto.objectives.program import Cost, Liveness, Program, Weight, costs, liveness, load
from coreml_pareto.objectives.program.record import heavy_weights
from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.objectives.score import counted_macs
from coreml_pareto.objectives.size import size
from coreml_pareto.search.stages.compress import decide, stored_bits
from coreml_pareto.spaces.candidate import Compression, Scheme
from coreml_pareto.spaces.compression import parse

UNFORESEEN: Final[frozenset[Scheme]] = frozenset({"fp32", "w8a8", "mixed"})
"""Schemes whose memory is not foretold: other tensors live in their programs, or units keep each form otherwise."""
_STORED: Final[Mapping[str, str]] = {"pruning": "sparse", "joint": "sparse+palette"}
_RANGE: Final = 3.0
"""Bytes of each output channel's scale and offset in W8A8."""
AT_BEST: Final = 0.97
"""Of a foreseen size: the text of a program differs by a few percent of a small package."""
KEPT: Final = 64
"""Networks that are remembered."""


@lru_cache(KEPT)
def foresee(package: Path) -> Foresight:
    """Read an uncompressed fp16 package, each one once."""
    return Foresight(load(package))


def foretells(objective: str, compression: Compression) -> bool:
    """Whether the estimate of this objective needs no package of its own; sizes are exact, and read from one."""
    return objective in ("latency", "energy") or (objective == "memory" and compression.scheme not in UNFORESEEN)


@final
@dataclass(frozen=True, eq=False)
class Foresight:
    """A network, read once."""

    program: Program

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """The operation table of the fp16 program."""
        return costs(self.program)

    @cached_property
    def liveness(self) -> Liveness:
        """Of its activations."""
        return liveness(self.program)

    @cached_property
    def weights(self) -> Mapping[str, Weight]:
        """Those that compression changes, by the name of the operation that reads them."""
        known = {weight.name: weight for weight in self.program.weights}
        return {operation.name: known[name] for name, operation in heavy_weights(self.program).items()}

    def readings(self, compression: Compression, target: Target) -> dict[str, Reading]:
        """MACs, latency and energy under a compression, memory where it is foretold; all with their companions."""
        changed = self.changed(compression)
        rows = self._rows(compression, changed)
        found = {"macs": counted_macs(rows)} | latency(rows, target) | energy(rows, target)
        if not foretells("memory", compression):
            return found
        stored = {weight.name: weight for weight in changed.values()}
        weights = [stored.get(weight.name, weight) for weight in self.program.weights]
        return found | memory(self.program, target, fastest(rows, target), weights, self.liveness)

    def at_best(self, compression: Compression, target: Target) -> dict[str, Reading]:
        """The readings of a package at least as good as the one that would be written, its accuracy left out.

        Sizes are foreseen less a margin (`AT_BEST`), and what is not foreseen costs nothing.
        """
        saved = sum(
            self.weights[name].stored_bytes - new.stored_bytes for name, new in self.changed(compression).items()
        )
        bytes_at_best = AT_BEST * (size(self.program)["size_bytes"].value - saved)
        best = {"memory_bytes": exact(0.0, "B"), "size_bytes": exact(max(0.0, bytes_at_best), "B")}
        return best | self.readings(compression, target)

    def changed(self, compression: Compression) -> dict[str, Weight]:
        """The weights that are stored otherwise, by the name of the operation that reads them."""
        scheme = _STORED.get(compression.scheme, compression.scheme)
        sizes = {name: self._bytes(weight, compression) for name, weight in self.weights.items()}
        return {
            name: replace(
                self.weights[name],
                scheme=scheme,
                stored_bytes=round(size),
                table_channels=_table_channels(self.weights[name].shape, compression),
            )
            for name, size in sizes.items()
            if size is not None
        }

    def _rows(self, compression: Compression, changed: Mapping[str, Weight]) -> tuple[Cost, ...]:
        """The operation table under a compression."""
        if compression.scheme == "fp32":
            return tuple(_doubled(cost) for cost in self.costs)
        return tuple(self._row(cost, compression, changed.get(cost.name)) for cost in self.costs)

    def _row(self, cost: Cost, compression: Compression, changed: Weight | None) -> Cost:
        """One operation, biases as they were."""
        if changed is None:
            return cost
        weight_bytes = cost.weight_bytes - self.weights[cost.name].stored_bytes + changed.stored_bytes
        precision = "w8a8" if compression.scheme == "w8a8" else cost.precision
        return replace(cost, weight_bytes=weight_bytes, precision=precision, table_channels=changed.table_channels)

    def _bytes(self, weight: Weight, compression: Compression) -> float | None:
        """What a weight takes under a compression; None where it stays as it is."""
        if compression.scheme in ("fp16", "fp32"):
            return None
        if compression.scheme == "mixed":
            return min(16.0, self._average_bits(compression)) * weight.elements / 8
        if compression.scheme == "w8a8":
            return weight.elements + _RANGE * weight.shape[0]
        return _decided_bytes(weight.shape, compression)

    def _average_bits(self, compression: Compression) -> float:
        """Asked for; or what a size in bytes leaves for each weight, the program's text not counted."""
        if compression.average_bits:
            return compression.average_bits
        changed = sum(weight.elements for weight in self.weights.values())
        others = sum(weight.stored_bytes for weight in self.program.weights) - 2 * changed
        return max(1.0, 8 * (compression.target_bytes - others) / changed)


@lru_cache(4096)
def _decided_bytes(shape: tuple[int, ...], compression: Compression) -> float | None:
    """By the rules of the side that writes; networks repeat their shapes."""
    form = decide("", shape, compression).applied
    return stored_bits(shape, parse(form)) / 8 if form else None


@lru_cache(4096)
def _table_channels(shape: tuple[int, ...], compression: Compression) -> int:
    """Channels that share a look-up table; 0 with one table or none."""
    if compression.granularity != "group":
        return 0
    form = decide("", shape, compression).applied if compression.scheme == "palette" else ""
    size = parse(form).group_size if form else compression.group_size
    return size if size < shape[0] else 0


def _doubled(cost: Cost) -> Cost:
    """An operation in single precision."""
    widths = ("weight_bytes", "read_bytes", "written_bytes", "aligned_bytes")
    return replace(cost, precision="fp32", **{name: 2 * getattr(cost, name) for name in widths})
