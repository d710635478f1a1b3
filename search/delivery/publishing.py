"""How does a folder appear whole or not at all?  It is filled beside its place, under a hidden name, and then renamed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coreml_pareto.spaces.errors import UserError


def check_new(out: Path) -> None:
    """Refuse, before anything is made, a folder that holds something, or a file."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out names a folder that does not exist yet, or is empty; {out} is neither; name another")


@contextmanager
def published(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends well; else nothing of it stays.

    Raises:
        UserError: it cannot be written there.
    """
    place = out.absolute()  # `.` cannot be removed by that name
    draft = place.with_name(f".{place.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        if place.exists():
            place.rmdir()
        draft.rename(place)
    except OSError as error:
        raise UserError(f"--out names a folder that can be written; {out}: {error.strerror}; name another") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
