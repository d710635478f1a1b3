"""What must be known about a kind of operation?  The row type of the operation table and what its functions receive.

`execute` is called once, when an executor is built, and returns the function that runs for every batch: constants
are resolved there, not in the loop. Tensors carry the batch in their leading dimension, where the program says 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from coreml_pareto.objectives.program.program import Constant, Operation, TensorType
from coreml_pareto.spaces.errors import UserError

# fp16 values are held in fp32; with `round_fp16` the executor rounds them after each operation.
TORCH_DTYPES: Mapping[str, torch.dtype] = {
    "fp16": torch.float32, "fp32": torch.float32, "int64": torch.int64, "int32": torch.int32, "int16": torch.int32,
    "uint16": torch.int32, "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool,
}  # fmt: skip

Step = Callable[..., Any]
"""Runs one operation on its operands (torch tensors, None where left out); returns a tensor or a tuple of them."""


@dataclass(frozen=True)
class Call:
    """One operation with the types of everything it reads."""

    operation: Operation
    types: Mapping[str, TensorType]

    def parameter(self, name: str, default: Any = None) -> Any:
        """A constant input as int, float, str, bool or list; `default` where the program leaves it out."""
        if isinstance(self.operation.one(name), str):
            raise self.refuse(f"a computed '{name}'")
        return self.operation.parameter(name, default)

    def type_of(self, name: str) -> TensorType:
        """Type of the operand called `name`."""
        argument = self.operation.one(name)
        if argument is None:
            raise UserError(f"'{self.operation.kind}' needs its input '{name}'; '{self.operation.name}' has none")
        return argument.type if isinstance(argument, Constant) else self.types[argument]

    @property
    def output(self) -> TensorType:
        """Type of the (first) output."""
        return self.operation.outputs[0][1]

    def refuse(self, what: str) -> UserError:
        """The error for a variant of an operation which is not implemented."""
        return UserError(
            f"the executor does not know {what} of the operation '{self.operation.kind}' "
            f"('{self.operation.name}'); convert the network without it"
        )


@dataclass(frozen=True)
class OperationRow:
    """How a kind of operation executes, how many multiply-accumulates it costs, which inputs are tensors.

    `overwrite` is `execute` in the memory of the first operand, which the executor allows when nobody reads it later.
    """

    execute: Callable[[Call], Step]
    macs: Callable[[Call], int] = lambda call: 0
    operands: tuple[str, ...] = ("x",)
    overwrite: Callable[[Call], Step] | None = None
