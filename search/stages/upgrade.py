"""A package for iOS 15 as coremltools would have converted it for iOS 16, without converting once more.

The compressed forms need iOS 16, an uncompressed package loads from iOS 15 on; converting costs seconds, and the two
differ in the numbers of version and opset alone wherever coremltools has one definition of an operation for both
(tested on every family, byte by byte). A program with any other operation is not upgraded: it is converted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from coreml_pareto.objectives.program.loader import main_function, read_spec
from coreml_pareto.objectives.program.quiet import coremltools as ct
from coreml_pareto.objectives.program.quiet import quiet

with quiet():
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

OLD, NEW = 15, 16
_OPSETS: Final = {15: "CoreML5", 16: "CoreML6"}
_VERSIONS: Final = {15: 6, 16: 7}


def upgrade(package: Path, target: Path) -> bool:
    """Write a package for iOS 15 as one for iOS 16; return whether that could be done.

    Args:
        package: a saved ML program for iOS 15.
        target: where to write; nothing is there when it could not be done.
    """
    spec, model_file = read_spec(package)
    function = main_function(spec, package)
    if function.opset != _OPSETS[OLD] or not all(map(_same, _operations(function.block_specializations[_OPSETS[OLD]]))):
        return False
    function.block_specializations[_OPSETS[NEW]].CopyFrom(function.block_specializations[_OPSETS[OLD]])
    del function.block_specializations[_OPSETS[OLD]]
    function.opset, spec.specificationVersion = _OPSETS[NEW], _VERSIONS[NEW]
    shutil.copytree(package, target)
    (target / model_file.relative_to(package)).write_bytes(spec.SerializeToString())
    return True


def _operations(block: Any) -> Iterator[str]:
    for operation in block.operations:
        yield operation.type
        for inner in operation.blocks:
            yield from _operations(inner)


def _same(operation: str) -> bool:
    """Whether coremltools defines an operation once for both systems."""
    variants = SSAOpRegistry.core_ops.get(operation, {})
    old, new = (variants.get(ct.target[f"iOS{os}"]) for os in (OLD, NEW))
    return old is not None and old is new
