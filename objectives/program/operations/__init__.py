"""Which operations can be executed and priced?  One table, a row per kind; adding an operation is adding a row."""

from __future__ import annotations

from collections.abc import Mapping

from coreml_pareto.objectives.program.operations import (
    convolution,
    elementwise,
    matrix,
    normalization,
    pooling,
    quantization,
    reduction,
    resizing,
    shape,
)
from coreml_pareto.objectives.program.operations.row import Call, OperationRow

OPERATIONS: Mapping[str, OperationRow] = {
    **convolution.ROWS,
    **matrix.ROWS,
    **pooling.ROWS,
    **elementwise.ROWS,
    **reduction.ROWS,
    **normalization.ROWS,
    **shape.ROWS,
    **resizing.ROWS,
    **quantization.ROWS,
}

# Kinds whose result is always new memory: never the operand itself, a window of it or another reading of it.
OWN_MEMORY = frozenset(
    {*convolution.ROWS, *pooling.ROWS, *elementwise.ACTIVATIONS, *elementwise.BINARY}
    | {"linear", "matmul", "batch_norm", "reduce_mean", "softmax", "clip"}
)

__all__ = ["OPERATIONS", "OWN_MEMORY", "Call", "OperationRow"]
