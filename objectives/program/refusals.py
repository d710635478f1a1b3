"""What came instead of an ML program?  The refusals of a reader: the rule, what lies there, and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coreml_pareto.objectives.program.quiet import coremltools
from coreml_pareto.spaces.errors import UserError

_RULE = "a Core ML package is a folder NAME.mlpackage with a Manifest.json"
_ANEW = "with coremltools.convert(..., convert_to='mlprogram')"


def no_package(path: Path) -> UserError:
    """`path` is no package: missing, a file, a compiled model, or any other folder."""
    if not path.exists():
        return UserError(f"{_RULE}; {path} does not exist; check the path")
    if not path.is_dir():
        return UserError(f"{_RULE}; {path} is not a folder{_single_file(path)}")
    if path.suffix == ".mlmodelc" or (path / "coremldata.bin").is_file():
        return UserError(
            f"only packages can be read; {path} is a compiled model (.mlmodelc), whose form is Core ML's own; name the "
            "NAME.mlpackage that it was compiled from"
        )
    inside = sorted(found.name for found in path.glob("*.mlpackage"))
    way_out = f"name one of those in it: {', '.join(inside[:3])}" if inside else "check the path"
    return UserError(f"{_RULE}; {path} has no Manifest.json; {way_out}")


def no_program(name: str, spec: Any) -> UserError:
    """The model called `name` is of another type than an ML program."""
    kind = spec.WhichOneof("Type")
    if kind is None:
        return UserError(
            f"only ML programs can be read; {name} has no model in it: its .mlmodel is empty or cut off; copy the whole "
            "package again or convert it anew"
        )
    return UserError(f"only ML programs can be read; {name} is a '{kind}' model; {_way_out(kind)}")


def no_function(name: str, functions: Any) -> UserError:
    """The program called `name` has no function, or several."""
    if not functions:
        return UserError(f"a program has a function; {name} has none: it is damaged; convert it anew")
    return UserError(
        f"only programs with one function can be read; {name} has {', '.join(sorted(functions))}; "
        "save the one you mean by itself"
    )


def no_default(name: str, functions: Any) -> UserError:
    """The program called `name` has several functions and does not say which counts."""
    return UserError(
        f"of several functions the default one is read; {name} has {', '.join(sorted(functions))} and names none of them; "
        "save the one you mean by itself"
    )


def _single_file(path: Path) -> str:
    """What else is to be said of a file: the type of a model in one file."""
    if path.suffix != ".mlmodel":
        return "; name the package's folder"
    spec = coremltools.proto.Model_pb2.Model()
    try:
        spec.ParseFromString(path.read_bytes())
    except Exception:  # no model either
        return "; name the package's folder"
    kind = spec.WhichOneof("Type")
    if kind == "mlProgram":
        return ", but the program of one; name the NAME.mlpackage around it"
    return f", but a '{kind}' model in a single file; {_way_out(kind)}" if kind else "; name the package's folder"


def _way_out(kind: str) -> str:
    if kind.startswith("neuralNetwork"):
        return f"convert the original network again, {_ANEW}"
    if kind.startswith("pipeline"):
        return f"save the ML program in it by itself, or convert its network alone, {_ANEW}"
    return f"this reads neural networks: convert one {_ANEW}"
