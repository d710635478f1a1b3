"""Operations that move data without computing: views, cutting, joining, rearranging.

A program is written for one image. Where both the input and the stated output have a leading 1, that dimension is
the batch, and whatever follows is taken from the stated output shape (MIL ops reference, `tensor_transformation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from coreml_pareto.objectives.program.operations.row import TORCH_DTYPES, Call, OperationRow, Step

Tensor = torch.Tensor


def _view(call: Call) -> Step:
    """Every view has the stated shape; the batch stays in front."""
    (source, target) = (call.type_of("x").shape, call.output.shape)
    if source[:1] == target[:1] == (1,):
        rest = target[1:]
        return lambda x: x.reshape(x.shape[0], *rest)
    return lambda x: x.reshape(target)


def _transpose(call: Call) -> Step:
    order = call.parameter("perm")
    return lambda x: x.permute(order)


def _slice_by_index(call: Call) -> Step:
    rank = len(call.type_of("x").shape)
    stride = call.parameter("stride", [1] * rank)
    masks = [call.parameter(name, [False] * rank) for name in ("begin_mask", "end_mask", "squeeze_mask")]
    index: list[Any] = []
    bounds = zip(call.parameter("begin"), call.parameter("end"), stride, *masks, strict=True)
    for begin, end, step, from_start, to_end, squeeze in bounds:
        index.append(begin if squeeze else slice(None if from_start else begin, None if to_end else end, step))
    reversed_axes = [i for i, s in enumerate(index) if isinstance(s, slice) and s.step < 0]
    if reversed_axes:
        raise call.refuse("a negative stride")
    window = _whole_batch(call, index)
    return lambda x: x[window]


def _whole_batch(call: Call, index: list[Any]) -> tuple[Any, ...]:
    """The leading 1 of a program can only be cut to its whole self: that is the batch."""
    batch = call.type_of("x").shape[:1] == (1,) and isinstance(index[0], slice)
    return (slice(None), *index[1:]) if batch else tuple(index)


def _slice_by_size(call: Call) -> Step:
    shape, sizes = call.type_of("x").shape, call.parameter("size")
    begins = [b % n if n else b for b, n in zip(call.parameter("begin"), shape, strict=True)]
    cuts = [slice(b, None if size == -1 else b + size) for b, size in zip(begins, sizes, strict=True)]
    window = _whole_batch(call, cuts)
    return lambda x: x[window]


def _split(call: Call) -> Step:
    axis = call.parameter("axis")
    sizes = [kind.shape[axis] for _, kind in call.operation.outputs]
    return lambda x: torch.split(x, sizes, axis)


def _concat(call: Call) -> Step:
    axis, target = call.parameter("axis"), call.output.shape
    if not call.parameter("interleave", False):
        return lambda values: torch.cat(values, axis)
    axis %= len(target)
    return lambda values: torch.stack(values, axis + 1).flatten(axis, axis + 1)


def _stack(call: Call) -> Step:
    axis = call.parameter("axis")
    return lambda values: torch.stack(values, axis)


def _tile(call: Call) -> Step:
    repeats = call.parameter("reps")
    return lambda x: x.repeat(repeats)


def _reverse(call: Call) -> Step:
    axes = call.parameter("axes", list(range(len(call.type_of("x").shape))))
    return lambda x: x.flip(axes)


def _pad(call: Call) -> Step:
    mode, pad = call.parameter("mode", "constant"), call.parameter("pad")
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        amounts = [amount for pair in reversed(pairs) for amount in pair]
        value = call.parameter("constant_val", 0.0)
        return lambda x: F.pad(x, amounts, value=value)
    shape = call.type_of("x").shape
    numpy_mode: Any = {"reflect": "reflect", "replicate": "edge"}[mode]
    picks = [
        (axis, torch.from_numpy(np.pad(np.arange(shape[axis]), pair, numpy_mode)))
        for axis, pair in enumerate(pairs, len(shape) - len(pairs))
        if any(pair)
    ]

    def run(x: Tensor) -> Tensor:
        for axis, pick in picks:
            x = x.index_select(axis, pick)
        return x

    return run


def _gather(call: Call) -> Step:
    axis = call.parameter("axis", 0) % len(call.type_of("x").shape)
    if call.parameter("batch_dims", 0):
        raise call.refuse("batch_dims above 0")

    def run(x: Tensor, indices: Tensor) -> Tensor:
        picked = x.index_select(axis, indices.reshape(-1).long() % x.shape[axis])
        return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])

    return run


def _fill_like(call: Call) -> Step:
    value, dtype = call.parameter("value", 0.0), TORCH_DTYPES[call.output.dtype]
    return lambda x: torch.full_like(x, value, dtype=dtype)


def _pixel_shuffle(call: Call) -> Step:
    factor = call.parameter("upscale_factor")
    return lambda x: F.pixel_shuffle(x, factor)


def _pixel_unshuffle(call: Call) -> Step:
    factor = call.parameter("downscale_factor")
    return lambda x: F.pixel_unshuffle(x, factor)


def _depth_to_space(call: Call) -> Step:
    """Blocks come first among the channels, as TensorFlow has it (`pixel_shuffle` has them last)."""
    block = call.parameter("block_size")

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        blocks = x.reshape(n, block, block, c // block**2, h, w)
        return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)

    return run


def _space_to_depth(call: Call) -> Step:
    block = call.parameter("block_size")

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // block, block, w // block, block)
        return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, c * block**2, h // block, w // block)

    return run


def _sliding_windows(call: Call) -> Step:
    axis = call.parameter("axis") % len(call.type_of("x").shape)
    size, stride = call.parameter("size"), call.parameter("stride", 1)
    return lambda x: x.unfold(axis, size, stride).movedim(-1, axis + 1)


VIEW_ROWS: Mapping[str, OperationRow] = {
    kind: OperationRow(_view) for kind in ("reshape", "expand_dims", "squeeze", "flatten2d", "reshape_like")
}

ROWS: Mapping[str, OperationRow] = {
    **VIEW_ROWS,
    "transpose": OperationRow(_transpose),
    "slice_by_index": OperationRow(_slice_by_index),
    "slice_by_size": OperationRow(_slice_by_size),
    "split": OperationRow(_split),
    "concat": OperationRow(_concat, operands=("values",)),
    "stack": OperationRow(_stack, operands=("values",)),
    "tile": OperationRow(_tile),
    "reverse": OperationRow(_reverse),
    "pad": OperationRow(_pad),
    "gather": OperationRow(_gather, operands=("x", "indices")),
    "fill_like": OperationRow(_fill_like, operands=("ref_tensor",)),
    "pixel_shuffle": OperationRow(_pixel_shuffle),
    "pixel_unshuffle": OperationRow(_pixel_unshuffle),
    "depth_to_space": OperationRow(_depth_to_space),
    "space_to_depth": OperationRow(_space_to_depth),
    "sliding_windows": OperationRow(_sliding_windows),
}
