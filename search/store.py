"""Where results of stages live: `ROOT/<stage>/<key>/`, published atomically, never changed afterwards.

A key is the digest of everything that the stage reads (design: "keys follow what a stage reads"), tool versions
included, so a folder that exists is the finished answer. Work in progress lies in `ROOT/.work/<stage>-<key>/`, which
survives a kill: a stage that checkpoints there goes on from it. One process at a time works there, by a `flock` on that
folder: the kernel frees it however a process ends, and whoever waited finds the result.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import final

from coreml_pareto.spaces.candidate import digest_of

if sys.platform != "win32":
    import fcntl

PAUSE = 0.5
"""Seconds between two looks whether another process has finished what is waited for."""
TOOLS = ("coreml-pareto", "coremltools", "numpy", "pillow", "timm", "torch", "torchvision")


def _wait() -> None:
    pass


@final
@dataclass(frozen=True)
class Store:
    """A content-addressed folder of finished stage results.

    `waiting` is called about twice a second while another process makes what is asked for; what it raises is passed on.
    """

    root: Path
    waiting: Callable[[], None] = _wait

    def find(self, stage: str, key: str) -> Path | None:
        """Return the finished result, or None."""
        path = self.root / stage / key
        return path if path.is_dir() else None

    def produce(self, stage: str, key: str, make: Callable[[Path], None]) -> Path:
        """Return the finished result, made now if it does not exist.

        `make` gets the folder of work in progress (with what an interrupted attempt left) and writes its files
        there; a rename publishes them. Whatever `make` raises is passed on and nothing is published. What another
        process is making is waited for.
        """
        found = self.find(stage, key)
        if found is not None:
            return found
        work = self.root / ".work" / f"{stage}-{key}"
        with _alone_in(work, self.waiting):
            found = self.find(stage, key)
            if found is None:
                make(work)
                return self._publish(work, self.root / stage / key)
        with suppress(OSError):
            work.rmdir()  # made by us while the result was published
        return found

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


@contextmanager
def _alone_in(work: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a folder of work in progress, made if need be; whoever held it before may have published it meanwhile."""
    handle = _open(work)
    try:
        while not _taken(handle):
            waiting()
            time.sleep(PAUSE)
        yield
    finally:
        os.close(handle)


def _open(work: Path) -> int:
    while True:
        work.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(work, os.O_RDONLY)
        except FileNotFoundError:
            continue  # published between the two calls


def _taken(handle: int) -> bool:
    """Take a folder's lock if it is free. Windows has none, nor have some network file systems: nobody waits there."""
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


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
