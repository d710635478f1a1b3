"""What is a compressed weight worth?  Decodes every `constexpr_*` operation with numpy.

Formulae: MIL ops reference, `constexpr_ops` of iOS 16 (operands as flat packed bytes) and `compression` of iOS 18
(operands with shapes; tables and scales per block). Arithmetic is done in fp32 and rounded once to the stated type:
a product of an integer below 2^9 and an fp16 scale is exact in fp32, so nothing is rounded twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from coreml_pareto.objectives.program.program import Constant, Operation, Program
from coreml_pareto.objectives.program.weightfile import unpack
from coreml_pareto.spaces.errors import UserError

Array = np.ndarray[Any, Any]


def affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Array) -> tuple[Array]:
    """`scale * (quantized_data - zero_point)`, one scale in all or one per slice of `axis` (iOS 16)."""
    along = [1] * quantized_data.ndim
    along[int(axis)] = -1
    zero, step = (value.reshape(along) if value.ndim else value for value in (zero_point, scale))
    return (_shift_scale(quantized_data, step, zero),)


def blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> tuple[Array]:
    """`scale * (data - offset)`; block sizes are `data.shape / scale.shape` (iOS 18)."""
    return (_shift_scale(data, _spread(scale, data.shape), None if offset is None else _spread(offset, data.shape)),)


def sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """`blockwise_shift_scale` of the elements that are there; -> (mask, values) (iOS 18)."""
    (dense,) = blockwise_shift_scale(*sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def lut_to_dense(
    indices: Array, lut: Array, shape: Array | None = None, vector_axis: Array | None = None
) -> tuple[Array]:
    """Table look-up: packed indices, one table (iOS 16), or one table per block, of scalars or vectors (iOS 18)."""
    if shape is not None:
        bits = int(lut.size).bit_length() - 1
        return (lut[unpack(indices.tobytes(), f"uint{bits}", int(np.prod(shape)))].reshape(shape),)
    *blocks, entries, width = lut.shape
    table = _spread(np.arange(np.prod(blocks, dtype=int)).reshape(blocks), indices.shape)
    values = lut.reshape(-1, entries, width)[table, indices]
    if width == 1:
        return (values[..., 0],)
    axis = 0 if vector_axis is None else int(vector_axis) % indices.ndim
    target = [size * (width if i == axis else 1) for i, size in enumerate(indices.shape)]
    return (np.moveaxis(values, -1, axis + 1).reshape(target),)


def lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Array | None = None
) -> tuple[Array, Array]:
    """Table look-up of the elements that are there; -> (mask, values) (iOS 18)."""
    (indices,) = sparse_to_dense(indices_nonzero_data, indices_mask)
    (dense,) = lut_to_dense(indices, lut, None, vector_axis)
    mask = _spread(indices_mask, dense.shape)
    return mask, dense[mask != 0]


def sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> tuple[Array]:
    """Zeros except where the mask is set; the mask as packed bits (iOS 16) or as uint1 (iOS 18)."""
    if shape is not None:
        mask = unpack(mask.tobytes(), "uint1", int(np.prod(shape))).reshape(shape)
    dense = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return (dense,)


def cast(source_val: Array, output_dtype: Array) -> tuple[Array]:
    """fp16 stored, fp32 used (iOS 16)."""
    return (source_val.astype({"fp32": np.float32, "fp16": np.float16}[str(output_dtype)]),)


CONSTEXPR: Mapping[str, Callable[..., tuple[Array, ...]]] = {
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_sparse_blockwise_shift_scale": sparse_blockwise_shift_scale,
    "constexpr_lut_to_dense": lut_to_dense,
    "constexpr_lut_to_sparse": lut_to_sparse,
    "constexpr_sparse_to_dense": sparse_to_dense,
    "constexpr_cast": cast,
}


def decode(program: Program, name: str) -> Array:
    """The value of a `constexpr_*` output, chains of them included; UserError names an unknown one."""
    operation = program.producers[name]
    position = [output for output, _ in operation.outputs].index(name)
    return _decode_all(program, operation)[position]


def _decode_all(program: Program, operation: Operation) -> tuple[Array, ...]:
    if operation.kind not in CONSTEXPR:
        raise UserError(
            f"the executor does not know the operation '{operation.kind}' (weight '{operation.name}'); "
            f"it decodes {', '.join(CONSTEXPR)}"
        )
    operands = {
        key: argument.value if isinstance(argument, Constant) else decode(program, argument)
        for key, (argument,) in operation.inputs.items()
    }
    return CONSTEXPR[operation.kind](**operands)


def _shift_scale(data: Array, scale: Array, offset: Array | None) -> Array:
    shifted = data.astype(np.float32) if offset is None else data.astype(np.float32) - offset.astype(np.float32)
    return (shifted * scale.astype(np.float32)).astype(scale.dtype)


def _spread(blocks: Array, shape: tuple[int, ...]) -> Array:
    """Repeat each entry over its block, so that `blocks` gets `shape`."""
    for axis, (have, want) in enumerate(zip(blocks.shape, shape, strict=True)):
        blocks = blocks if have == want else np.repeat(blocks, want // have, axis)
    return blocks
