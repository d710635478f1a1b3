"""A saved package written anew: some weights in other forms, other metadata, or less text.

The program stays what coremltools converted; only the operations that hold a weight are exchanged, and the weight file
is written again by coremltools' own writer. coremltools' compression passes would do the same, but they read, validate
and write the whole program each time, and leave layers out without a word.

The text of a program is a quarter of a small compressed package, so `slim` shortens it. Every convolution brings
constants of its own for strides, paddings and groups: equal ones are shared, as coremltools shares those that come from
one torch constant. Values carry the names of a compiler's temporaries: they are called by their operation and a number,
which also makes a package independent of how many temporaries there were. What is computed stays the same, and so do
the names of input, outputs and classes.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.program import Program
from coreml_pareto.objectives.program.loader import main_function, program_of, read_spec, tensor_type
from coreml_pareto.objectives.program.quiet import coremltools as ct
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.objectives.program.weightfile import WeightFile
from coreml_pareto.search.stages.forms import Form, builtin

with quiet():
    from coremltools.converters.mil.backend.mil import helper
    from coremltools.converters.mil.mil import types
    from coremltools.libmilstoragepython import _BlobStorageWriter as BlobWriter

Array = NDArray[Any]
MODEL = ct.proto.Model_pb2.Model
_WEIGHTS = Path("weights") / "weight.bin"
_IMMEDIATE = 10
"""Arrays of fewer elements stand in the program itself, as coremltools has it."""


@final
@dataclass(frozen=True)
class Source:
    """A saved package, read and validated once, to be written anew any number of times. Its weights stay on disk."""

    program: Program
    spec: Any
    model_file: Path
    weights: WeightFile

    @classmethod
    def read(cls, path: Path) -> Source:
        """Read a package; UserError: it is no ML program, or damaged."""
        spec, model_file = read_spec(path)
        program = program_of(spec, model_file, path)
        return cls(program, spec, model_file, WeightFile.open(model_file.parent / _WEIGHTS))


def rewrite(source: Source, target: Path, forms: Mapping[str, Form], metadata: Mapping[str, str]) -> None:
    """Write `source` as `target` (which must not exist), the named weights in other forms, with metadata added.

    Raises:
        KeyError: there is no such weight.
    """
    path, spec = source.program.path, MODEL()
    spec.CopyFrom(source.spec)
    folder = target / source.model_file.parent.relative_to(path)
    (folder / _WEIGHTS).parent.mkdir(parents=True)
    shutil.copy(path / "Manifest.json", target / "Manifest.json")
    function = main_function(spec, path)
    block = function.block_specializations[function.opset]
    writer = _Writer(folder / _WEIGHTS, source.weights)
    left = dict(forms)
    operations = []
    for operation in block.operations:
        form = left.pop(operation.outputs[0].name, None) if operation.type == "const" else None
        if form is None:
            writer.move(operation)
            operations.append(operation)
        else:
            name = operation.outputs[0].name
            operations += form.operations(name, _release(function.opset), writer.store)
    if left:
        raise KeyError(f"{path} has no weight {', '.join(left)}")
    _replace_operations(block, operations)
    for key, text in metadata.items():
        spec.description.metadata.userDefined[key] = text
    writer.close()
    (folder / source.model_file.name).write_bytes(spec.SerializeToString(deterministic=True))


def slim(package: Path) -> None:
    """Shorten the text of a saved program, in place; programs with nested blocks stay as they are."""
    spec, model_file = read_spec(package)
    function = main_function(spec, package)
    block = function.block_specializations[function.opset]
    if any(operation.blocks for operation in block.operations):
        return
    _share_constants(block)
    kept = {value.name for value in function.inputs} | set(block.outputs) | {f.name for f in spec.description.output}
    _rename(block, kept)
    model_file.write_bytes(spec.SerializeToString(deterministic=True))


@final
class _Writer:
    """The weight file in the making; equal content is stored once."""

    def __init__(self, path: Path, source: WeightFile) -> None:
        self._source, self._known = source, dict[bytes, int]()
        self._blobs = BlobWriter(str(path))

    def close(self) -> None:
        """Finish the file: coremltools' writer does so when it goes."""
        del self._blobs

    def store(self, array: Array, kind: str) -> Any:
        """Store an array as a MIL type, in the program or in the file, and return the `Value` that refers to it."""
        if array.size >= _IMMEDIATE:
            offset = self._write(np.ascontiguousarray(array).reshape(-1), kind)
            primitive = helper.types_to_proto_primitive(builtin(kind))
            return helper.create_file_value_tensor(f"@model_path/{_WEIGHTS.as_posix()}", offset, array.shape, primitive)
        typed = array.astype(types.nptype_from_builtin(builtin(kind)))
        return helper.create_tensor_value(typed) if typed.ndim else helper.create_scalar_value(typed[()])

    def move(self, operation: Any) -> None:
        """Bring what an operation stores in the old file into the new one."""
        for value in _stored_values(operation):
            kind = tensor_type(value.type)
            array = self._source.read(value.blobFileValue.offset, kind)
            value.blobFileValue.offset = self._write(array.reshape(-1), kind.dtype)

    def _write(self, flat: Array, kind: str) -> int:
        digest = hashlib.sha256(f"{kind} {flat.size} ".encode() + flat.tobytes()).digest()
        if digest not in self._known:
            method, view = _METHODS[kind]
            self._known[digest] = int(getattr(self._blobs, f"write_{method}_data")(flat.view(view)))
        return self._known[digest]


_UNPACKS = "constexpr_"
_CALIBRATED = frozenset({"quantize", "dequantize"})

_METHODS: Mapping[str, tuple[str, Any]] = {
    "fp16": ("fp16", np.uint16), "fp32": ("float", np.float32),
    **{f"{sign}int{bits}": (f"{sign}int{bits}", np.dtype(f"{sign}int{bits}")) for sign in ("", "u") for bits in (8, 16, 32)},
    "int4": ("int4", np.int8), **{f"uint{bits}": (f"uint{bits}", np.uint8) for bits in (1, 2, 3, 4, 6)},
}  # fmt: skip
"""MIL type: how coremltools' writer calls it, and as what it wants the elements."""


def _release(opset: str) -> int:
    """The iOS release of an operation set, `CoreML5` and so on."""
    return int(opset.removeprefix("CoreML")) + 10


def _stored_values(operation: Any) -> Iterator[Any]:
    values = [*operation.attributes.values()]
    values += [b.value for argument in operation.inputs.values() for b in argument.arguments if b.HasField("value")]
    return (value for value in values if value.WhichOneof("value") == "blobFileValue")


def _share_constants(block: Any) -> None:
    """Keep one of all constants with the same small value, the first, and let everybody read that one.

    Calibrated scales stay apart: whether two are equal is chance, and a probe is to have the bytes of the trained network.
    """
    scales = {
        binding.name for operation in block.operations if operation.type in _CALIBRATED
        for key, argument in operation.inputs.items() if key in ("scale", "zero_point") for binding in argument.arguments
    }  # fmt: skip
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    kept = []
    for operation in block.operations:
        value = operation.attributes["val"] if operation.type == "const" else None
        if value is not None and value.WhichOneof("value") == "immediateValue":
            name = operation.outputs[0].name
            same[name] = name if name in scales else first.setdefault(value.SerializeToString(deterministic=True), name)
            if same[name] != name and name not in block.outputs:
                continue
        kept.append(operation)
    _replace_operations(block, kept)
    _refer(block, same)


def _rename(block: Any, kept: set[str]) -> None:
    """Call every value by its operation and a number, and a stored weight by what it is to the operation that reads it.

    So is a weight that an operation unpacks, and what that one reads by what it is to the weight.
    """
    names: dict[str, str] = {name: name for name in kept}
    taken = set(kept)

    def call(value: str, stem: str) -> None:
        if value not in names:
            others = (f"{stem}_{number}" for number in count(2))
            names[value] = next(name for name in chain([stem], others) if name not in taken)
            taken.add(names[value])

    constants = [operation for operation in block.operations if operation.type == "const"]
    small = [constant for constant in constants if constant.attributes["val"].HasField("immediateValue")]
    for number, constant in enumerate(small):
        call(constant.outputs[0].name, f"c_{number}")
    numbers: Counter[str] = Counter()
    unpacking = [operation for operation in block.operations if operation.type.startswith(_UNPACKS)]
    computing = [operation for operation in block.operations if not operation.type.startswith(("const", _UNPACKS))]
    for operation in computing + unpacking[::-1]:  # readers first: what they read has its name then
        numbers[operation.type] += 1
        stem = f"{operation.type}_{numbers[operation.type]}"
        for position, output in enumerate(operation.outputs):
            call(output.name, f"{stem}_{position}" if position else stem)
        if operation.type.startswith(_UNPACKS):
            stem = names[operation.outputs[0].name]
        for role, binding in _read(operation):
            call(binding.name, f"{stem}_{role}")
    for operation in block.operations:
        for output in operation.outputs:
            output.name = names.get(output.name, output.name)
        called = operation.outputs[0].name if operation.outputs else operation.type
        operation.attributes["name"].CopyFrom(helper.create_scalar_value(called))
    _refer(block, names)


def _read(operation: Any) -> Iterator[tuple[str, Any]]:
    """What an operation reads by name, and as what."""
    for role, argument in sorted(operation.inputs.items()):
        yield from ((role, binding) for binding in argument.arguments if binding.HasField("name"))


def _refer(block: Any, names: Mapping[str, str]) -> None:
    """Let every operation read values under their new names."""
    for operation in block.operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.HasField("name"):
                    binding.name = names.get(binding.name, binding.name)


def _replace_operations(block: Any, operations: list[Any]) -> None:
    copies = [copy.deepcopy(operation) for operation in operations]
    del block.operations[:]
    block.operations.extend(copies)
