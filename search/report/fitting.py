"""Does a text fit its box on a slide?  Wrapped and measured before it is written, so that nothing runs over the edge.

Measured with DejaVu Sans, which is wider than the faces that slides are shown with (Calibri, Carlito, Arial): what fits
here fits there. Letters that it lacks, and wide ones of East Asia, count as a full em.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, final

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

from coreml_pareto.search.report.ink import printable

LEADING: Final = 1.22
"""Height of a line in sizes of its letters."""
BETWEEN: Final = 0.45
"""Space between paragraphs in sizes of their letters."""
ELLIPSIS: Final = "…"
_MEASURED_AT: Final = 100


@final
@dataclass(frozen=True)
class Fitted:
    """Paragraphs in the largest size that fits, points; `whole` is false where something had to be left out."""

    size: int
    paragraphs: tuple[str, ...]
    whole: bool


def fit(
    paragraphs: Sequence[str], width: float, height: float, largest: int, smallest: int, *, bold: bool = False
) -> Fitted:
    """Choose the size, and shorten only what does not fit in the smallest one.

    Args:
        paragraphs: texts; characters that a slide cannot hold are replaced.
        width, height: of the box, points.
        largest, smallest: sizes that may be chosen, points.
        bold: whether the text is set bold, which is wider.
    """
    told = [printable(text) for text in paragraphs]
    for size in range(largest, smallest - 1, -1):
        if needed(told, width, size, bold=bold) <= height:
            return Fitted(size, tuple(told), True)
    return Fitted(smallest, tuple(_cut(told, width, height, smallest, bold)), False)


def needed(paragraphs: Sequence[str], width: float, size: int, *, bold: bool = False) -> float:
    """Height of the wrapped paragraphs, points."""
    lines = sum(len(wrapped(text, width, size, bold=bold)) for text in paragraphs)
    return size * (LEADING * lines + BETWEEN * max(0, len(paragraphs) - 1))


def wrapped(text: str, width: float, size: int, *, bold: bool = False) -> list[str]:
    """The lines of a text; a word that is wider than the box is broken anywhere."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if breadth(longer, size, bold=bold) <= width:
            line = longer
            continue
        lines += [line] if line else []
        *full, line = _broken(word, width, size, bold)
        lines += full
    return [*lines, line]


def breadth(text: str, size: int, *, bold: bool = False) -> float:
    """Width of a text on one line, points."""
    return sum(_advance(character, bold) for character in text) * size / _MEASURED_AT


def shorten(text: str, width: float, size: int, *, bold: bool = False) -> str:
    """The printable text on one line of that many points, with an ellipsis where it is too long."""
    whole = printable(text)
    if breadth(whole, size, bold=bold) <= width:
        return whole
    return _ending(whole, width, size, bold)


def _broken(word: str, width: float, size: int, bold: bool) -> list[str]:
    pieces, piece = [], ""
    for character in word:
        if piece and breadth(piece + character, size, bold=bold) > width:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece]


def _cut(paragraphs: Sequence[str], width: float, height: float, size: int, bold: bool) -> list[str]:
    """As many whole lines as there is room for; the last one ends in an ellipsis. One line is always shown."""
    shown: list[str] = []
    for text in paragraphs:
        lines = wrapped(text, width, size, bold=bold)
        room = height - needed(shown, width, size, bold=bold) - (BETWEEN * size if shown else 0.0)
        possible = max(int(room / (LEADING * size) + 1e-9), 0 if shown else 1)
        if possible >= len(lines):
            shown.append(text)
            continue
        *before, last = lines[:possible] or wrapped(shown.pop(), width, size, bold=bold)
        return [*shown, " ".join([*before, _ending(last, width, size, bold)])]
    return shown


def _ending(line: str, width: float, size: int, bold: bool) -> str:
    """The line with an ellipsis at its end, as much of it as leaves room for that."""
    while line and breadth(line + ELLIPSIS, size, bold=bold) > width:
        line = line[:-1]
    return line.rstrip(" .,;:") + ELLIPSIS


@cache
def _advance(character: str, bold: bool) -> float:
    """Width of one letter at `_MEASURED_AT` points; nothing for marks that stand above another one."""
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in ("W", "F") or ord(character) not in _letters():
        return 1.0 * _MEASURED_AT
    return float(_face(bold).getlength(character))


@cache
def _letters() -> frozenset[int]:
    """What DejaVu Sans has letters for; the bold face has almost the same."""
    return frozenset(FT2Font(_file(bold=False)).get_charmap())


@cache
def _face(bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_file(bold=bold), _MEASURED_AT)


def _file(*, bold: bool) -> str:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)
