"""A saved Core ML package as data, on any OS: read, price and run it.

`load` a package; `costs`, `liveness` and `bits_per_weight` say what it takes, `content_digest` which one it is;
`Executor` runs it with torch, `CoreMLRunner` with Core ML itself on macOS.
"""

from __future__ import annotations

from coreml_pareto.objectives.program.content import content_digest
from coreml_pareto.objectives.program.coreml import CoreMLRunner
from coreml_pareto.objectives.program.costs import Cost, costs
from coreml_pareto.objectives.program.executor import Executor
from coreml_pareto.objectives.program.liveness import Liveness, liveness
from coreml_pareto.objectives.program.loader import load
from coreml_pareto.objectives.program.operations import OPERATIONS, OperationRow
from coreml_pareto.objectives.program.program import (
    Constant,
    ImageInput,
    Operation,
    Program,
    TensorInput,
    TensorType,
)
from coreml_pareto.objectives.program.weights import Weight, bits_per_weight, require_finite

__all__ = [
    "OPERATIONS",
    "Constant",
    "CoreMLRunner",
    "Cost",
    "Executor",
    "ImageInput",
    "Liveness",
    "Operation",
    "OperationRow",
    "Program",
    "TensorInput",
    "TensorType",
    "Weight",
    "bits_per_weight",
    "content_digest",
    "costs",
    "liveness",
    "load",
    "require_finite",
]
