"""Where results of stages live: `ROOT/<stage>/<key>/`, published atomically, never changed afterwards.

A key is the digest of everything that the stage reads (design: "keys follow what a stage reads"), tool versions
included, so a folder that exists is the finished answer. Work in progress lies in `ROOT/.work/<stage>-<key>/`, which
survives a kill: a stage that checkpoints there goes on from it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import final

from coreml_pareto.spaces.candidate import digest_of

TOOLS = ("coreml-pareto", "coremltools", "numpy", "pillow", "timm", "torch", "torchvision")


@final
@dataclass(frozen=True)
class Store:
    """A content-addressed folder of finished stage results."""

    root: Path

    def find(self, stage: str, key: str) -> Path | None:
        """Return the finished result, or None."""
        path = self.root / stage / key
        return path if path.is_dir() else None

    def produce(self, stage: str, key: str, make: Callable[[Path], None]) -> Path:
        """Return the finished result, made now if it does not exist.

        `make` gets the folder of work in progress (with what an interrupted attempt left) and writes its files
        there; a rename publishes them. Whatever `make` raises is passed on and nothing is published.
        """
        found = self.find(stage, key)
        if found is not None:
            return found
        work = self.root / ".work" / f"{stage}-{key}"
        work.mkdir(parents=True, exist_ok=True)
        make(work)
        return self._publish(work, self.root / stage / key)

    def _publish(self, work: Path, final_path: Path) -> Path:
        for file in work.rglob("*"):
            if file.is_file():
                _sync(file)
        final_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            work.rename(final_path)
        except OSError:
            if not final_path.is_dir():
                raise
            shutil.rmtree(work)  # another process published the same content first
        _sync(final_path.parent)
        return final_path


def stage_key(**reads: object) -> str:
    """Return the key of a stage from everything it reads (plain values) and the versions of the tools."""
    return digest_of({"reads": reads, "tools": tool_versions()})


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


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new content, never half of it."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    _sync(draft)
    draft.replace(path)


def _sync(path: Path) -> None:
    """Hand a file or folder over to the disk, so that a rename does not overtake its content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
