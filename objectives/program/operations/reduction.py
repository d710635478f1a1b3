"""Reductions, and what orders or accumulates along an axis (MIL ops reference, `reduction`, `tensor_operation`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from coreml_pareto.objectives.program.operations.row import TORCH_DTYPES, Call, OperationRow, Step

Tensor = torch.Tensor


def _axes(call: Call) -> list[int]:
    return list(call.parameter("axes", list(range(len(call.type_of("x").shape)))))


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> OperationRow:
    def execute(call: Call) -> Step:
        axes, keep = _axes(call), call.parameter("keep_dims", False)
        dtype = TORCH_DTYPES[call.output.dtype]
        return lambda x: function(x, axes, keep).to(dtype)

    return OperationRow(execute)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.mean(x if x.is_floating_point() else x.double(), axes, keep)


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in axes:
        x = torch.prod(x, axis, keepdim=True)
    return x if keep else torch.squeeze(x, axes)


def _arg(function: Callable[..., Tensor]) -> OperationRow:
    def execute(call: Call) -> Step:
        axis, keep = call.parameter("axis", -1), call.parameter("keep_dims", False)
        return lambda x: function(x, axis, keep).to(torch.int32)

    return OperationRow(execute)


def _softmax(call: Call) -> Step:
    axis = call.parameter("axis", -1)
    return lambda x: torch.softmax(x, axis)


def _cumsum(call: Call) -> Step:
    axis = call.parameter("axis", 0)
    exclusive, reverse = call.parameter("exclusive", False), call.parameter("reverse", False)

    def run(x: Tensor) -> Tensor:
        x = x.flip(axis) if reverse else x
        y = torch.cumsum(x, axis).to(x.dtype)
        y = y - x if exclusive else y
        return y.flip(axis) if reverse else y

    return run


def _argsort(call: Call) -> Step:
    axis, descending = call.parameter("axis", -1), not call.parameter("ascending", False)
    return lambda x: torch.argsort(x, axis, descending).to(torch.int32)


def _topk(call: Call) -> Step:
    axis, k = call.parameter("axis", -1), call.parameter("k", 1)
    k = call.type_of("x").shape[axis] if k == -1 else k
    largest, both = not call.parameter("ascending", False), call.parameter("return_indices", True)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        values, indices = torch.topk(x, k, axis, largest)
        return (values, indices.to(torch.int32)) if both else (values,)

    return run


ROWS: Mapping[str, OperationRow] = {
    "reduce_mean": _reduction(_mean),
    "reduce_sum": _reduction(torch.sum),
    "reduce_max": _reduction(torch.amax),
    "reduce_min": _reduction(torch.amin),
    "reduce_prod": _reduction(_prod),
    "reduce_sum_square": _reduction(lambda x, axes, keep: torch.sum(x.square(), axes, keep)),
    "reduce_l1_norm": _reduction(lambda x, axes, keep: torch.sum(x.abs(), axes, keep)),
    "reduce_l2_norm": _reduction(lambda x, axes, keep: torch.sum(x.square(), axes, keep).sqrt()),
    "reduce_log_sum": _reduction(lambda x, axes, keep: torch.sum(x, axes, keep).log()),
    "reduce_log_sum_exp": _reduction(torch.logsumexp),
    "reduce_argmax": _arg(torch.argmax),
    "reduce_argmin": _arg(torch.argmin),
    "softmax": OperationRow(_softmax),
    "cumsum": OperationRow(_cumsum),
    "argsort": OperationRow(_argsort),
    "topk": OperationRow(_topk),
}
