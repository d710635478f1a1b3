"""Do two packages hold the same?  One digest of what a package computes, by which results are kept and measurements meet.

Read from the program, not from the files: whoever saves a package draws new identifiers for its `Manifest.json`, protobuf
writes maps in any order, and copies have other names and times; none of this is content. Neither are texts for people
(metadata), nor the system that the package was converted for. Names of values are: coremltools keeps them.
"""

from __future__ import annotations

import hashlib

import numpy as np

from coreml_pareto.objectives.program.program import Argument, Program


def content_digest(program: Program) -> str:
    """SHA-256 (hexadecimal) of inputs, operations, all numbers, and what is given out.

    Numbers count in half precision: from iOS 17 on coremltools keeps some attributes of activations in single precision.
    """
    hashed = hashlib.sha256(f"{program.input!r} {program.output}".encode())
    if program.more_inputs:
        hashed.update(repr(program.more_inputs).encode())
    for operation in program.every:
        hashed.update(f"{operation.kind} {operation.outputs}".encode())
        for block in operation.blocks:
            hashed.update(f" {block.inputs} {len(block.operations)} {block.outputs}".encode())
        for role, arguments in sorted(operation.inputs.items()):
            for argument in arguments:
                hashed.update(f" {role} ".encode() + _named(argument))
    return hashed.hexdigest()


def _named(argument: Argument) -> bytes:
    if isinstance(argument, str):
        return argument.encode()
    value = np.asarray(argument.value)
    with np.errstate(over="ignore"):
        numbers = value.astype(np.float16) if value.dtype.kind == "f" else value
    return f"{argument.name} {argument.type.shape}".encode() + numbers.tobytes()
