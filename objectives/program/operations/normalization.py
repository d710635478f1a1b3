"""Normalisations at inference (MIL ops reference, `normalization`): formulae stand in each docstring there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from coreml_pareto.objectives.program.operations.row import Call, OperationRow, Step

Tensor = torch.Tensor


def _batch_norm(call: Call) -> Step:
    epsilon = call.parameter("epsilon", 1e-5)
    return lambda x, mean, variance, gamma, beta: F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)


def _instance_norm(call: Call) -> Step:
    epsilon = call.parameter("epsilon", 1e-5)
    return lambda x, gamma, beta: F.instance_norm(x, None, None, gamma, beta, eps=epsilon)


def _layer_norm(call: Call) -> Step:
    shape, epsilon = call.type_of("x").shape, call.parameter("epsilon", 1e-5)
    axes = sorted(axis % len(shape) for axis in call.parameter("axes", list(range(len(shape)))))
    normalized = [shape[axis] for axis in axes]
    if axes == list(range(len(shape) - len(axes), len(shape))):
        return lambda x, gamma, beta: F.layer_norm(x, normalized, gamma, beta, epsilon)
    aligned = [size if axis in axes else 1 for axis, size in enumerate(shape)]

    def run(x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        y = (x - mean) * torch.rsqrt(variance + epsilon)
        y = y if gamma is None else y * gamma.reshape(aligned)
        return y if beta is None else y + beta.reshape(aligned)

    return run


def _l2_norm(call: Call) -> Step:
    epsilon = call.parameter("epsilon", 1e-6)
    return lambda x: x * torch.rsqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)


def _local_response_norm(call: Call) -> Step:
    size, alpha = call.parameter("size"), call.parameter("alpha", 1e-4)
    beta, k = call.parameter("beta", 0.75), call.parameter("k", 1.0)
    return lambda x: F.local_response_norm(x, size, alpha, beta, k)


ROWS: Mapping[str, OperationRow] = {
    "batch_norm": OperationRow(_batch_norm, operands=("x", "mean", "variance", "gamma", "beta")),
    "instance_norm": OperationRow(_instance_norm, operands=("x", "gamma", "beta")),
    "layer_norm": OperationRow(_layer_norm, operands=("x", "gamma", "beta")),
    "l2_norm": OperationRow(_l2_norm),
    "local_response_norm": OperationRow(_local_response_norm),
}
