"""How much activation memory must be there at once?  Exact for the stated types and the program's own order.

A tensor lives from the operation that writes it to the last one that reads it; inputs and outputs of an operation
live together; views share their input's memory; what the program returns lives to the end. What a runtime really
allocates is not public: `fused_peak_bytes` is the lower reading, in which element-wise operations work in place where
that is legal: on an operand of the same size that nobody reads again, that is not returned, and that is not the tensor
of the caller (a picture is converted first, and the converted one is the runtime's own). What a loop holds inside is
not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coreml_pareto.objectives.program.costs import running
from coreml_pareto.objectives.program.operations.elementwise import ROWS as ELEMENTWISE
from coreml_pareto.objectives.program.program import VIEWS, Operation, Program, TensorInput


@dataclass(frozen=True)
class Liveness:
    """Bytes of activations: all together, at the worst moment, and at the worst moment with in-place operations."""

    naive_bytes: int
    peak_bytes: int
    fused_peak_bytes: int


def liveness(program: Program) -> Liveness:
    """Liveness of a static program, its inputs included; UserError for open shapes."""
    program.require_static()
    operations = running(program)
    homes = _homes(program, operations)
    sizes: dict[str, int] = {}
    for name, home in homes.items():
        sizes[home] = max(sizes.get(home, 0), program.types[name].nbytes)
    last = _last_reads(program, operations, homes)
    return Liveness(
        naive_bytes=sum(sizes.values()),
        peak_bytes=_peak(program, operations, homes, sizes, last, in_place=False),
        fused_peak_bytes=_peak(program, operations, homes, sizes, last, in_place=True),
    )


def _homes(program: Program, operations: Sequence[Operation]) -> dict[str, str]:
    """Value -> the value whose memory it uses."""
    homes = {feature.name: feature.name for feature in program.inputs}
    for operation in operations:
        source = operation.one("x")
        for name, _ in operation.outputs:
            view = operation.kind in VIEWS and isinstance(source, str) and source in homes
            homes[name] = homes[str(source)] if view else name
    return homes


def _last_reads(program: Program, operations: Sequence[Operation], homes: Mapping[str, str]) -> dict[str, int]:
    """Memory -> index of the last operation that touches it."""
    last = {feature.name: 0 for feature in program.inputs}
    for index, operation in enumerate(operations):
        for name in (*operation.operands(), *(name for name, _ in operation.outputs)):
            if name in homes:
                last[homes[name]] = index
    return last | {homes[name]: len(operations) for name in program.output if name in homes}


def _peak(
    program: Program,
    operations: Sequence[Operation],
    homes: Mapping[str, str],
    sizes: Mapping[str, int],
    last: Mapping[str, int],
    *,
    in_place: bool,
) -> int:
    alive = {feature.name for feature in program.inputs}
    callers = {feature.name for feature in program.inputs if isinstance(feature, TensorInput)}
    peak = sum(sizes[name] for name in alive)
    for index, operation in enumerate(operations):
        written = {homes[name] for name, _ in operation.outputs}
        dying = {home for home in alive if last[home] == index}
        total = sum(sizes[home] for home in alive | written)
        if in_place and operation.kind in ELEMENTWISE and operation.kind not in VIEWS:
            reused = sizes[next(iter(written))]
            free = dying - callers
            if any(sizes[homes[name]] == reused and homes[name] in free for name in _read(operation, homes)):
                total -= reused
        peak = max(peak, total)
        alive = (alive | written) - {home for home in alive | written if last[home] == index}
    return peak


def _read(operation: Operation, homes: Mapping[str, str]) -> set[str]:
    return {name for name in operation.operands() if name in homes}
