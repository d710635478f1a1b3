"""Quantised activations (W8A8) and the classifier head.

`quantize`: clip(round(x / scale) + zero_point); `dequantize`: scale * (x - zero_point); one scale, or one per slice
of `axis` (MIL ops reference, iOS 17 `quantization_ops`). Rounding is to nearest, ties to even. The quotient is taken
as a product with the reciprocal, so that near-ties fall as in torch's fake quantisation, where calibration and
fine-tuning happened (seen: 1e-7 relative difference of the logits; with a true quotient 2 to 7 %, by chaos alone).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from coreml_pareto.objectives.program.operations.row import TORCH_DTYPES, Call, OperationRow, Step

Tensor = torch.Tensor
RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def _along(call: Call) -> list[int]:
    """Shape in which a vector of scales broadcasts against the input."""
    shape = [1] * len(call.type_of("input").shape)
    axis = call.parameter("axis")
    if axis is not None and shape:
        shape[axis] = -1
    return shape


def _quantize(call: Call) -> Step:
    shape, dtype = _along(call), TORCH_DTYPES[call.output.dtype]
    low, high = RANGES[call.output.dtype]

    def run(x: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        steps = torch.mul(x, torch.reciprocal(scale.reshape(shape) if scale.ndim else scale)).round_()
        if zero_point is not None:
            steps += (zero_point.reshape(shape) if zero_point.ndim else zero_point).float()
        return steps.clamp_(low, high).to(dtype)

    return run


def _dequantize(call: Call) -> Step:
    shape = _along(call)

    def run(x: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        values = x.float()
        if zero_point is not None:
            values = values - (zero_point.reshape(shape) if zero_point.ndim else zero_point).float()
        return values * (scale.reshape(shape) if scale.ndim else scale)

    return run


def _classify(call: Call) -> Step:
    """-> (index of the best class [batch], probabilities [batch, classes])."""
    classes = len(call.parameter("classes"))

    def run(probabilities: Tensor) -> tuple[Tensor, Tensor]:
        rows = probabilities.reshape(-1, classes)
        return rows.argmax(1), rows

    return run


ROWS: Mapping[str, OperationRow] = {
    "quantize": OperationRow(_quantize, operands=("input", "scale", "zero_point")),
    "dequantize": OperationRow(_dequantize, operands=("input", "scale", "zero_point")),
    "classify": OperationRow(_classify, operands=("probabilities",)),
}
