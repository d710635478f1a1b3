"""A package as one file: a folder cannot be downloaded.  Zipped when somebody asks, on disk, never whole in memory."""

from __future__ import annotations

import zipfile
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.record import STORE
from coreml_pareto.search.run import Run
from coreml_pareto.search.storage.packages import at_hand


def package_of(run: Run, trial: int) -> Path | None:
    """A trial's package, fetched if another machine made it; None without one, and of a path or link out of the store."""
    found = next((r.outcome for r in run.results if r.trial == trial and isinstance(r.outcome, Scored)), None)
    if found is None or not found.package.resolve().is_relative_to((run.folder / STORE).resolve()):
        return None
    return found.package if at_hand(found.package) else None


def zipped(package: Path) -> BinaryIO:
    """An open file, at its start, that is gone once it is closed: the package's regular files under the package's name."""
    file = cast("BinaryIO", TemporaryFile())  # noqa: SIM115 - whoever sends it closes it
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path in sorted(package.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, Path(package.name) / path.relative_to(package))
    file.seek(0)
    return file
