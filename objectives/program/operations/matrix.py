"""Matrix products: one multiply-accumulate per output element and summed index."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from coreml_pareto.objectives.program.operations.row import Call, OperationRow, Step


def _linear(call: Call) -> Step:
    return F.linear


def _matmul(call: Call) -> Step:
    left, right = call.parameter("transpose_x", False), call.parameter("transpose_y", False)

    def run(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.matmul(x.mT if left else x, y.mT if right else y)

    return run


def _einsum(call: Call) -> Step:
    equation = call.parameter("equation")
    return lambda values: torch.einsum(equation, *values)


def _attention(call: Call) -> Step:
    return lambda query, key, value, mask: F.scaled_dot_product_attention(query, key, value, mask)


def _linear_macs(call: Call) -> int:
    return call.output.elements * call.type_of("weight").shape[-1]


def _matmul_macs(call: Call) -> int:
    shape = call.type_of("x").shape
    return call.output.elements * shape[-2 if call.parameter("transpose_x", False) else -1]


def _einsum_macs(call: Call) -> int:
    return call.output.elements * call.type_of("values").shape[-1]  # nchw,nwhu->nchu sums over w


def _attention_macs(call: Call) -> int:
    query, key = call.type_of("query"), call.type_of("key")
    return (query.elements + call.output.elements) * key.shape[-2]


ROWS: Mapping[str, OperationRow] = {
    "linear": OperationRow(_linear, _linear_macs, ("x", "weight", "bias")),
    "matmul": OperationRow(_matmul, _matmul_macs, ("x", "y")),
    "einsum": OperationRow(_einsum, _einsum_macs, ("values",)),
    "scaled_dot_product_attention": OperationRow(
        _attention, _attention_macs, ("query", "key", "value", "attn_mask")
    ),
}  # fmt: skip
