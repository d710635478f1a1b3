"""Element-wise operations (MIL ops reference: `activation`, `elementwise_unary`, `elementwise_binary`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F

from coreml_pareto.objectives.program.operations.row import TORCH_DTYPES, Call, OperationRow, Step

Tensor = torch.Tensor


def _unary(function: Callable[[Tensor], Tensor], in_place: Callable[[Tensor], Tensor] | None = None) -> OperationRow:
    return OperationRow(lambda call: function, overwrite=None if in_place is None else lambda call: in_place)


def _binary(
    function: Callable[[Tensor, Tensor], Tensor], in_place: Callable[[Tensor, Tensor], Tensor] | None = None
) -> OperationRow:
    overwrite = None if in_place is None else lambda call: in_place
    return OperationRow(lambda call: function, operands=("x", "y"), overwrite=overwrite)


def _with_alpha(prepare: Callable[[float], Step]) -> OperationRow:
    return OperationRow(lambda call: prepare(call.parameter("alpha")))


def _with_alpha_beta(
    prepare: Callable[[float, float], Step], in_place: Callable[[float, float], Step] | None = None
) -> OperationRow:
    def bind(chosen: Callable[[float, float], Step]) -> Callable[[Call], Step]:
        return lambda call: chosen(call.parameter("alpha"), call.parameter("beta"))

    return OperationRow(bind(prepare), overwrite=None if in_place is None else bind(in_place))


def _with_epsilon(default: float, function: Callable[[Tensor, float], Tensor]) -> OperationRow:
    def execute(call: Call) -> Step:
        epsilon = call.parameter("epsilon", default)
        return lambda x: function(x, epsilon)

    return OperationRow(execute)


def _sigmoid_hard(alpha: float, beta: float) -> Step:
    return lambda x: torch.mul(x, alpha).add_(beta).clamp_(0.0, 1.0)


def _thresholded_relu(alpha: float) -> Step:
    # torch keeps x > threshold, MIL keeps x >= alpha: the next float below makes them the same.
    below = float(np.nextafter(np.float32(alpha), np.float32(-np.inf)))
    return lambda x: F.threshold(x, below, 0.0)


def _per_channel(call: Call, name: str) -> Tensor:
    values = torch.tensor(call.parameter(name), dtype=torch.float32)
    return values.reshape(-1, *[1] * (len(call.type_of("x").shape) - 2))


def _prelu(call: Call) -> Step:
    alpha = _per_channel(call, "alpha")
    return lambda x: torch.where(x > 0, x, alpha * x)


def _softplus_parametric(call: Call) -> Step:
    alpha, beta = _per_channel(call, "alpha"), _per_channel(call, "beta")
    return lambda x: alpha * F.softplus(beta * x)


def _gelu(call: Call) -> Step:
    mode = call.parameter("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return lambda x: x * torch.sigmoid(1.702 * x)
    if mode not in ("EXACT", "TANH_APPROXIMATION"):
        raise call.refuse(f"mode '{mode}'")
    approximate = "none" if mode == "EXACT" else "tanh"
    return lambda x: F.gelu(x, approximate=approximate)


def _cast(call: Call) -> Step:
    dtype = TORCH_DTYPES[call.output.dtype]
    return lambda x: x.to(dtype)


def _real_div(call: Call) -> Step:
    if call.output.dtype.startswith("int"):
        return lambda x, y: torch.div(x, y, rounding_mode="trunc")
    return torch.div


def _floor_div(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode="floor")


ACTIVATIONS: Mapping[str, OperationRow] = {
    "relu": _unary(torch.relu, torch.relu_),
    "relu6": _unary(F.relu6),
    "sigmoid": _unary(torch.sigmoid, torch.sigmoid_),
    "silu": _unary(F.silu, lambda x: F.silu(x, inplace=True)),
    "softplus": _unary(F.softplus),
    "softsign": _unary(F.softsign),
    "tanh": _unary(torch.tanh),
    "gelu": OperationRow(_gelu),
    "prelu": OperationRow(_prelu),
    "softplus_parametric": OperationRow(_softplus_parametric),
    "clamped_relu": _with_alpha_beta(lambda a, b: lambda x: F.leaky_relu(x, a).clamp_(max=b)),
    "elu": _with_alpha(lambda a: lambda x: F.elu(x, a)),
    "leaky_relu": _with_alpha(lambda a: lambda x: F.leaky_relu(x, a)),
    "linear_activation": _with_alpha_beta(lambda a, b: lambda x: torch.mul(x, a).add_(b)),
    "scaled_tanh": _with_alpha_beta(lambda a, b: lambda x: torch.tanh(x * b).mul_(a)),
    "sigmoid_hard": _with_alpha_beta(_sigmoid_hard),
    "thresholded_relu": _with_alpha(_thresholded_relu),
}

UNARY: Mapping[str, OperationRow] = {
    "abs": _unary(torch.abs),
    "acos": _unary(torch.acos),
    "asin": _unary(torch.asin),
    "atan": _unary(torch.atan),
    "atanh": _unary(torch.atanh),
    "ceil": _unary(torch.ceil),
    "cos": _unary(torch.cos),
    "cosh": _unary(torch.cosh),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2),
    "floor": _unary(torch.floor),
    "identity": _unary(lambda x: x),
    "logical_not": _unary(torch.logical_not),
    "round": _unary(torch.round),
    "sign": _unary(torch.sign),
    "sin": _unary(torch.sin),
    "sinh": _unary(torch.sinh),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "tan": _unary(torch.tan),
    "cast": OperationRow(_cast),
    "clip": _with_alpha_beta(lambda a, b: lambda x: torch.clamp(x, a, b), lambda a, b: lambda x: x.clamp_(a, b)),
    "threshold": _with_alpha(lambda a: lambda x: torch.clamp(x, min=a)),
    "inverse": _with_epsilon(1e-4, lambda x, epsilon: torch.reciprocal(x + epsilon)),
    "log": _with_epsilon(1e-45, lambda x, epsilon: torch.log(x + epsilon)),
    "rsqrt": _with_epsilon(1e-12, lambda x, epsilon: torch.rsqrt(x + epsilon)),
}

BINARY: Mapping[str, OperationRow] = {
    "add": _binary(torch.add, Tensor.add_),
    "sub": _binary(torch.sub, Tensor.sub_),
    "mul": _binary(torch.mul, Tensor.mul_),
    "real_div": OperationRow(_real_div, operands=("x", "y")),
    "floor_div": _binary(_floor_div),
    "mod": _binary(torch.remainder),
    "pow": _binary(torch.pow),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "equal": _binary(torch.eq),
    "not_equal": _binary(torch.ne),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "logical_and": _binary(torch.logical_and),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "select": OperationRow(lambda call: torch.where, operands=("cond", "a", "b")),
}

ROWS: Mapping[str, OperationRow] = {**ACTIVATIONS, **UNARY, **BINARY}
