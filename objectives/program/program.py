"""What does a saved Core ML program say?  The records that everybody else reads.

Vocabulary and types are those of the Model Intermediate Language (MIL): apple/coremltools
`mlmodel/format/MIL.proto` and the "MIL ops" reference; data types carry the names that MIL's own `cast`
uses (`fp16`, `fp32`, `int8`, `uint4`, `bool`, `string`, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.objectives.program.weights import Weight

BITS: Mapping[str, int] = {
    "fp64": 64, "fp32": 32, "fp16": 16, "bf16": 16, "fp8e4m3fn": 8, "fp8e5m2": 8,
    "int64": 64, "int32": 32, "int16": 16, "int8": 8, "int4": 4,
    "uint64": 64, "uint32": 32, "uint16": 16, "uint8": 8, "uint6": 6, "uint4": 4, "uint3": 3, "uint2": 2, "uint1": 1,
    "bool": 8, "string": 0, "dictionary": 0, "list": 0, "state": 0, "tuple": 0,
}  # fmt: skip
"""Storage bits of one element; texts and containers count as nothing."""

UNKNOWN = -1
"""A dimension that the program leaves open."""

# Values that share their input's memory: the data stays as it is, only the shape is read differently.
VIEWS = frozenset({"reshape", "reshape_like", "expand_dims", "squeeze", "flatten2d", "identity"})

_SYSTEMS = {6: "iOS15", 7: "iOS16", 8: "iOS17", 9: "iOS18", 10: "iOS26"}


@dataclass(frozen=True)
class TensorType:
    """Element type and shape of a value; a scalar has the shape ()."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements; UserError while a dimension is open."""
        if UNKNOWN in self.shape:
            raise UserError(f"sizes need a static shape; this value has {self.shape}; convert with a fixed input shape")
        return math.prod(self.shape)

    @property
    def bits(self) -> int:
        """Bits of one element."""
        return BITS.get(self.dtype, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed tensor: types below 8 bits are exact, the last byte rounded up."""
        return (self.elements * self.bits + 7) // 8 if self.bits else 0


@dataclass(frozen=True, eq=False)
class Constant:
    """A value that the package stores; `value` is read from disk each time it is asked for."""

    name: str
    type: TensorType
    decode: Callable[[], np.ndarray[Any, Any]] = field(repr=False)
    offset: int | None = None  # of its metadata in the weight file; None: written into model.mlmodel itself

    @property
    def value(self) -> np.ndarray[Any, Any]:
        """The elements with `type.shape`; sub-byte integers arrive unpacked, one per int8 or uint8."""
        return self.decode()


Argument = str | Constant


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation; an input is the name of a value or a constant, several where the input takes a tuple."""

    kind: str
    name: str
    inputs: Mapping[str, tuple[Argument, ...]]
    outputs: tuple[tuple[str, TensorType], ...]
    blocks: tuple[Block, ...] = ()

    @property
    def constexpr(self) -> bool:
        """Whether this operation only unpacks a stored weight: it runs when the model is loaded."""
        return self.kind.startswith("constexpr_")

    def one(self, name: str) -> Argument | None:
        """The single argument called `name`, or None where the operation leaves it out."""
        arguments = self.inputs.get(name, ())
        return arguments[0] if arguments else None

    def parameter(self, name: str, default: Any = None) -> Any:
        """The constant called `name` as int, float, str, bool or list; `default` where it is left out."""
        argument = self.one(name)
        return argument.value.tolist() if isinstance(argument, Constant) else default

    def operands(self) -> Iterator[str]:
        """Names of the computed values that are read, in order, repetitions included."""
        return (a for arguments in self.inputs.values() for a in arguments if isinstance(a, str))

    def within(self) -> Iterator[Operation]:
        """Itself, then whatever its blocks hold, in the order of the program."""
        yield self
        for block in self.blocks:
            for operation in block.operations:
                yield from operation.within()


@dataclass(frozen=True, eq=False)
class Block:
    """A branch of a `cond`, or the condition or body of a `while_loop`; its operations also read values from outside."""

    inputs: tuple[tuple[str, TensorType], ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class ImageInput:
    """An image feature; what the program computes first is `pixel * scale + bias` (bias per channel or one)."""

    name: str
    width: int
    height: int
    color_layout: str  # RGB, BGR, GRAYSCALE or GRAYSCALE_FLOAT16
    scale: float | tuple[float, ...] = 1.0
    bias: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class TensorInput:
    """A multi-array feature in the program's own layout."""

    name: str
    type: TensorType


@dataclass(frozen=True, eq=False)
class Program:
    """One function of a saved ML program; constants are not decoded before they are asked for.

    `more_inputs` are empty wherever the program is to be run; `remarks` say what of the package is left out here.
    """

    path: Path
    input: ImageInput | TensorInput
    operations: tuple[Operation, ...]
    constants: Mapping[str, Constant]
    types: Mapping[str, TensorType]  # of every computed value, in blocks too, the inputs' included
    output: tuple[str, ...]
    metadata: Mapping[str, str]
    specification: int
    more_inputs: tuple[ImageInput | TensorInput, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[ImageInput | TensorInput, ...]:
        """All inputs, in the order of the function."""
        return self.input, *self.more_inputs

    @cached_property
    def every(self) -> tuple[Operation, ...]:
        """All operations, those in blocks behind the one that holds them."""
        return tuple(inside for operation in self.operations for inside in operation.within())

    @property
    def minimum_os(self) -> str:
        """The oldest system that opens the package, by coremltools' `ct.target` names."""
        return _SYSTEMS.get(self.specification, f"specification {self.specification}")

    @cached_property
    def producers(self) -> Mapping[str, Operation]:
        """Which operation computes a value."""
        return {name: operation for operation in self.every for name, _ in operation.outputs}

    @cached_property
    def classifier(self) -> Operation | None:
        """The `classify` operation of an image classifier, if there is one."""
        return next((operation for operation in self.operations if operation.kind == "classify"), None)

    @cached_property
    def labels(self) -> tuple[str, ...] | None:
        """Class labels in the order of the probabilities."""
        classes = None if self.classifier is None else self.classifier.parameter("classes")
        return None if classes is None else tuple(str(label) for label in classes)

    @property
    def probabilities(self) -> str | None:
        """The value with the class probabilities: what `classify` reads, or an output that is a softmax."""
        if self.classifier is not None:
            argument = self.classifier.one("probabilities")
            return argument if isinstance(argument, str) else None
        return next((name for name in self.output if self._softmax(name)), None)

    @property
    def scores(self) -> str | None:
        """The value that ranks the classes: the probabilities, else the only floating-point output [1, classes].

        A head without a softmax ends there, in logits; None where no output, or more than one, has that form.
        """
        if self.probabilities is not None:
            return self.probabilities
        rows = [name for name in self.output if name in self.types and _is_row(self.types[name])]
        return rows[0] if len(rows) == 1 else None

    @property
    def normalised(self) -> bool:
        """Whether the scores end in a softmax: they are probabilities then."""
        return self._softmax(self.scores) is not None

    @property
    def logits(self) -> str | None:
        """The input of the final softmax; None where the head has none."""
        softmax = self._softmax(self.probabilities)
        argument = None if softmax is None else softmax.one("x")
        return argument if isinstance(argument, str) else None

    def _softmax(self, name: str | None) -> Operation | None:
        operation = self.producers.get(name) if name else None
        while operation is not None and operation.kind in VIEWS | {"cast"}:
            argument = operation.one("x")
            operation = self.producers.get(argument) if isinstance(argument, str) else None
        return operation if operation is not None and operation.kind == "softmax" else None

    @cached_property
    def precision(self) -> str:
        """'fp16' or 'fp32': the type in which most convolutions and matrix products compute."""
        heavy = [o.outputs[0][1].dtype for o in self.every if o.kind in ("conv", "linear", "matmul")]
        floats = heavy or [kind.dtype for kind in self.types.values()]
        return "fp16" if 2 * floats.count("fp16") > len(floats) else "fp32"

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        """One row per stored weight tensor, in the order of first use."""
        from coreml_pareto.objectives.program.weights import weights  # weights.py reads these records

        return weights(self)

    def require_one_input(self) -> None:
        """UserError for a program with several inputs: they can be priced, not run."""
        if self.more_inputs:
            raise several_inputs(self.path.name, (feature.name for feature in self.inputs))

    def require_static(self) -> None:
        """UserError when a shape is left open."""
        for name, kind in self.types.items():
            if UNKNOWN in kind.shape:
                raise UserError(
                    f"only programs with static shapes can be read this way; {self.path.name} leaves the shape of "
                    f"'{name}' open: {kind.shape}; convert with a fixed input shape"
                )


def several_inputs(name: str, inputs: Iterable[str]) -> UserError:
    """The program called `name` does not have one input, as whoever runs it needs."""
    return UserError(f"only programs with one input can be read; {name} has {', '.join(inputs) or 'none'}")


def _is_row(kind: TensorType) -> bool:
    """Whether a value is [1, n] in floating point, n above 1, further axes of one element each allowed."""
    shape = kind.shape
    return "fp" in kind.dtype and len(shape) > 1 and math.prod(shape) == shape[1] > 1
