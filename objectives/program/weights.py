"""What do the weights weigh?  One row per stored weight tensor, with its scheme and its true bytes.

Counted are indices, tables, scales, offsets and masks, as stored; not counted are shapes, axes and the alignment of
the file. A tensor that several operations share is one row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from coreml_pareto.objectives.program.program import Argument, Constant, Operation, Program
from coreml_pareto.spaces.errors import UserError

# Inputs that hold learned parameters. Of other operations, float constants in the weight file count as weights
# (a layer scale is one, the mean and deviation of the input normalisation are too small to be stored there).
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "conv": ("weight", "bias"),
    "conv_transpose": ("weight", "bias"),
    "linear": ("weight", "bias"),
    "matmul": ("x", "y"),
    "batch_norm": ("mean", "variance", "gamma", "beta"),
    "instance_norm": ("gamma", "beta"),
    "layer_norm": ("gamma", "beta"),
    "prelu": ("alpha",),
    "dequantize": ("input",),
}
_NOT_DATA = frozenset({"shape", "axis", "vector_axis", "output_dtype"})


@dataclass(frozen=True)
class Weight:
    """A stored weight tensor; `scheme` is 'fp16', 'int8', 'int4', 'palette-4', 'sparse', 'sparse+palette-4', ...

    `constants` hold its numbers, indices, tables, scales, offsets and masks; `stored_bytes` is what they take;
    `table_channels` output channels share a look-up table, 0 where there is one table or none.
    """

    name: str
    shape: tuple[int, ...]
    elements: int
    scheme: str
    bits_per_weight: float
    stored_bytes: int
    constants: tuple[Constant, ...] = field(default=(), repr=False, compare=False)
    table_channels: int = 0


def bits_per_weight(program: Program) -> float:
    """Stored bits per element over all weights; nan for a program without weights."""
    elements = sum(weight.elements for weight in program.weights)
    return 8 * sum(weight.stored_bytes for weight in program.weights) / elements if elements else math.nan


def weights(program: Program) -> tuple[Weight, ...]:
    """All weights of a program, in the order of first use."""
    rows = {weight.name: weight for operation in program.every for weight in weights_of(program, operation)}
    return tuple(rows.values())


def weights_of(program: Program, operation: Operation) -> tuple[Weight, ...]:
    """The weights that one operation reads."""
    return tuple(_weight(program, argument) for argument in _parameters(program, operation))


def require_finite(program: Program) -> None:
    """Read every stored number of the weights; UserError names the first weight with NaN or infinite ones.

    Infinity is legal in the constants of other operations: attention masks are made of it.
    """
    for operation in program.every:
        for weight in weights_of(program, operation):
            masks = operation.kind not in PARAMETERS
            broken = sum(_broken(constant, masks) for constant in weight.constants)
            if broken:
                raise UserError(
                    f"weights are finite numbers; {weight.name} of {program.path.name} ('{operation.kind}') stores "
                    f"{broken} that are NaN or infinite; the network was broken before it was saved: train or convert "
                    "it again"
                )


def _broken(constant: Constant, infinite_is_legal: bool) -> int:
    if constant.type.dtype not in ("fp16", "fp32", "fp64"):
        return 0
    value = constant.value
    return int(np.count_nonzero(np.isnan(value) if infinite_is_legal else ~np.isfinite(value)))


def _parameters(program: Program, operation: Operation) -> Iterator[Argument]:
    if operation.constexpr:
        return
    known = PARAMETERS.get(operation.kind)
    order = {key: position for position, key in enumerate(known or ())}
    for key in sorted(operation.inputs, key=lambda key: (order.get(key, len(order)), key)):  # protobuf has no order
        for argument in operation.inputs[key]:
            if isinstance(argument, Constant):
                stored = argument.offset is not None and argument.type.dtype.startswith("fp")
                if key in known if known else stored:
                    yield argument
            elif argument in program.producers and program.producers[argument].constexpr:
                yield argument


def _weight(program: Program, argument: Argument) -> Weight:
    if isinstance(argument, Constant):
        name, kind, scheme, shared = argument.name, argument.type, argument.type.dtype, 0
        constants: tuple[Constant, ...] = (argument,)
    else:
        operation = program.producers[argument]
        name, kind, scheme = argument, program.types[argument], "+".join(_schemes(program, operation))
        constants = tuple(_stored(program, operation).values())
        shared = _table_channels(program, operation, kind.shape)
    stored = sum(constant.type.nbytes for constant in constants)
    return Weight(
        name, kind.shape, kind.elements, scheme, 8 * stored / max(kind.elements, 1), stored, constants, shared
    )


def _stored(program: Program, operation: Operation) -> dict[str, Constant]:
    """Constants under a (chain of) constexpr operations, by name: a mask that two operations read is stored once."""
    found: dict[str, Constant] = {}
    for key, arguments in operation.inputs.items():
        for argument in arguments:
            if isinstance(argument, str):
                found |= _stored(program, program.producers[argument])
            elif key not in _NOT_DATA:
                found[str(argument.offset or argument.name)] = argument
    return found


def _schemes(program: Program, operation: Operation) -> list[str]:
    kind = operation.kind.removeprefix("constexpr_")
    key = {"affine_dequantize": "quantized_data", "lut_to_dense": "indices", "lut_to_sparse": "indices_nonzero_data",
           "blockwise_shift_scale": "data", "cast": "source_val"}.get(kind, "nonzero_data")  # fmt: skip
    data = operation.one(key)
    inner = _schemes(program, program.producers[data]) if isinstance(data, str) else []
    if kind == "sparse_to_dense":
        return ["sparse", *inner]
    if kind.startswith("lut"):
        lut = operation.one("lut")
        table = _schemes(program, program.producers[lut]) if isinstance(lut, str) else []
        return [f"palette-{_palette_bits(program, operation)}", *inner, *table]
    if isinstance(data, Constant):
        return [data.type.dtype.removeprefix("u"), *inner]
    return [*inner, "int8"]  # scales over a table of integers: a palette with an int8 table


def _table_channels(program: Program, operation: Operation, shape: tuple[int, ...]) -> int:
    """Tables lie along the first axis of iOS 18's form: [tables, 1, .., entries, values]."""
    if not operation.kind.startswith("constexpr_lut"):
        return 0
    tables = _table_shape(program, operation)[0] if len(_table_shape(program, operation)) > 2 else 1
    return shape[0] // tables if tables > 1 else 0


def _table_shape(program: Program, operation: Operation) -> tuple[int, ...]:
    lut = operation.one("lut")
    return lut.type.shape if isinstance(lut, Constant) else program.types[str(lut)].shape


def _palette_bits(program: Program, operation: Operation) -> int:
    shape = _table_shape(program, operation)
    return (shape[0] if len(shape) == 1 else shape[-2]).bit_length() - 1  # iOS 16: [entries]; iOS 18: [.., entries, v]
