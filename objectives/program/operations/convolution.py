"""Convolutions of 1 to 3 spatial dimensions, with MIL's padding types.

`same` pads so that the output has `ceil(input / stride)` positions, the odd element behind; `same_lower` puts it in
front (MIL ops reference, `conv`; `aggregated_pad` in coremltools `ops/defs/_utils.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from coreml_pareto.objectives.program.operations.row import Call, OperationRow, Step

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def paddings(
    call: Call, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """(before, after) for each spatial dimension."""
    kind, size = call.parameter("pad_type", "valid"), call.type_of("x").shape[2:]
    if kind == "custom":
        pad = call.parameter("pad", [0] * 2 * len(kernel))
        return list(zip(pad[::2], pad[1::2], strict=True))
    if kind == "valid":
        return [(0, 0)] * len(kernel)
    if kind not in ("same", "same_lower"):
        raise call.refuse(f"pad_type '{kind}'")
    totals = [
        max(0, (math.ceil(n / stride) - 1) * stride + (k - 1) * dilation + 1 - n)
        for n, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True)
    ]
    return [(t // 2, t - t // 2) if kind == "same" else (t - t // 2, t // 2) for t in totals]


def flat(pads: Sequence[tuple[int, int]]) -> list[int]:
    """`torch.nn.functional.pad` counts from the last dimension."""
    return [amount for pair in reversed(pads) for amount in pair]


def conv(call: Call) -> Step:
    """Convolution and bias in one call."""
    kernel = call.type_of("weight").shape[2:]
    strides = call.parameter("strides", [1] * len(kernel))
    dilations = call.parameter("dilations", [1] * len(kernel))
    groups = call.parameter("groups", 1)
    pads = paddings(call, kernel, strides, dilations)
    convolve = _CONVOLUTIONS[len(kernel)]
    if all(before == after for before, after in pads):
        padding = [before for before, _ in pads]
        return lambda x, weight, bias: convolve(x, weight, bias, strides, padding, dilations, groups)
    amounts = flat(pads)
    return lambda x, weight, bias: convolve(F.pad(x, amounts), weight, bias, strides, 0, dilations, groups)


def conv_transpose(call: Call) -> Step:
    """The full transposed convolution, cut to the stated output shape behind the leading padding."""
    kernel, size, out = call.type_of("weight").shape[2:], call.type_of("x").shape[2:], call.output.shape[2:]
    strides = call.parameter("strides", [1] * len(kernel))
    dilations = call.parameter("dilations", [1] * len(kernel))
    groups, kind = call.parameter("groups", 1), call.parameter("pad_type", "valid")
    full = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)]
    before = [0] * len(kernel)
    if kind == "custom":
        before = call.parameter("pad", [0] * 2 * len(kernel))[::2]
    elif kind == "same":
        before = [max(have - want, 0) // 2 for have, want in zip(full, out, strict=True)]
    missing = [(0, max(b + want - have, 0)) for b, want, have in zip(before, out, full, strict=True)]
    window = [slice(None), slice(None), *(slice(b, b + want) for b, want in zip(before, out, strict=True))]
    deconvolve, amounts = _TRANSPOSED[len(kernel)], flat(missing)

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        y = F.pad(deconvolve(x, weight, None, strides, 0, 0, groups, dilations), amounts)[tuple(window)]
        return y if bias is None else y + bias.reshape(-1, *[1] * len(kernel))

    return run


def _conv_macs(call: Call) -> int:
    return call.output.elements * math.prod(call.type_of("weight").shape[1:])


def _conv_transpose_macs(call: Call) -> int:
    return call.type_of("x").elements * math.prod(call.type_of("weight").shape[1:])


ROWS: Mapping[str, OperationRow] = {
    "conv": OperationRow(conv, _conv_macs, ("x", "weight", "bias")),
    "conv_transpose": OperationRow(conv_transpose, _conv_transpose_macs, ("x", "weight", "bias")),
}
