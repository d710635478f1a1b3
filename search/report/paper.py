"""How does a document become a PDF?  Its parts are data that a typst template sets; nothing in them is typst.

The typst wheel carries its compiler and its fonts (https://typst.app/docs): no browser, no system library, no network.
Names reach the template as JSON strings, which typst sets and never evaluates.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Images

from coreml_pareto.search.report.ink import printable, shortened
from coreml_pareto.spaces.errors import UserError

TEMPLATE: Final = "paper.typ"
RUNNING: Final = 70
"""Characters of the title in the running head."""
SMALLEST: Final = 160
"""Pixels of a photograph's longer side: smaller ones are enlarged smoothly, or a printer shows their pixels."""
_UNBROKEN: Final = re.compile(r"\S{24,}")
_PIECE: Final = 12
_BREAK: Final = "\N{ZERO WIDTH SPACE}"


@final
@dataclass(frozen=True)
class Words:
    """A paragraph; `style` is plain, lead (larger), label (stays with what follows), note (small and grey) or warning."""

    text: str
    style: str = "plain"


@final
@dataclass(frozen=True)
class Bullets:
    """Points, each a bold beginning (may be empty) and what follows it."""

    points: tuple[tuple[str, str], ...]


@final
@dataclass(frozen=True)
class Tiles:
    """Key figures side by side: label, value, interval."""

    tiles: tuple[tuple[str, str, str], ...]


@final
@dataclass(frozen=True)
class Grid:
    """A table; a cell's second and later lines are set smaller. `wide` is the column that takes what is left.

    `strong` are the rows set bold; `caption` stands above and may be empty.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wide: int = 0
    strong: tuple[int, ...] = ()
    caption: str = ""


@final
@dataclass(frozen=True)
class Chart:
    """An SVG over the page's width with a caption; `alt` says the same to who cannot see it."""

    svg: bytes
    caption: str
    alt: str


@final
@dataclass(frozen=True, eq=False)
class Shots:
    """Photographs in a row of six, uint8 [height, width, 3], each with two lines below."""

    photographs: tuple[tuple[NDArray[np.uint8], str, str], ...]


Part = Words | Bullets | Tiles | Grid | Chart | Shots


@final
@dataclass(frozen=True)
class Section:
    """A heading and its parts; `fresh` begins a new page."""

    heading: str
    parts: tuple[Part, ...]
    fresh: bool = False


@final
@dataclass(frozen=True)
class Paper:
    """A document: what the cover says, then sections. `kind` is a word for it, such as `Performance report`."""

    kind: str
    title: str
    client: str | None
    date: str
    about: str
    cover: tuple[Part, ...]
    sections: tuple[Section, ...]


def write_paper(paper: Paper, path: Path) -> None:
    """Set a document on A4 and write it as PDF.

    Raises:
        UserError: typst is missing, or the file cannot be written.
    """
    content = compiled(paper)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"a PDF goes where it can be written; {path}: {error.strerror}; name another place") from error


def compiled(paper: Paper, **options: Any) -> Any:
    """The document's bytes; `options` go to typst's `compile`, such as `format="png"`, which gives a list by page."""
    if find_spec("typst") is None:  # the optional extra `report`
        raise UserError("PDF needs typst, which is not installed; pip install 'coreml-pareto[report]'")
    import typst

    with TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(paper, folder)
        return typst.compile(str(folder / TEMPLATE), root=name, **{"format": "pdf", **options})


def lay_out(paper: Paper, folder: Path) -> None:
    """Write what typst reads into a folder: the template, the data, the pictures."""
    template = files("coreml_pareto.search.report").joinpath(TEMPLATE).read_bytes()
    (folder / TEMPLATE).write_bytes(template)
    data = _Plain(folder).of(paper) | {"short": shortened(paper.title, RUNNING)}
    (folder / "data.json").write_text(json.dumps(data, ensure_ascii=True), encoding="utf-8")


class _Plain:
    """Turns parts into JSON; pictures become files beside it, named by number."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, 0

    def of(self, value: Any) -> Any:
        if isinstance(value, str):
            return breakable(value)
        if isinstance(value, bytes):
            return self._file("svg", value)
        if isinstance(value, np.ndarray):
            return self._file("png", _picture(value))
        if is_dataclass(value):
            told = {field.name: self.of(getattr(value, field.name)) for field in fields(value)}
            return {"part": type(value).__name__.lower(), **told}
        if isinstance(value, Mapping):
            return {key: self.of(inner) for key, inner in value.items()}
        return [self.of(inner) for inner in value] if isinstance(value, Sequence) else value

    def _file(self, kind: str, content: bytes) -> str:
        self._files += 1
        name = f"{self._files}.{kind}"
        (self._folder / name).write_bytes(content)
        return name


def breakable(text: str) -> str:
    """The printable text, line by line, with places to break in words that are longer than a column."""
    lines = (printable(line) for line in text.split("\n"))
    return "\n".join(_UNBROKEN.sub(lambda word: _pieces(word[0]), line) for line in lines)


def _pieces(word: str) -> str:
    return _BREAK.join(word[start : start + _PIECE] for start in range(0, len(word), _PIECE))


def _picture(pixels: NDArray[np.uint8]) -> bytes:
    image = Images.fromarray(pixels)
    if (scale := SMALLEST / max(image.size)) > 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Images.Resampling.BICUBIC)
    target = io.BytesIO()
    image.save(target, format="PNG")
    return target.getvalue()
