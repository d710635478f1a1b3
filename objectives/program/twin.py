"""What does a package compute inside, where only its outputs can be seen?  The same program with other outputs.

`with_outputs` lets inner values out beside the package's own; `as_tensors` takes a tensor instead of an image and gives
the scores only, for what cannot pass pictures and labels on. Weights are copied, operations stay as they are. Core ML
may fuse less, or choose other units, when a value has to come out: a twin answers for the arithmetic, not for the time.

coremltools 9.0 has `MLModelInspector` for the former. It is not used: it looks its loaded models up by a key that they
never have (`_create_model_with_outputs`), so that every image loads the model anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coreml_pareto.objectives.program.loader import main_function, read_spec
from coreml_pareto.objectives.program.program import Program, TensorType
from coreml_pareto.objectives.program.quiet import coremltools
from coreml_pareto.spaces.errors import UserError

_ARRAY = coremltools.proto.FeatureTypes_pb2.ArrayFeatureType
_FEATURES = {"fp16": _ARRAY.FLOAT16, "fp32": _ARRAY.FLOAT32, "int32": _ARRAY.INT32}
_FP16_FEATURES = 7  # iOS 16: the first specification with half precision at the outside


def visible(program: Program) -> tuple[str, ...]:
    """The values that can come out as arrays, in program order."""
    names = [name for operation in program.operations if not operation.constexpr for name, _ in operation.outputs]
    return tuple(name for name in names if program.types[name].dtype in _FEATURES and program.types[name].shape)


def with_outputs(program: Program, names: Sequence[str], destination: Path) -> Path:
    """A copy of the package in which these values are outputs, too."""
    spec, file, block = _copy(program, destination)
    for name in names:
        if name not in block.outputs:
            block.outputs.append(name)
            _describe(spec.description.output.add(), name, program.types[name], shaped=False)
    file.write_bytes(spec.SerializeToString())
    return destination


def as_tensors(program: Program, destination: Path) -> Path:
    """A copy of an image classifier that takes the tensor behind its image, and gives the scores alone.

    Raises:
        UserError: the program has no single row of scores.
    """
    if program.scores is None:
        raise UserError(f"only a classifier can be rewritten to give its scores alone; {program.path.name} is none")
    spec, file, block = _copy(program, destination)
    described = spec.description
    described.input[0].type.Clear()
    _describe(described.input[0], program.input.name, program.types[program.input.name])
    for field in ("output", "predictedFeatureName", "predictedProbabilitiesName"):
        described.ClearField(field)
    _describe(described.output.add(), program.scores, program.types[program.scores])
    block.outputs[:] = [program.scores]
    kept = [operation for operation in block.operations if operation.type != "classify"]
    del block.operations[:]
    block.operations.extend(kept)
    file.write_bytes(spec.SerializeToString())
    return destination


def _copy(program: Program, destination: Path) -> tuple[Any, Path, Any]:
    """The protobuf of a fresh copy, its file, and the block of its function."""
    shutil.copytree(program.path, destination)
    spec, file = read_spec(destination)
    spec.specificationVersion = max(spec.specificationVersion, _FP16_FEATURES)
    function = main_function(spec, destination)
    return spec, file, function.block_specializations[function.opset]


def _describe(feature: Any, name: str, kind: TensorType, *, shaped: bool = True) -> None:
    """As coremltools' own debugging does, an inner value's shape is left to Core ML."""
    feature.name = name
    feature.type.multiArrayType.dataType = _FEATURES[kind.dtype]
    if shaped:
        feature.type.multiArrayType.shape.extend(kind.shape)
