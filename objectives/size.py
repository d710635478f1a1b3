"""How large is a package? Bytes on disk, to the byte, and bits per weight.

Sizes are decimal: 1 MB = 10^6 bytes, as the Finder and the App Store count. A saved package is a folder; what an app
ships is the compiled model, whose size differs by a little and is known only to Apple's compiler.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coreml_pareto.objectives.program import Program, bits_per_weight
from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.spaces.errors import UserError


@dataclass(frozen=True)
class Parts:
    """Bytes of a package by what they hold."""

    weights: int
    program: int
    other: int

    @property
    def total(self) -> int:
        """All bytes of the package."""
        return self.weights + self.program + self.other


def parts(package: Path) -> Parts:
    """Sum the files of a package (or of a single-file model); file sizes, not disk blocks.

    Raises:
        UserError: there is no such path, or the folder is empty.
    """
    files = [package] if package.is_file() else [path for path in package.rglob("*") if path.is_file()]
    if not files:
        raise UserError(f"a package is a folder with files; found none at {package}; check the path")
    sums = {"weights": 0, "program": 0, "other": 0}
    for path in files:
        sums[_part(path)] += path.stat().st_size
    return Parts(**sums)


def size(program: Program) -> dict[str, Reading]:
    """`size_bytes` of the package that a program was loaded from, and its `bits_per_weight`."""
    have = parts(program.path)
    readings = {
        "size_bytes": exact(
            have.total, "B", weights=str(have.weights), program=str(have.program), other=str(have.other)
        )
    }
    if program.weights:
        counted = "tables, scales, offsets and masks; biases and other uncompressed weights too"
        readings["bits_per_weight"] = exact(bits_per_weight(program), "bit", counted=counted)
    return readings


def _part(path: Path) -> str:
    if path.suffix == ".mlmodel":
        return "program"
    return "weights" if path.parent.name == "weights" else "other"
