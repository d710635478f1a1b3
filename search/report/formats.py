"""In which formats is a report written?  A row each: its file, what must be installed, and who writes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.search.report.facts import Facts


def _html(facts: Facts, path: Path) -> None:
    from coreml_pareto.search.report.page import write_page

    write_page(facts, path)


def _pdf(facts: Facts, path: Path) -> None:
    from coreml_pareto.search.report.pdf import write_pdf

    write_pdf(facts, path)


def _pptx(facts: Facts, path: Path) -> None:
    from coreml_pareto.search.report.deck import write_deck

    write_deck(facts, path)


def _png(facts: Facts, path: Path) -> None:
    from coreml_pareto.search.report.drawings import write_drawings

    write_drawings(facts, path)


def _markdown(facts: Facts, path: Path) -> None:
    from coreml_pareto.search.report.markdown import write_markdown

    write_markdown(facts, path)


@final
@dataclass(frozen=True)
class Format:
    """One row: `file` in the report's folder, empty where several are written into the folder itself; modules needed."""

    file: str
    needs: tuple[str, ...]
    write: Callable[[Facts, Path], None]


FORMATS: Final[Mapping[str, Format]] = {
    "html": Format("report.html", (), _html),
    "pdf": Format("report.pdf", ("matplotlib", "typst"), _pdf),
    "pptx": Format("report.pptx", ("matplotlib", "pptx"), _pptx),
    "png": Format("", ("matplotlib",), _png),
    "md": Format("report.md", ("matplotlib",), _markdown),
}


def lacking(name: str) -> list[str]:
    """The modules that a format needs and that are not installed."""
    return [module for module in FORMATS[name].needs if find_spec(module) is None]


def formats_of(text: str) -> tuple[str, ...]:
    """`html,pdf` as names, each once.

    Raises:
        UserError: an unknown format or none, or one whose libraries are not installed.
    """
    names = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if unknown := [name for name in names if name not in FORMATS] or ([] if names else ["none"]):
        raise UserError(
            f"--format names one or more of {', '.join(FORMATS)}; got {', '.join(unknown)}; separate with commas"
        )
    for name in names:
        if missing := lacking(name):
            raise UserError(
                f"{name} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
                "pip install 'coreml-pareto[report]', or --format html"
            )
    return names


def prepare_folder(folder: Path) -> None:
    """Make the folder of a report.

    Raises:
        UserError: it is a file, or cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"a report goes into a folder that can be written; {folder}: {error.strerror}; name another --out"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"a report goes into a folder that can be written; {folder} cannot; name another --out")


def write(facts: Facts, names: Sequence[str], folder: Path) -> list[Path]:
    """Write a report in these formats into a folder that exists; what was written, a folder for several files.

    Raises:
        UserError: a file cannot be written.
    """
    written = []
    for name in names:
        path = folder / FORMATS[name].file
        try:
            FORMATS[name].write(facts, path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror or error}; make room, or name another --out"
            ) from error
        written.append(path)
    return written
