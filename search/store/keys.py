"""Under which name is a result kept?  The digest of everything that its stage reads, the versions of its tools included.

What a stage does not read stays out: the name of the run, paths, the order in which a study was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from coreml_pareto.spaces.candidate import digest_of

TRAINING_TOOLS = ("coreml-pareto", "numpy", "pillow", "timm", "torch", "torchvision")
"""What trained weights depend on; a new coremltools trains nothing again."""

TOOLS = (*TRAINING_TOOLS, "coremltools", "numba", "scipy")


def stage_key(tools: Sequence[str] = TOOLS, /, **reads: object) -> str:
    """Return the key of a stage from everything it reads (plain values) and the versions of the tools."""
    versions = tool_versions()
    return digest_of({"reads": reads, "tools": {name: versions[name] for name in tools}})


def is_key(name: str) -> bool:
    """Whether a folder may be called so by us."""
    return re.fullmatch("[0-9a-f]{16}", name) is not None


@cache
def tool_versions() -> dict[str, str]:
    """Return the versions of what the store's results were made by, ours included; builds of a release count as one."""
    return {name: installed_version(name).split("+")[0] for name in TOOLS}


def installed_version(name: str) -> str:
    """Return a distribution's version; `not installed` where it runs from its source."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
