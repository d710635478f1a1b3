"""What does a package compute?  Runs a loaded program with torch, in batches, on any OS.

Weights are decoded and constants resolved once, when the executor is built; an operation that is not in the table is
refused there, by name. By default everything is computed in fp32 with the decoded weights. `round_fp16` rounds every
value that the program states as fp16 to fp16; sums inside an operation stay fp32 (the Neural Engine's own
accumulation is not public).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from coreml_pareto.objectives.program.batching import batches
from coreml_pareto.objectives.program.constexpr import CONSTEXPR, decode
from coreml_pareto.objectives.program.operations import OPERATIONS, OWN_MEMORY, Call
from coreml_pareto.objectives.program.operations.row import TORCH_DTYPES, Step
from coreml_pareto.objectives.program.program import (
    Argument,
    Constant,
    ImageInput,
    Operation,
    Program,
    TensorInput,
    TensorType,
)
from coreml_pareto.spaces.errors import UserError

Tensor = torch.Tensor
_Operand = str | tuple[str, ...] | None
_LUMA = torch.tensor([299.0, 587.0, 114.0]) / 1000  # ITU-R 601-2, as PIL converts RGB to L


@dataclass(frozen=True)
class _Instruction:
    step: Step
    operands: tuple[_Operand, ...]
    outputs: tuple[str, ...]
    last_reads: tuple[str, ...]
    overwrite: Step | None  # the same, in the memory of the first operand

    @cached_property
    def reads(self) -> frozenset[str]:
        """The names of its operands."""
        flat = (names if isinstance(names, tuple) else (names,) for names in self.operands)
        return frozenset(name for names in flat for name in names if name is not None)

    def run(self, values: Mapping[str, Tensor], step: Step | None = None) -> dict[str, Tensor]:
        """Its outputs by name."""
        results = (step or self.step)(*_look_up(self.operands, values))
        return dict(zip(self.outputs, results if isinstance(results, tuple) else (results,), strict=True))


class Executor:
    """A program that is ready to run."""

    def __init__(self, program: Program, *, round_fp16: bool = False) -> None:
        """Decode the weights; UserError for several inputs, open shapes and operations that are not in the table."""
        program.require_one_input()
        program.require_static()
        _require_known(program)
        self.program = program
        self.batched = batches(program)
        self._round = round_fp16
        self._constants: dict[str, Tensor] = {}
        self._instructions = self._prepare()

    def run(self, images: np.ndarray[Any, Any] | Tensor, fetch: Sequence[str] = ()) -> dict[str, Tensor]:
        """The program's outputs, and the values named in `fetch`, each with the batch in front.

        `images`: uint8 [batch, height, width, 3] in RGB for an image input, else floats in the input's own layout
        with the batch as its leading dimension. A classifier's label comes as the index of the class.
        """
        self._require(fetch)
        wanted = (*self.program.output, *fetch)
        with torch.inference_mode():
            runs = [self._run(x, wanted) for x in self._pieces(images)]
            return {name: self._join(name, [run[name] for run in runs]) for name in wanted}

    def vary(
        self, images: np.ndarray[Any, Any] | Tensor, changes: Iterable[tuple[str, np.ndarray[Any, Any]]], fetch: str
    ) -> Iterator[Tensor]:
        """For each change (a weight's name, other numbers for it) the value `fetch`, of the program with this change alone.

        Everything that the unchanged program computes for these images is kept, and of each change only what follows
        from it is computed again.
        """
        self._require((fetch,))
        with torch.inference_mode():
            kept = [self._everything(x) for x in self._pieces(images)]
        for name, value in changes:
            change = _to_torch(value, str(value.dtype).replace("float", "fp"))
            with torch.inference_mode():
                varied = [self._again(values, name, change, fetch) for values in kept]
                found = self._join(fetch, varied)
            yield found

    def _require(self, names: Sequence[str]) -> None:
        unknown = set(names) - set(self.program.types) - set(self._constants)
        if unknown:
            raise UserError(f"only values of the program can be fetched; it has no {', '.join(sorted(unknown))}")

    def _pieces(self, images: np.ndarray[Any, Any] | Tensor) -> list[Tensor]:
        """The input in as many parts as the program takes at a time."""
        x = self._input(torch.as_tensor(images))
        if self.batched:
            return [x]
        leading = self.program.types[self.program.input.name].shape[:1] == (1,)
        return [x[i : i + 1] if leading else x[i] for i in range(len(x))]

    def _everything(self, x: Tensor) -> dict[str, Tensor]:
        """Every value of the program, none overwritten and none let go."""
        values = {**self._constants, self.program.input.name: x}
        for instruction in self._instructions:
            values.update(instruction.run(values))
        return values

    def _again(self, values: Mapping[str, Tensor], name: str, change: Tensor, fetch: str) -> Tensor:
        changed = {name: change}
        both = ChainMap(changed, values)  # type: ignore[arg-type]  # only read
        for instruction in self._instructions:
            if not changed.keys().isdisjoint(instruction.reads):
                changed.update(instruction.run(both))
        return both[fetch]

    def _run(self, x: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        values = {**self._constants, self.program.input.name: x}
        for instruction in self._instructions:
            overwrite = instruction.overwrite if instruction.operands[0] not in wanted else None
            values.update(instruction.run(values, overwrite))
            for name in instruction.last_reads:
                if name not in wanted:
                    del values[name]
        return {name: values[name] for name in wanted}

    def _join(self, name: str, runs: list[Tensor]) -> Tensor:
        if self.batched:
            return runs[0]
        kind = self.program.types[name]
        return torch.cat(runs) if kind.shape[:1] == (1,) or not kind.bits else torch.stack(runs)

    def _input(self, images: Tensor) -> Tensor:
        feature = self.program.input
        if isinstance(feature, TensorInput):
            return self._rounded(_tensor(images, feature), feature.type)
        expected = (feature.height, feature.width, 3)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise UserError(
                f"'{feature.name}' takes uint8 RGB images [batch, {feature.height}, {feature.width}, 3]; "
                f"came {str(images.dtype).removeprefix('torch.')} {list(images.shape)}; resize them first"
            )
        return self._rounded(_channels(images, feature), self.program.types[feature.name])

    def _prepare(self) -> list[_Instruction]:
        """Instructions for everything that depends on the input; the rest is computed here, once."""
        live = {self.program.input.name}
        chosen: list[tuple[Operation, Step]] = []
        for operation in self.program.operations:
            if operation.constexpr:
                continue
            row = OPERATIONS[operation.kind]
            step = self._rounding(operation, row.execute(Call(operation, self.program.types)))
            if live.isdisjoint(operation.operands()):
                self._fold(operation, step)
                continue
            live |= {name for name, _ in operation.outputs}
            chosen.append((operation, step))
        readers: dict[str, list[Operation]] = {}
        for operation, _ in chosen:
            for name in dict.fromkeys(operation.operands()):
                if name in live:
                    readers.setdefault(name, []).append(operation)
        return [self._instruction(operation, step, readers) for operation, step in chosen]

    def _instruction(self, operation: Operation, step: Step, readers: Mapping[str, list[Operation]]) -> _Instruction:
        read = dict.fromkeys(operation.operands())
        dying = tuple(name for name in read if name in readers and readers[name][-1] is operation)
        return _Instruction(
            step,
            self._operands(operation),
            tuple(name for name, _ in operation.outputs),
            dying,
            self._overwrite(operation, dying, readers),
        )

    def _overwrite(
        self, operation: Operation, dying: Sequence[str], readers: Mapping[str, list[Operation]]
    ) -> Step | None:
        """The operation in its first operand's memory, if that is its own and nothing else still sees it."""
        row = OPERATIONS[operation.kind]
        name = operation.one(row.operands[0])
        if row.overwrite is None or not isinstance(name, str) or name not in dying:
            return None
        makers = [self.program.producers.get(name), *readers[name][:-1]]
        owned = all(maker is not None and maker.kind in OWN_MEMORY for maker in makers)
        if not owned or self.program.types[name] != operation.outputs[0][1]:
            return None
        return self._rounding(operation, row.overwrite(Call(operation, self.program.types)))

    def _fold(self, operation: Operation, step: Step) -> None:
        results = step(*_look_up(self._operands(operation), self._constants))
        results = results if isinstance(results, tuple) else (results,)
        self._constants |= {name: value for (name, _), value in zip(operation.outputs, results, strict=True)}

    def _rounding(self, operation: Operation, step: Step) -> Step:
        if not self._round or all(kind.dtype != "fp16" for _, kind in operation.outputs):
            return step
        if len(operation.outputs) == 1:
            return lambda *operands: _half(step(*operands))
        kinds = [kind for _, kind in operation.outputs]
        return lambda *operands: tuple(
            self._rounded(value, kind) for value, kind in zip(step(*operands), kinds, strict=True)
        )

    def _rounded(self, value: Tensor, kind: TensorType) -> Tensor:
        return _half(value) if self._round and kind.dtype == "fp16" else value

    def _operands(self, operation: Operation) -> tuple[_Operand, ...]:
        """Names under which a run finds the operation's tensors; constants are decoded at their first mention."""
        found: list[_Operand] = []
        for key in OPERATIONS[operation.kind].operands:
            names = tuple(self._name(argument) for argument in operation.inputs.get(key, ()))
            found.append(names if key == "values" else names[0] if names else None)
        return tuple(found)

    def _name(self, argument: Argument) -> str:
        if isinstance(argument, Constant):
            if argument.name not in self._constants:
                self._constants[argument.name] = _to_torch(argument.value, argument.type.dtype)
            return argument.name
        producer = self.program.producers.get(argument)
        if producer is not None and producer.constexpr and argument not in self._constants:
            self._constants[argument] = _to_torch(decode(self.program, argument), self.program.types[argument].dtype)
        return argument


def _require_known(program: Program) -> None:
    kinds = dict.fromkeys(operation.kind for operation in program.operations)
    unknown = [kind for kind in kinds if kind not in OPERATIONS and kind not in CONSTEXPR]
    if unknown:
        raise UserError(
            f"the executor does not know {', '.join(repr(kind) for kind in unknown)} in {program.path.name}; "
            "run the package with CoreMLRunner on macOS, or convert a network without it"
        )


def _look_up(operands: Sequence[_Operand], values: Mapping[str, Tensor]) -> list[Tensor | tuple[Tensor, ...] | None]:
    return [
        None if names is None else values[names] if isinstance(names, str) else tuple(values[name] for name in names)
        for names in operands
    ]


def _half(value: Tensor) -> Tensor:
    return value.half().float()


def _to_torch(value: np.ndarray[Any, Any], dtype: str) -> Tensor:
    return torch.from_numpy(np.array(value)).to(TORCH_DTYPES[dtype])


def _tensor(values: Tensor, feature: TensorInput) -> Tensor:
    shape = feature.type.shape
    batch = list(values.shape[1:]) == list(shape[1:] if shape[:1] == (1,) else shape)
    if not batch or (feature.type.dtype.startswith("fp") and not values.is_floating_point()):
        raise UserError(
            f"'{feature.name}' takes {feature.type.dtype} {list(shape)} with the batch in front; "
            f"came {str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
        )
    return values.to(TORCH_DTYPES[feature.type.dtype])


def _channels(images: Tensor, feature: ImageInput) -> Tensor:
    """uint8 [n, h, w, RGB] -> float [n, c, h, w] in the colour layout of the feature."""
    x = images.permute(0, 3, 1, 2).float()
    if feature.color_layout == "BGR":
        return x.flip(1)
    if feature.color_layout.startswith("GRAYSCALE"):
        return (x * _LUMA.reshape(1, 3, 1, 1)).sum(1, keepdim=True).round()
    return x
