"""What does each operation cost, independently of any device?  Exact counts from shapes and stored types.

A multiply-accumulate (MAC) is counted where a product enters a sum: convolutions and matrix products; nothing else
has any. Bytes are those of the program's own types: activations once per distinct tensor read and once written,
weights as stored (indices, tables, scales, masks). Loading-time operations (`const`, `constexpr_*`) have no row:
their bytes are weights of the operation that reads them. Fusion is left to whoever prices the rows. Views have no bytes
read or written; `aligned_bytes` counts theirs too, as the Neural Engine would store both shapes; of a permutation that
is spelled in many operations (`permutations.py`) only those of its two ends.

Of a `cond` the dearer branch runs: its operations have rows of their own, and the `cond` only hands their results over.
How often a `while_loop` runs no program says: what it computes is not counted, its weights and what it reads from outside
are, once. `uncounted` names such operations, and whatever else may multiply and add unseen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from coreml_pareto.objectives.program.engine import kernel_sides, off_engine
from coreml_pareto.objectives.program.operations import OPERATIONS, Call
from coreml_pareto.objectives.program.permutations import chains
from coreml_pareto.objectives.program.program import VIEWS, Operation, Program, TensorType
from coreml_pareto.objectives.program.weights import weights_of

Group = Literal["dense", "depthwise", "matrix", "other"]
Precision = Literal["fp32", "fp16", "w8a8"]
Count = Annotated[int, Field(ge=0, le=10**15)]
"""Bounds that hold where rows come from a file (`devices/measurements.py`)."""

REARRANGED = "rows laid out anew"
"""Note of a row that cuts or joins the last axis, or interleaves channels: a transposition in all but its name."""
ALIGNMENT = 64
"""The Neural Engine stores the last axis in multiples of so many bytes: one element there takes 32 times its size in fp16
(Apple, "Deploying Transformers on the Apple Neural Engine", principle 1)."""

_MATRIX = frozenset({"linear", "matmul", "einsum", "scaled_dot_product_attention"})
_CONVOLUTIONS = frozenset({"conv", "conv_transpose"})
JOINING = frozenset({"concat", "split", "slice_by_index", "slice_by_size", "stack", "pad"})
"""Kinds that cut and join: mostly whole rows of the last axis, which stay as they are."""


UNKNOWN_OPERATION: Final = "unknown operation"
"""Note of a row that is priced by its bytes."""
BRANCHES: Final = "cond"
CONTROL_FLOW: Final = (BRANCHES, "while_loop")
_NO_PRODUCTS: Final = frozenset(
    {
        "affine", "band_part", "batch_to_space", "coreml_update_state", "crop", "crop_resize", "fill", "gather_along_axis",
        "gather_nd", "list_gather", "list_length", "list_read", "list_scatter", "list_write", "make_list",
        "non_maximum_suppression", "non_zero", "one_hot", "random_bernoulli", "random_categorical", "random_normal",
        "random_uniform", "range_1d", "read_state", "resample", "resize", "reverse_sequence", "scatter",
        "scatter_along_axis", "scatter_nd", "shape", "slice_update", "space_to_batch", "write_state",
    }
)  # fmt: skip
"""MIL operations that the executor does not know and that have no multiply-accumulates, as these are counted here."""


@dataclass(frozen=True)
class Cost:
    """One operation: MACs, bytes of weights and activations; `note` says what is special, or is empty.

    `kernel` is the area of a convolution's kernel; `aligned_bytes` what is read and written, in rows of ALIGNMENT, views
    included; `off_engine` says why the Neural Engine is reported not to run the operation, or is empty; `table_channels`
    output channels share a look-up table of the weights, 0 where there is one table or none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    kind: Annotated[str, Field(min_length=1, max_length=500)]
    group: Group
    precision: Precision
    macs: Count
    weight_bytes: Count
    weight_elements: Count
    read_bytes: Count
    written_bytes: Count
    note: str = ""
    kernel: Count = 1
    aligned_bytes: Count = 0
    off_engine: str = ""
    table_channels: Count = 0


def costs(program: Program) -> tuple[Cost, ...]:
    """One row per operation that runs, in the order of `running`; UserError for a program with open shapes."""
    program.require_static()
    inner = _inner(program)
    return tuple(_cost(program, operation, inner) for operation in running(program))


def uncounted(costs: Iterable[Cost]) -> Counter[str]:
    """Kinds of operations that may multiply and add, but whose multiply-accumulates are not counted, with their number."""
    return Counter(c.kind for c in costs if c.note == UNKNOWN_OPERATION and c.kind not in _NO_PRODUCTS)


def running(program: Program) -> tuple[Operation, ...]:
    """What one inference runs, in order: a `cond` stands behind the operations of its dearer branch and reads their results.

    A loop stays one operation, which reads whatever its blocks read from outside.
    """
    return tuple(_running(program, program.operations))


def _running(program: Program, operations: Iterable[Operation]) -> Iterator[Operation]:
    for operation in operations:
        if operation.constexpr:
            continue
        if operation.kind == BRANCHES and operation.blocks:
            branches = [(block, tuple(_running(program, block.operations))) for block in operation.blocks]
            block, inside = max(branches, key=lambda branch: _work(program, branch[1]))
            yield from inside
            read = tuple(name for name in block.outputs if name in program.types)
            yield replace(operation, inputs={**operation.inputs, "branch": read}, blocks=())
        else:
            outside = tuple(_outside(program, operation)) if operation.blocks else ()
            yield replace(operation, inputs={**operation.inputs, "outside": outside}) if outside else operation


def _outside(program: Program, operation: Operation) -> dict[str, None]:
    """Values that the blocks of an operation read and do not make."""
    _, *inside = operation.within()
    made = {name for inner in inside for name, _ in inner.outputs}
    made |= {name for holder in operation.within() for block in holder.blocks for name, _ in block.inputs}
    read = (name for inner in inside for name in inner.operands())
    return dict.fromkeys(name for name in read if name not in made and name in program.types)


def _work(program: Program, operations: Iterable[Operation]) -> tuple[int, int]:
    """By what branches are compared: multiply-accumulates, then bytes written."""
    rows = list(operations)
    written = sum(kind.nbytes for operation in rows for _, kind in operation.outputs)
    return sum(_macs(program, operation) for operation in rows), written


def _macs(program: Program, operation: Operation) -> int:
    row = OPERATIONS.get(operation.kind)
    return row.macs(Call(operation, program.types)) if row else 0


def _inner(program: Program) -> frozenset[str]:
    """Values inside of a permutation that is spelled in many operations."""
    return frozenset(operation.outputs[0][0] for chain in chains(program) for operation in chain[:-1])


def _cost(program: Program, operation: Operation, inner: frozenset[str]) -> Cost:
    found = {weight.name: weight for inside in operation.within() for weight in weights_of(program, inside)}
    weights = found.values()
    operands = {name for name in operation.operands() if name not in found}
    view = operation.kind in VIEWS or operation.kind == BRANCHES
    return Cost(
        name=operation.name,
        kind=operation.kind,
        group=_group(program, operation),
        precision=_precision(program, operation),
        macs=_macs(program, operation),
        weight_bytes=sum(weight.stored_bytes for weight in weights),
        weight_elements=sum(weight.elements for weight in weights),
        read_bytes=0 if view else sum(program.types[name].nbytes for name in operands),
        written_bytes=0 if view else sum(kind.nbytes for _, kind in operation.outputs),
        note=_note(program, operation),
        kernel=math.prod(kernel_sides(program, operation)),
        aligned_bytes=sum(
            _aligned(program.types[name]) for name in (*operands, *_written(operation)) if name not in inner
        ),
        off_engine=off_engine(program, operation),
        table_channels=max((weight.table_channels for weight in weights), default=0),
    )


def _written(operation: Operation) -> tuple[str, ...]:
    return tuple(name for name, _ in operation.outputs)


def _note(program: Program, operation: Operation) -> str:
    if operation.kind in VIEWS:
        return "view: moves no data"
    if operation.kind == BRANCHES:
        return "branches: the dearer one is priced"
    if operation.kind not in OPERATIONS:
        return UNKNOWN_OPERATION
    return REARRANGED if operation.kind in JOINING and _rearranges(program, operation) else ""


def _rearranges(program: Program, operation: Operation) -> bool:
    """Whether cutting or joining changes the last axis, or the order of channels.

    Core ML Tools spells concat, reshape, transpose and reshape as one `concat` with `interleave` (its pass
    `detect_concat_interleave`, for ShuffleNet): the work stays that of the transposition.
    """
    if operation.parameter("interleave", False):
        return True
    shapes = [program.types[name].shape for name in (*operation.operands(), operation.outputs[0][0])]
    return min(map(len, shapes)) > 2 and len({shape[-1] for shape in shapes}) > 1


def _aligned(kind: TensorType) -> int:
    """Bytes with the last axis of each row filled up to ALIGNMENT; vectors are left as they are."""
    if len(kind.shape) < 2 or not kind.shape[-1]:
        return kind.nbytes
    row = (kind.shape[-1] * kind.bits + 7) // 8
    return kind.elements // kind.shape[-1] * (-(-row // ALIGNMENT) * ALIGNMENT)


def _group(program: Program, operation: Operation) -> Group:
    if operation.kind in _MATRIX:
        return "matrix"
    if operation.kind not in _CONVOLUTIONS:
        return "other"
    groups = operation.parameter("groups", 1)
    channels = Call(operation, program.types).type_of("x").shape[1]
    return "depthwise" if groups > 1 and groups == channels else "dense"


def reads_quantized(program: Program, operation: Operation) -> bool:
    """Whether a convolution or matrix product reads dequantised activations."""
    x = operation.one("x")
    producer = program.producers.get(x) if isinstance(x, str) else None
    return operation.kind in _CONVOLUTIONS | _MATRIX and producer is not None and producer.kind == "dequantize"


def _precision(program: Program, operation: Operation) -> Precision:
    if reads_quantized(program, operation):
        return "w8a8"
    dtypes = [kind.dtype for _, kind in operation.outputs]
    dtypes += [program.types[name].dtype for name in operation.operands()]
    for dtype in dtypes:
        if dtype in ("fp16", "fp32"):
            return "fp16" if dtype == "fp16" else "fp32"
    return "fp16" if program.precision == "fp16" else "fp32"
