"""What is in this folder?  Reads a saved `.mlpackage` straight from its protobuf and its weight file.

Sources: apple/coremltools `mlmodel/format/Model.proto`, `FeatureTypes.proto`, `MIL.proto`; the package layout is that
of `coremltools.models.utils`. coremltools' own frontend is not used: it takes seconds, and it refuses operations
which it does not know, whereas a reader must be able to show them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from coreml_pareto.objectives.program.program import (
    UNKNOWN,
    Argument,
    Constant,
    ImageInput,
    Operation,
    Program,
    TensorInput,
    TensorType,
)
from coreml_pareto.objectives.program.quiet import coremltools
from coreml_pareto.objectives.program.refusals import no_function, no_package, no_program
from coreml_pareto.objectives.program.weightfile import WeightFile, unpack
from coreml_pareto.spaces.errors import UserError

FeatureTypes_pb2 = coremltools.proto.FeatureTypes_pb2
MIL_pb2 = coremltools.proto.MIL_pb2
Model_pb2 = coremltools.proto.Model_pb2

_DTYPES = {
    value: name.lower().replace("float8", "fp8").replace("bfloat", "bf").replace("float", "fp")
    for name, value in MIL_pb2.DataType.items()
}


def load(path: Path) -> Program:
    """Read a saved ML program; weights stay on disk until a `Constant.value` is asked for.

    UserError: not a package, not an ML program, several functions or inputs, missing or damaged weight file.
    """
    path = Path(path)
    return program_of(*read_spec(path), path)


def program_of(spec: Any, model_file: Path, path: Path) -> Program:
    """The program of a package whose protobuf was read; UserError as `load`."""
    function = main_function(spec, path)
    reader = _Reader(model_file.parent)
    block = function.block_specializations[function.opset]
    for operation in block.operations:
        reader.add(operation)
    inputs = {value.name: tensor_type(value.type) for value in function.inputs}
    return Program(
        path=path,
        input=_input(spec.description, inputs, reader, path),
        operations=tuple(reader.operations),
        constants=reader.constants,
        types=inputs | {name: kind for operation in reader.operations for name, kind in operation.outputs},
        output=tuple(block.outputs),
        metadata=_metadata(spec.description.metadata),
        specification=spec.specificationVersion,
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
    if spec.WhichOneof("Type") != "mlProgram":
        raise no_program(path.name, spec)
    functions = spec.mlProgram.functions
    if len(functions) != 1:
        raise no_function(path.name, functions)
    function = next(iter(functions.values()))
    if function.opset not in function.block_specializations:  # asking would make an empty one
        raise no_function(path.name, {})
    return function


def _input(description: Any, types: Mapping[str, TensorType], reader: _Reader, path: Path) -> ImageInput | TensorInput:
    if len(types) != 1:
        raise UserError(f"only programs with one input can be read; {path.name} has {', '.join(types) or 'none'}")
    ((name, kind),) = types.items()
    feature = next((feature for feature in description.input if feature.name == name), None)
    if feature is None or feature.type.WhichOneof("Type") != "imageType":
        return TensorInput(name, kind)
    image = feature.type.imageType
    layout = FeatureTypes_pb2.ImageFeatureType.ColorSpace.Name(image.colorSpace)
    scale, bias = _preprocessing(name, reader.operations)
    return ImageInput(name, int(image.width), int(image.height), layout, scale, bias)


def _preprocessing(name: str, operations: list[Operation]) -> tuple[float | tuple[float, ...], tuple[float, ...]]:
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
    operations: list[Operation] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    files: dict[str, WeightFile] = field(default_factory=dict)

    def add(self, operation: Any) -> None:
        if operation.type == "const":
            name = operation.outputs[0].name
            self.constants[name] = self.constant(name, operation.attributes["val"])
            return
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
        self.operations.append(Operation(operation.type, name, inputs, outputs))

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
