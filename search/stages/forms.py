"""How may a weight be stored in fewer bits? The forms that Core ML unpacks at load, as operations of the program.

One record per form, numpy arrays in it, and how it is written as `constexpr_*` operations: up to iOS 17 with packed
bytes and attributes, from iOS 18 on with typed arrays and inputs (MIL ops reference, `constexpr_ops` of iOS 16 and
`compression` of iOS 18). coremltools writes the same operations; the tests hold ours against its own, field by field.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.program.constexpr import blockwise_shift_scale, lut_to_dense
from coreml_pareto.objectives.program.quiet import coremltools as ct
from coreml_pareto.objectives.program.quiet import quiet

with quiet():
    from coremltools.converters.mil.backend.mil import helper
    from coremltools.converters.mil.mil import types

MIL = ct.proto.MIL_pb2
Array = NDArray[Any]
NEW = 18
"""The iOS release from which on the operands of these operations are typed arrays."""

Store = Callable[[Array, str], Any]
"""Puts an array with its MIL type (`fp16`, `uint4`, ...) into a program and returns the `Value` that refers to it."""


class Form(ABC):
    """A stored weight of fp16 elements."""

    @abstractmethod
    def decoded(self) -> Array:
        """What the weight becomes at load: fp16, in its own shape."""

    @abstractmethod
    def operations(self, name: str, release: int, store: Store) -> list[Any]:
        """The operations that unpack it; the last one's only or last output is `name`."""


@final
@dataclass(frozen=True)
class Quantized(Form):
    """scale · (data − offset): `scale` and `offset` have the rank of `data`, and divide its shape."""

    data: Array
    scale: Array
    offset: Array | None
    kind: str  # int8, uint8, int4, uint4

    def decoded(self) -> Array:
        """As the reader decodes it: in fp32 and rounded once."""
        return blockwise_shift_scale(self.data, self.scale, self.offset)[0]

    def operations(self, name: str, release: int, store: Store) -> list[Any]:
        """`constexpr_blockwise_shift_scale`, before iOS 18 `constexpr_affine_dequantize`."""
        if release >= NEW:
            operands = {"data": store(self.data, self.kind), "scale": store(self.scale, "fp16")}
            if self.offset is not None:
                operands["offset"] = store(self.offset, self.kind)
            return [_inputs("constexpr_blockwise_shift_scale", name, self.data.shape, operands)]
        axis = next((axis for axis, parts in enumerate(self.scale.shape) if parts > 1), 0)
        offset = np.zeros((), self.data.dtype) if self.offset is None else np.squeeze(self.offset)
        values = {
            "quantized_data": store(self.data, self.kind),
            "zero_point": store(offset, self.kind),
            "scale": store(np.squeeze(self.scale), "fp16"),
            "axis": store(np.array(axis, np.int32), "int32"),
        }
        return [_attributes("constexpr_affine_dequantize", name, self.data.shape, values)]


@final
@dataclass(frozen=True)
class Palette(Form):
    """table[part][index]: `indices` in the weight's shape, `tables` [parts, 2^bits] along the output channels."""

    indices: Array
    tables: Array
    bits: int

    def decoded(self) -> Array:
        """As the reader decodes it: table look-up, part by part."""
        return lut_to_dense(self.indices, self.lut)[0]

    @property
    def lut(self) -> Array:
        """[parts, 1, ..., 1, entries, 1]: one scalar table for each group of output channels."""
        return self.tables.reshape(len(self.tables), *[1] * (self.indices.ndim - 1), -1, 1)

    def operations(self, name: str, release: int, store: Store) -> list[Any]:
        """`constexpr_lut_to_dense`."""
        if release >= NEW:
            operands = {"indices": store(self.indices, f"uint{self.bits}"), "lut": store(self.lut, "fp16")}
            return [_inputs("constexpr_lut_to_dense", name, self.indices.shape, operands)]
        values = {
            "indices": store(packed(self.indices, self.bits), "uint8"),
            "lut": store(self.tables[0], "fp16"),
            "shape": store(np.array(self.indices.shape, np.uint32), "uint32"),
        }
        return [_attributes("constexpr_lut_to_dense", name, self.indices.shape, values)]


@final
@dataclass(frozen=True)
class Sparse(Form):
    """The elements that are not zero, and where they are."""

    dense: Array

    def decoded(self) -> Array:
        """As it is."""
        return self.dense

    def operations(self, name: str, release: int, store: Store) -> list[Any]:
        """`constexpr_sparse_to_dense`."""
        mask = self.dense != 0
        if not mask.any():  # nothing at all is no array
            mask.reshape(-1)[0] = True
        values = self.dense[mask]
        if release >= NEW:
            operands = {"nonzero_data": store(values, "fp16"), "mask": store(mask.astype(np.uint8), "uint1")}
            return [_inputs("constexpr_sparse_to_dense", name, mask.shape, operands)]
        stored = {
            "nonzero_data": store(values, "fp16"),
            "mask": store(packed(mask.astype(np.uint8), 1), "uint8"),
            "shape": store(np.array(mask.shape, np.uint32), "uint32"),
        }
        return [_attributes("constexpr_sparse_to_dense", name, mask.shape, stored)]


@final
@dataclass(frozen=True)
class SparsePalette(Form):
    """A palette of the elements that are not zero, and where they are; from iOS 18 on."""

    mask: Array
    palette: Palette

    def decoded(self) -> Array:
        """Zero outside the mask."""
        return np.where(self.mask, self.palette.decoded(), np.float16(0)).astype(np.float16)

    def operations(self, name: str, release: int, store: Store) -> list[Any]:
        """`constexpr_lut_to_sparse`, then `constexpr_sparse_to_dense`."""
        mask, bits = self.mask.astype(np.uint8), self.palette.bits
        indices = self.palette.indices[self.mask]
        operands = {
            "indices_mask": store(mask, "uint1"),
            "indices_nonzero_data": store(indices, f"uint{bits}"),
            "lut": store(self.palette.lut, "fp16"),
        }
        names = (f"{name}_mask", f"{name}_values")
        looked_up = MIL.Operation(type="constexpr_lut_to_sparse")
        _name(looked_up, names[1])
        _bind(looked_up, operands)
        _output(looked_up, names[0], "uint1", mask.shape)
        _output(looked_up, names[1], "fp16", indices.shape)
        dense = MIL.Operation(type="constexpr_sparse_to_dense")
        _name(dense, name)
        for key, source in (("nonzero_data", names[1]), ("mask", names[0])):
            dense.inputs[key].arguments.add().name = source
        _output(dense, name, "fp16", mask.shape)
        return [looked_up, dense]


def packed(values: Array, bits: int) -> Array:
    """Small integers as bytes: the first element in the lowest bits, across byte borders (as iOS 16 reads them)."""
    if bits == 8:
        return values.reshape(-1)
    planes = np.unpackbits(values.reshape(-1, 1), axis=1, bitorder="little")[:, :bits]
    return np.packbits(planes.reshape(-1), bitorder="little")


def builtin(kind: str) -> Any:
    """coremltools' type of a MIL type's name."""
    return types.string_to_builtin(kind)


def value_type(kind: str, shape: tuple[int, ...]) -> Any:
    """The MIL `ValueType` of an array."""
    return helper.create_valuetype_tensor(shape, helper.types_to_proto_primitive(builtin(kind)))


def _inputs(kind: str, name: str, shape: tuple[int, ...], operands: Mapping[str, Any]) -> Any:
    operation = MIL.Operation(type=kind)
    _name(operation, name)
    _bind(operation, operands)
    _output(operation, name, "fp16", shape)
    return operation


def _attributes(kind: str, name: str, shape: tuple[int, ...], values: Mapping[str, Any]) -> Any:
    operation = MIL.Operation(type=kind)
    _name(operation, name)
    for key, value in values.items():
        operation.attributes[key].CopyFrom(value)
    _output(operation, name, "fp16", shape)
    return operation


def _bind(operation: Any, operands: Mapping[str, Any]) -> None:
    for key, value in operands.items():
        operation.inputs[key].arguments.add().value.CopyFrom(value)


def _name(operation: Any, name: str) -> None:
    operation.attributes["name"].CopyFrom(helper.create_scalar_value(name))


def _output(operation: Any, name: str, kind: str, shape: tuple[int, ...]) -> None:
    output = operation.outputs.add()
    output.name = name
    output.type.CopyFrom(value_type(kind, shape))
