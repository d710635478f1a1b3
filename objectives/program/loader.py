"""What is in this folder?  Reads a saved `.mlpackage` straight from its protobuf and its weight file.

Sources: apple/coremltools `mlmodel/format/Model.proto`, `FeatureTypes.proto`, `MIL.proto`; the package layout is that
of `coremltools.models.utils`. coremltools' own frontend is not used: it takes seconds, and it refuses operations
which it does not know, whereas a reader must be able to show them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from coreml_pareto.objectives.program.program import (
    UNKNOWN,
    Argument,
    Block,
    Constant,
    ImageInput,
    Operation,
    Program,
    TensorInput,
    TensorType,
    several_inputs,
)
from coreml_pareto.objectives.program.quiet import coremltools
from coreml_pareto.objectives.program.refusals import no_default, no_function, no_package, no_program
from coreml_pareto.objectives.program.weightfile import WeightFile, unpack
from coreml_pareto.spaces.errors import UserError

FeatureTypes_pb2 = coremltools.proto.FeatureTypes_pb2
MIL_pb2 = coremltools.proto.MIL_pb2
Model_pb2 = coremltools.proto.Model_pb2

_DTYPES = {
    value: name.lower().replace("float8", "fp8").replace("bfloat", "bf").replace("float", "fp")
    for name, value in MIL_pb2.DataType.items()
}


def load(path: Path, *, any_inputs: bool = False, default_function: bool = False) -> Program:
    """Read a saved ML program; weights stay on disk until a `Constant.value` is asked for.

    Args:
        path: the package.
        any_inputs: several inputs are allowed: who needs shapes only never feeds them.
        default_function: of several functions the one that the package names as its default.

    Raises:
        UserError: not a package, not an ML program, several functions or inputs, missing or damaged weight file.
    """
    path = Path(path)
    return program_of(*read_spec(path), path, any_inputs=any_inputs, default_function=default_function)


def program_of(
    spec: Any, model_file: Path, path: Path, *, any_inputs: bool = False, default_function: bool = False
) -> Program:
    """The program of a package whose protobuf was read; arguments and UserError as `load`."""
    name, function = _function(spec, path, default_function)
    reader = _Reader(model_file.parent)
    block = function.block_specializations[function.opset]
    operations = reader.operations(block)
    types = {value.name: tensor_type(value.type) for value in function.inputs}
    if not types or (len(types) > 1 and not any_inputs):
        raise several_inputs(path.name, types)
    described = _described(spec.description, name)
    first, *more = (_input(described, name, kind, operations) for name, kind in types.items())
    return Program(
        path=path,
        input=first,
        operations=operations,
        constants=reader.constants,
        types=types | _types(operations),
        output=tuple(block.outputs),
        metadata=_metadata(spec.description.metadata),
        specification=spec.specificationVersion,
        more_inputs=tuple(more),
        remarks=_remarks(name, spec.mlProgram.functions),
    )


def read_spec(path: Path) -> tuple[Any, Path]:
    """The protobuf of a saved package, and the file that it lies in; weights lie beside it.

    UserError: not a package, not a Core ML model.
    """
    model_file = _model_file(path)
    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(model_file.read_bytes())
    except Exception as error:  # protobuf's DecodeError has no stable import path across its implementations
        raise UserError(f"{model_file} is not a Core ML model ({error}); convert it anew") from error
    return spec, model_file


def _model_file(path: Path) -> Path:
    manifest = path / "Manifest.json"
    if not manifest.is_file():
        raise no_package(path)
    try:
        entries = json.loads(manifest.read_text())
        item = PurePosixPath(entries["itemInfoEntries"][entries["rootModelIdentifier"]]["path"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{manifest} does not name a root model ({error!r}); save the package again") from error
    model = path / "Data" / item
    if not model.is_file():
        raise UserError(f"{manifest} names {item}, but {model} is missing; copy the whole package again")
    return model


def main_function(spec: Any, path: Path) -> Any:
    """The only function of an ML program; UserError for other models, several functions, and one without a body."""
    return _function(spec, path, default=False)[1]


def _function(spec: Any, path: Path, default: bool) -> tuple[str, Any]:
    """Name and body of the only function, or by `default` of the one that the package names; UserError without such."""
    if spec.WhichOneof("Type") != "mlProgram":
        raise no_program(path.name, spec)
    functions = spec.mlProgram.functions
    if not functions or (len(functions) > 1 and not default):
        raise no_function(path.name, functions)
    name = next(iter(functions)) if len(functions) == 1 else spec.description.defaultFunctionName
    if name not in functions:
        raise no_default(path.name, functions)
    function = functions[name]
    if function.opset not in function.block_specializations:  # asking would make an empty one
        raise no_function(path.name, {})
    return name, function


def _remarks(name: str, functions: Any) -> tuple[str, ...]:
    """What of a package with several functions is read, and what is not."""
    if len(functions) == 1:
        return ()
    others = ", ".join(sorted(set(functions) - {name}))
    return (f"of the package's functions '{name}', its default, is read; the size is also that of {others}",)


def _described(description: Any, name: str) -> Any:
    """Where the features of a function are described: its own place (iOS 18), else the model's."""
    return next((function for function in description.functions if function.name == name), description)


def _types(operations: Iterable[Operation]) -> dict[str, TensorType]:
    """Types of all computed values, in blocks too; coremltools gives no name twice, but to the inputs of a loop's blocks."""
    every = [inside for operation in operations for inside in operation.within()]
    inner = {name: kind for operation in every for block in operation.blocks for name, kind in block.inputs}
    return inner | {name: kind for operation in every for name, kind in operation.outputs}


def _input(description: Any, name: str, kind: TensorType, operations: Sequence[Operation]) -> ImageInput | TensorInput:
    feature = next((feature for feature in description.input if feature.name == name), None)
    if feature is None or feature.type.WhichOneof("Type") != "imageType":
        return TensorInput(name, kind)
    image = feature.type.imageType
    layout = FeatureTypes_pb2.ImageFeatureType.ColorSpace.Name(image.colorSpace)
    scale, bias = _preprocessing(name, operations)
    return ImageInput(name, int(image.width), int(image.height), layout, scale, bias)


def _preprocessing(name: str, operations: Sequence[Operation]) -> tuple[float | tuple[float, ...], tuple[float, ...]]:
    """Scale and bias of an ImageType: coremltools writes them as a `mul` and an `add` at the head of the program."""
    scale: float | tuple[float, ...] = 1.0
    bias: tuple[float, ...] = (0.0,)
    for kind in ("mul", "add"):
        readers = [operation for operation in operations if name in operation.operands()]
        constant = readers[0].one("y") if len(readers) == 1 and readers[0].kind == kind else None
        if not isinstance(constant, Constant):
            continue
        values = tuple(float(value) for value in constant.value.reshape(-1))
        scale, bias = (values[0] if len(values) == 1 else values, bias) if kind == "mul" else (scale, values)
        name = readers[0].outputs[0][0]
    return scale, bias


def _metadata(metadata: Any) -> dict[str, str]:
    named = {
        "author": metadata.author,
        "license": metadata.license,
        "version": metadata.versionString,
        "short_description": metadata.shortDescription,
    }
    return {key: text for key, text in named.items() if text} | dict(metadata.userDefined)


def tensor_type(value: Any) -> TensorType:
    """A MIL `ValueType` as a record."""
    which = value.WhichOneof("type")
    if which != "tensorType":
        return TensorType(str(which).removesuffix("Type"), ())
    tensor = value.tensorType
    shape = (d.constant.size if d.WhichOneof("dimension") == "constant" else UNKNOWN for d in tensor.dimensions)
    return TensorType(_DTYPES[tensor.dataType], tuple(shape))


@dataclass
class _Reader:
    """Turns protobuf operations into records, in program order; `const` operations become constants."""

    folder: Path
    constants: dict[str, Constant] = field(default_factory=dict)
    files: dict[str, WeightFile] = field(default_factory=dict)

    def operations(self, block: Any) -> tuple[Operation, ...]:
        found = []
        for operation in block.operations:
            if operation.type == "const":
                name = operation.outputs[0].name
                self.constants[name] = self.constant(name, operation.attributes["val"])
            else:
                found.append(self.operation(operation))
        return tuple(found)

    def operation(self, operation: Any) -> Operation:
        name = _name(operation)
        inputs = {
            key: tuple(self.argument(f"{name}.{key}", binding) for binding in argument.arguments)
            for key, argument in operation.inputs.items()
        }
        # Up to iOS 17 the operands of constexpr operations are attributes.
        for key, value in operation.attributes.items():
            if key != "name":
                inputs[key] = (self.constant(f"{name}.{key}", value),)
        outputs = tuple((output.name, tensor_type(output.type)) for output in operation.outputs)
        return Operation(operation.type, name, inputs, outputs, tuple(map(self.block, operation.blocks)))

    def block(self, block: Any) -> Block:
        inputs = tuple((value.name, tensor_type(value.type)) for value in block.inputs)
        return Block(inputs, self.operations(block), tuple(block.outputs))

    def argument(self, place: str, binding: Any) -> Argument:
        if binding.WhichOneof("binding") == "value":
            return self.constant(place, binding.value)
        name = str(binding.name)
        return self.constants.get(name, name)

    def constant(self, name: str, value: Any) -> Constant:
        kind = tensor_type(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            file, offset = self.file(value.blobFileValue.fileName), value.blobFileValue.offset
            file.locate(offset, kind)
            return Constant(name, kind, lambda: file.read(offset, kind), offset)
        return Constant(name, kind, lambda: _immediate(value.immediateValue, kind))

    def file(self, name: str) -> WeightFile:
        if name not in self.files:
            self.files[name] = WeightFile.open(self.folder / name.removeprefix("@model_path/"))
        return self.files[name]


def _name(operation: Any) -> str:
    """As it calls itself; coremltools always writes that, others need not."""
    texts = operation.attributes["name"].immediateValue.tensor.strings.values
    outputs = operation.outputs
    return str(texts[0]) if texts else str(outputs[0].name) if outputs else str(operation.type)


def _immediate(value: Any, kind: TensorType) -> np.ndarray[Any, Any]:
    if value.WhichOneof("value") == "list":
        return np.array([_immediate(item.immediateValue, tensor_type(item.type)).item() for item in value.list.values])
    tensor = value.tensor
    which = tensor.WhichOneof("value")
    if which == "bytes":
        return unpack(tensor.bytes.values, kind.dtype, kind.elements).reshape(kind.shape)
    values = getattr(tensor, which).values if which else []
    dtypes = {"fp32": np.float32, "fp64": np.float64, "bool": np.bool_, "string": np.str_}
    return np.array(list(values), dtypes.get(kind.dtype, kind.dtype)).reshape(kind.shape)
