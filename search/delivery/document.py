"""One text, two papers: blocks that are written as Markdown, and as JSON for a typst template.

Text is always text: nothing in a name of a client, a class or a file becomes markup. Markdown's signs are escaped, breaks
and control characters become spaces; typst gets strings as data and never parses them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

_SIGNS: Final = re.compile(r"[\\`*\[\]|$]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|(?<=\S)~|~(?=~)")
_ENTITIES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_AT_START: Final = re.compile(r"^(\d{0,9})([#+\-=.)]+)(?=\s|$)")
"""What would begin a heading, a list or a rule."""
_BIDIRECTIONAL: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@final
@dataclass(frozen=True)
class Code:
    """A word of a machine in a line of text: a command, a file, a name in a program."""

    text: str


Span = str | Code


@final
@dataclass(frozen=True)
class Heading:
    """Level 1 is the title."""

    level: int
    text: str


@final
@dataclass(frozen=True)
class Paragraph:
    """Text, with words of machines in it."""

    spans: tuple[Span, ...]


@final
@dataclass(frozen=True)
class Listing:
    """Lines for a terminal or a source file."""

    text: str
    language: str = ""


@final
@dataclass(frozen=True)
class Items:
    """A list; numbered, with boxes to tick, or plain."""

    rows: tuple[tuple[Span, ...], ...]
    style: str = "plain"


@final
@dataclass(frozen=True)
class Table:
    """A head and rows of the same length; columns in `numbers` are set to the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


Block = Heading | Paragraph | Listing | Items | Table


def paragraph(*spans: Span) -> Paragraph:
    """Text from its parts."""
    return Paragraph(spans)


def items(*rows: Span | Sequence[Span], style: str = "plain") -> Items:
    """A list from its rows, each a text or its parts."""
    return Items(tuple((row,) if isinstance(row, str | Code) else tuple(row) for row in rows), style)


def plain(text: str) -> str:
    """Text on one line: breaks and control characters as spaces, signs that turn the direction of others left out."""
    kept = (
        " " if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign for sign in text if sign not in _BIDIRECTIONAL
    )
    return " ".join("".join(kept).split())


def markdown(blocks: Iterable[Block]) -> str:
    """CommonMark, with GitHub's tables."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def escaped(text: str) -> str:
    """Text in Markdown: shown as it is by every reader."""
    return _SIGNS.sub(r"\\\g<0>", plain(text)).translate(_ENTITIES)


def as_data(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    """For the template: every string in it is shown as it is."""
    return [_data(block) for block in blocks]


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {escaped(text)}"
        case Paragraph(spans):
            return _AT_START.sub(r"\1\\\2", _inline(spans))
        case Listing(text, language):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            return f"{fence}{language}\n{text}\n{fence}"
        case Items(rows, style):
            marks = {"numbered": "{}. ", "boxes": "- [ ] "}
            lines = (_AT_START.sub(r"\1\\\2", _inline(row)) for row in rows)
            return "\n".join(marks.get(style, "- ").format(n) + line for n, line in enumerate(lines, 1))
        case Table(head, rows, numbers):
            rule = ["---:" if column in numbers else "---" for column in range(len(head))]
            cells = [[escaped(cell) for cell in head], rule, *([escaped(cell) for cell in row] for row in rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _inline(spans: Iterable[Span]) -> str:
    return "".join(_code(span.text) if isinstance(span, Code) else escaped_inside(span) for span in spans)


def escaped_inside(text: str) -> str:
    """As `escaped`, spaces at the ends kept: they separate it from its neighbours."""
    head, tail = " " * text.startswith(" "), " " * text.endswith(" ")
    return f"{head}{escaped(text)}{tail}" if text.strip() else text


def _code(text: str) -> str:
    """A code span, fenced by more backticks than it holds in a row."""
    shown = plain(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    gap = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{fence}{gap}{shown}{gap}{fence}"


def _data(block: Block) -> dict[str, Any]:
    match block:
        case Heading(level, text):
            return {"kind": "heading", "level": level, "text": plain(text)}
        case Paragraph(spans):
            return {"kind": "paragraph", "spans": _spans(spans)}
        case Listing(text, _):
            return {"kind": "listing", "text": text}
        case Items(rows, style):
            return {"kind": "items", "style": style, "rows": [_spans(row) for row in rows]}
        case Table(head, rows, numbers):
            cells = [[plain(cell) for cell in row] for row in (head, *rows)]
            return {"kind": "table", "head": cells[0], "rows": cells[1:], "numbers": sorted(numbers)}


def _spans(spans: Iterable[Span]) -> list[dict[str, Any]]:
    return [
        {"code": isinstance(span, Code), "text": plain(span.text) if isinstance(span, Code) else _open(span)}
        for span in spans
    ]


def _open(text: str) -> str:
    head, tail = " " * text.startswith(" "), " " * text.endswith(" ")
    return f"{head}{plain(text)}{tail}" if text.strip() else text
