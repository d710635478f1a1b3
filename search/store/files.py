"""How is a file written so that no reader ever sees half of it?  Aside, handed over to the disk, then renamed."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old or the new content, never half of it."""
    write_whole(path, text.encode())


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a reader sees the old or the new content; what cannot be finished leaves no draft."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_bytes(content)
        sync(draft)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Hand a file or folder over to the disk, so that a rename does not overtake its content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
