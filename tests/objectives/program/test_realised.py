"""How stored forms are spelled: by hand, one operation each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_pareto.objectives.program import Constant, Operation, Program, TensorInput, TensorType
from coreml_pareto.objectives.program.realised import same_form, shown, spellings


def constant(dtype: str, *shape: int, value: int = 0) -> Constant:
    return Constant("c", TensorType(dtype, shape), lambda: np.full(shape, value))


def unpacking(kind: str, size: tuple[int, ...], name: str = "w", **inputs: Any) -> Operation:
    """An operation that unpacks a weight of this shape; the first of two outputs is a mask."""
    outputs = [(name, TensorType("fp16", size))]
    if "sparse_" in kind and kind != "sparse_to_dense":
        outputs.insert(0, (f"{name}_mask", TensorType("uint1", size)))
    return Operation(f"constexpr_{kind}", name, {key: (value,) for key, value in inputs.items()}, tuple(outputs))


def spelled(*operations: Operation) -> tuple[str, ...]:
    """The spellings of `w`."""
    kind = TensorType("fp16", (1,))
    types = {name: output for operation in operations for name, output in operation.outputs}
    program = Program(Path("x"), TensorInput("x", kind), operations, {}, types, (), {}, 9)
    return spellings(program, "w")


CONV = (64, 32, 3, 3)


def affine(dtype: str, scales: int, zero: int = 0) -> Operation:
    scale = constant("fp16", scales) if scales > 1 else constant("fp16")
    return unpacking(
        "affine_dequantize", CONV, quantized_data=constant(dtype, *CONV), scale=scale,
        zero_point=constant(dtype, value=zero), axis=constant("int32"),
    )  # fmt: skip


def blocks(dtype: str, *counts: int, **more: Any) -> Operation:
    return unpacking(
        "blockwise_shift_scale", CONV, data=constant(dtype, *CONV), scale=constant("fp16", *counts), **more
    )


def table(bits: int, *counts: int, width: int = 1) -> Operation:
    lut = constant("fp16", *counts, 2**bits, width)
    return unpacking("lut_to_dense", CONV, indices=constant(f"uint{bits}", *CONV), lut=lut)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (affine("int8", 1), ("int8/tensor",)),
        (affine("int8", 64), ("int8/channel",)),
        (affine("uint8", 64), ("int8/channel/asymmetric",)),
        (affine("int8", 64, zero=3), ("int8/channel/asymmetric",)),
        (blocks("int8", 1, 1, 1, 1), ("int8/tensor",)),
        (blocks("int8", 64, 1, 1, 1), ("int8/channel", "int8/block-32")),
        (blocks("int4", 64, 4, 1, 1), ("int4/block-8",)),
        (blocks("uint4", 64, 4, 1, 1), ("int4/block-8/asymmetric",)),
        (blocks("int4", 64, 4, 1, 1, offset=constant("int4", 64, 4, 1, 1)), ("int4/block-8",)),
        (
            blocks("int4", 64, 4, 1, 1, offset=constant("int4", 64, 4, 1, 1, value=1)),
            ("int4/block-8/asymmetric",),
        ),
        (blocks("int8", 32, 4, 1, 1), ("int8/blocks-2x8x3x3",)),
        (blocks("int8", 64, 1, 3, 3), ("int8/blocks-1x32x1x1",)),
        (table(4, 1, 1, 1, 1), ("palette-4/tensor", "palette-4/group-64")),
        (table(3, 4, 1, 1, 1), ("palette-3/group-16",)),
        (table(4, 1, 2, 1, 1), ("palette-4/groups-64x16x3x3",)),
        (table(2, 1, 1, 1, 1, width=4), ("palette-2/tensor/vector-4", "palette-2/group-64/vector-4")),
        (
            unpacking("lut_to_dense", CONV, indices=constant("uint8", 999), lut=constant("fp16", 16), shape=constant("int32", 4)),
            ("palette-4/tensor",),
        ),
        (unpacking("sparse_to_dense", (5, 4), nonzero_data=constant("fp16", 8), mask=constant("uint1", 5, 4)), ("pruning-60",)),
        (unpacking("cast", CONV, source_val=constant("fp16", *CONV), output_dtype=constant("string")), ("fp16",)),
        (unpacking("invented", CONV, data=constant("fp16", 1)), ("constexpr_invented",)),
    ],
)  # fmt: skip
def test_one_operation(operation: Operation, expected: tuple[str, ...]) -> None:
    assert spelled(operation) == expected


def test_pruned_palettes_and_integers() -> None:
    mask = constant("uint1", 10, 10)
    lut = unpacking(
        "lut_to_sparse", (10, 10), "values", indices_mask=mask, indices_nonzero_data=constant("uint4", 40),
        lut=constant("fp16", 1, 1, 16, 1),
    )  # fmt: skip
    scaled = unpacking(
        "sparse_blockwise_shift_scale", (10, 10), "values", data_mask=mask, nonzero_data=constant("int8", 40),
        scale=constant("fp16", 10, 1),
    )  # fmt: skip
    dense = unpacking("sparse_to_dense", (10, 10), nonzero_data="values", mask="values_mask")
    lut, scaled = (
        Operation(o.kind, o.name, o.inputs, (o.outputs[0], ("values", TensorType("fp16", (40,)))))
        for o in (lut, scaled)
    )
    assert spelled(lut, dense) == ("pruning-60+palette-4", "pruning-60+palette-4/group-10")
    assert spelled(scaled, dense) == ("pruning-60+int8/channel", "pruning-60+int8/block-10")


def test_tables_of_integers_and_scaled_palettes() -> None:
    numbers = unpacking(
        "blockwise_shift_scale",
        (8, 1, 64, 1),
        "lut",
        data=constant("int8", 8, 1, 64, 1),
        scale=constant("fp16", 1, 1, 1, 1),
    )
    looked_up = unpacking("lut_to_dense", (64, 32), indices=constant("uint6", 64, 32), lut="lut")
    assert spelled(numbers, looked_up) == ("palette-6/group-8/int8-table",)
    plain = unpacking(
        "lut_to_dense", (64, 32), "p", indices=constant("uint4", 64, 32), lut=constant("fp16", 4, 1, 16, 1)
    )
    scaled = unpacking("blockwise_shift_scale", (64, 32), data="p", scale=constant("fp16", 64, 1))
    assert spelled(plain, scaled) == ("palette-4/group-16/scaled",)


@pytest.mark.parametrize(
    ("text", "found", "same"),
    [
        ("int4/block-32", ("int4/channel", "int4/block-32"), True),
        ("int4/block-16", ("int4/channel", "int4/block-32"), False),
        ("int4/channel", ("int8/channel",), False),
        ("int4/channel/asymmetric", ("int4/channel",), False),
        ("palette-4/tensor/uniform", ("palette-4/tensor",), True),
        ("pruning-50", ("pruning-53",), True),
        ("pruning-2:4", ("pruning-33",), True),
        ("pruning-50", ("pruning-50+palette-4",), False),
        ("pruning-50+palette-4", ("pruning-50+palette-4",), True),
        ("pruning-50+palette-6", ("pruning-50+palette-4",), False),
        ("fp16", ("int8/tensor",), False),
    ],
)
def test_same_form(text: str, found: tuple[str, ...], same: bool) -> None:
    assert same_form(text, found) == same


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        (None, ("int4/channel", "int4/block-32"), "int4/channel"),
        ("int4/block-32", ("int4/channel", "int4/block-32"), "int4/block-32"),
        ("palette-4/tensor/uniform", ("palette-4/tensor",), "palette-4/tensor/uniform"),
        ("palette-4/tensor", ("int8/tensor",), "int8/tensor"),
        ("pruning-50", ("pruning-53",), "pruning-50"),
        ("pruning-2:4", ("pruning-50",), "pruning-2:4"),
        ("pruning-2:4", ("pruning-33",), "pruning-33"),
        ("pruning-50+palette-4", ("pruning-0+palette-4",), "pruning-0+palette-4"),
        ("pruning-1:0", ("pruning-33",), "pruning-33"),
    ],
)
def test_people_read_what_is_stored(text: str | None, found: tuple[str, ...], expected: str) -> None:
    assert shown(found, text) == expected
