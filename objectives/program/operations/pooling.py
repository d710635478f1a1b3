"""Pooling of 1 to 3 spatial dimensions (MIL ops reference, `pool`); `ceil_mode` is torch's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from coreml_pareto.objectives.program.operations.convolution import flat, paddings
from coreml_pareto.objectives.program.operations.row import Call, OperationRow, Step

_MAXIMUM: Mapping[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: Mapping[int, Callable[..., Any]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _window(call: Call) -> tuple[list[int], list[int], list[tuple[int, int]], bool, bool]:
    """Kernel, strides, paddings, ceil mode, and whether torch's own padding can express it."""
    kernel = call.parameter("kernel_sizes")
    strides = call.parameter("strides", [1] * len(kernel))
    pads = paddings(call, kernel, strides, [1] * len(kernel))
    native = all(before == after <= size // 2 for (before, after), size in zip(pads, kernel, strict=True))
    return kernel, strides, pads, call.parameter("ceil_mode", False), native


def max_pool(call: Call) -> Step:
    """Padding never wins: it counts as minus infinity."""
    kernel, strides, pads, ceil, native = _window(call)
    pool = _MAXIMUM[len(kernel)]
    if native:
        padding = [before for before, _ in pads]
        return lambda x: pool(x, kernel, strides, padding, ceil_mode=ceil)
    return lambda x: pool(F.pad(x, flat(pads), value=-math.inf), kernel, strides, ceil_mode=ceil)


def avg_pool(call: Call) -> Step:
    """Padding counts as zeros, in the denominator too unless `exclude_padding_from_average`."""
    kernel, strides, pads, ceil, native = _window(call)
    pool, exclude = _AVERAGE[len(kernel)], call.parameter("exclude_padding_from_average", False)
    if native:
        padding = [before for before, _ in pads]
        return lambda x: pool(x, kernel, strides, padding, ceil, not exclude)
    ones = F.pad(torch.ones(1, 1, *call.type_of("x").shape[2:]), flat(pads), value=0.0 if exclude else 1.0)
    share = pool(ones, kernel, strides, 0, ceil)
    return lambda x: pool(F.pad(x, flat(pads)), kernel, strides, 0, ceil) / share


def l2_pool(call: Call) -> Step:
    """Root of the sum of squares under the window."""
    kernel, strides, pads, ceil, _ = _window(call)
    pool, count = _AVERAGE[len(kernel)], math.prod(kernel)
    return lambda x: (pool(F.pad(x.square(), flat(pads)), kernel, strides, 0, ceil) * count).sqrt()


ROWS: Mapping[str, OperationRow] = {
    "max_pool": OperationRow(max_pool),
    "avg_pool": OperationRow(avg_pool),
    "l2_pool": OperationRow(l2_pool),
}
