"""What stands on a slide?  Title, text, figures, tables, pictures and native charts on a 16:9 page, each within its frame.

Sizes are for the last row: titles from 28 points, everything else from 18, footers and slide numbers from 14. A text that
does not fit even so ends in an ellipsis and stands in full in the speaker's notes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pptx import Presentation
from pptx.dml.color import RGBColor
from pptx.enum.text import MSO_ANCHOR, MSO_AUTO_SIZE, PP_ALIGN
from pptx.util import Emu, Pt

from coreml_pareto.search.report.fitting import BETWEEN, fit, shorten
from coreml_pareto.search.report.ink import BLUE, INK, printable
from coreml_pareto.spaces.errors import UserError

WIDTH, HEIGHT = 960.0, 540.0
"""Of a slide, points: 13.33 × 7.5 inches."""
TITLE_LEAST: Final = 28
BODY_LEAST: Final = 18
FOOT_LEAST: Final = 14
PROPERTY: Final = 255
"""Characters of a document's title in its properties, at most."""
QUIET: Final = "#5A5A5A"
_TITLE_ONLY: Final = 5  # of python-pptx's default template
_MARGIN: Final = 44.0


@final
@dataclass(frozen=True)
class Frame:
    """A rectangle on the slide, points from its upper left corner."""

    left: float
    top: float
    width: float
    height: float

    def columns(self, count: int, gap: float = 18.0) -> list[Frame]:
        """The frame divided evenly."""
        width = (self.width - gap * (count - 1)) / count
        return [Frame(self.left + place * (width + gap), self.top, width, self.height) for place in range(count)]

    def rows(self, count: int, gap: float = 12.0) -> list[Frame]:
        """The frame divided evenly, from above."""
        height = (self.height - gap * (count - 1)) / count
        return [Frame(self.left, self.top + place * (height + gap), self.width, height) for place in range(count)]

    @property
    def place(self) -> tuple[Emu, Emu, Emu, Emu]:
        """As python-pptx takes it."""
        left, top, width, height = (
            Emu(round(Pt(1) * value)) for value in (self.left, self.top, self.width, self.height)
        )
        return left, top, width, height


TITLE: Final = Frame(_MARGIN, 26, WIDTH - 2 * _MARGIN, 80)
BODY: Final = Frame(_MARGIN, 124, WIDTH - 2 * _MARGIN, 358)
_FOOT: Final = Frame(_MARGIN, 494, WIDTH - 2 * _MARGIN - 60, 28)
_NUMBER: Final = Frame(WIDTH - _MARGIN - 50, 494, 50, 28)


class Deck:
    """A presentation in the making."""

    def __init__(self, title: str) -> None:
        self._made = Presentation()
        self._widen()
        self._made.core_properties.title = printable(title)[:PROPERTY]
        self._made.core_properties.author = "coreml-pareto"

    def add(self, title: str, foot: str = "", notes: Sequence[str] = (), frame: Frame = TITLE) -> Page:
        """A slide whose title is its message; `foot` says whose estimates it shows."""
        slide = self._made.slides.add_slide(self._made.slide_layouts[_TITLE_ONLY])
        page = Page(slide, list(notes))
        page.title(title, frame)
        if foot:
            page.text([foot], _FOOT, largest=BODY_LEAST, smallest=FOOT_LEAST, colour=QUIET)
        page.text([str(len(self._made.slides))], _NUMBER, FOOT_LEAST, FOOT_LEAST, colour=QUIET, align=PP_ALIGN.RIGHT)
        page.write_notes()
        return page

    def save(self, path: Path) -> None:
        """Write the file; UserError where that cannot be."""
        try:
            self._made.save(str(path))
        except OSError as error:
            raise UserError(
                f"slides go where they can be written; {path}: {error.strerror}; name another place"
            ) from error

    def _widen(self) -> None:
        """Make the default template's 4:3 pages 16:9, its own frames too, for those who add slides."""
        width, height = Emu(int(Pt(1) * WIDTH)), Emu(int(Pt(1) * HEIGHT))
        across = width / self._made.slide_width
        for page in (self._made.slide_master, *self._made.slide_layouts):
            for shape in page.placeholders:
                shape.left, shape.width = Emu(int(shape.left * across)), Emu(int(shape.width * across))
        self._made.slide_width, self._made.slide_height = width, height


class Page:
    """One slide."""

    def __init__(self, slide: Any, notes: list[str]) -> None:
        self._slide, self._notes = slide, notes

    @property
    def shapes(self) -> Any:
        """python-pptx's own, for charts."""
        return self._slide.shapes

    def title(self, text: str, frame: Frame) -> None:
        shape = self._slide.shapes.title
        shape.left, shape.top, shape.width, shape.height = frame.place
        self._write(shape.text_frame, [text], frame, 36, TITLE_LEAST, bold=True, colour=INK, anchor=MSO_ANCHOR.TOP)

    def text(
        self, paragraphs: Sequence[str], frame: Frame, largest: int = 24, smallest: int = BODY_LEAST, *,
        bold: bool = False, colour: str = INK, align: Any = PP_ALIGN.LEFT, anchor: Any = MSO_ANCHOR.TOP,
    ) -> None:  # fmt: skip
        """Paragraphs in the largest size that fits."""
        box = self._slide.shapes.add_textbox(*frame.place)
        self._write(box.text_frame, paragraphs, frame, largest, smallest, bold=bold, colour=colour, align=align,
                    anchor=anchor)  # fmt: skip

    def tile(self, label: str, value: str, below: str, frame: Frame) -> None:
        """A key figure: what it is, its value, its interval."""
        top, middle, bottom = frame.rows(3, gap=2.0)
        self.text([label], top, BODY_LEAST, colour=QUIET, anchor=MSO_ANCHOR.BOTTOM)
        self.text([value], middle, 32, bold=True, colour=BLUE, anchor=MSO_ANCHOR.MIDDLE)
        self.text([below], bottom, BODY_LEAST, colour=QUIET)

    def picture(self, pixels: NDArray[np.uint8], frame: Frame, *captions: str) -> None:
        """A photograph as large as its frame allows, with captions below it on one line each."""
        line = 24.0
        side = min(frame.width, frame.height - line * len(captions))
        scale = side / max(pixels.shape[:2])
        height, width = (max(1.0, scale * length) for length in pixels.shape[:2])
        place = Frame(frame.left + (frame.width - width) / 2, frame.top + (side - height) / 2, width, height)
        shape = self._slide.shapes.add_picture(io.BytesIO(_png(pixels)), *place.place)
        shape._element.nvPicPr.cNvPr.set("descr", printable(" ".join(captions)))
        below = Frame(frame.left, frame.top + side, frame.width, line * len(captions))
        for caption, place in zip(captions, below.rows(len(captions), gap=0.0), strict=True):
            text = shorten(caption, place.width, BODY_LEAST)
            self.text([text], place, BODY_LEAST, align=PP_ALIGN.CENTER)
            self._note_if_cut(caption, place.width)

    def table(self, rows: Sequence[Sequence[str]], frame: Frame, first: float) -> None:
        """Rows of cells on one line each, the first row the head; the first column is `first` points wide."""
        columns = len(rows[0])
        shape = self._slide.shapes.add_table(len(rows), columns, *frame.place)
        widths = [first, *[(frame.width - first) / max(1, columns - 1)] * (columns - 1)]
        for column, width in zip(shape.table.columns, widths, strict=True):
            column.width = Emu(int(Pt(1) * width))
        for row in shape.table.rows:
            row.height = Emu(int(Pt(1) * frame.height / len(rows)))
        for place, cells in enumerate(rows):
            for column, (text, width) in enumerate(zip(cells, widths, strict=True)):
                self._cell(shape.table.cell(place, column), text, width, bold=place == 0, right=column > 0)

    def write_notes(self) -> None:
        """Put what was gathered so far into the speaker's notes."""
        self._slide.notes_slide.notes_text_frame.text = "\n".join(printable(note) for note in self._notes)

    def _cell(self, cell: Any, text: str, width: float, *, bold: bool, right: bool) -> None:
        cell.margin_left = cell.margin_right = Pt(6)
        cell.vertical_anchor = MSO_ANCHOR.MIDDLE
        shown = shorten(text, width - 14, BODY_LEAST, bold=bold)
        paragraph = cell.text_frame.paragraphs[0]
        paragraph.alignment = PP_ALIGN.RIGHT if right else PP_ALIGN.LEFT
        run = paragraph.add_run()
        run.text, run.font.size, run.font.bold = shown, Pt(BODY_LEAST), bold
        self._note_if_cut(text, width - 14, bold=bold)

    def _note_if_cut(self, text: str, width: float, *, bold: bool = False) -> None:
        if shorten(text, width, BODY_LEAST, bold=bold) != printable(text):
            self._notes.append(f"In full: {printable(text)}")
            self.write_notes()

    def _write(
        self, target: Any, paragraphs: Sequence[str], frame: Frame, largest: int, smallest: int, *,
        bold: bool = False, colour: str = INK, align: Any = PP_ALIGN.LEFT, anchor: Any = MSO_ANCHOR.TOP,
    ) -> None:  # fmt: skip
        fitted = fit(paragraphs, frame.width, frame.height, largest, smallest, bold=bold)
        if not fitted.whole:
            self._notes.append("In full: " + " ".join(printable(text) for text in paragraphs))
            self.write_notes()
        target.word_wrap, target.auto_size, target.vertical_anchor = True, MSO_AUTO_SIZE.NONE, anchor
        target.margin_left = target.margin_right = target.margin_top = target.margin_bottom = 0
        for place, text in enumerate(fitted.paragraphs):
            paragraph = target.paragraphs[0] if place == 0 else target.add_paragraph()
            paragraph.alignment, paragraph.line_spacing = align, 1.0
            paragraph.space_before = Pt(BETWEEN * fitted.size if place else 0)
            run = paragraph.add_run()
            run.text, run.font.size, run.font.bold = text, Pt(fitted.size), bold
            run.font.color.rgb = colour_of(colour)


def colour_of(text: str) -> Any:
    """`#0072B2` as python-pptx takes it."""
    return RGBColor.from_string(text.removeprefix("#"))  # type: ignore[no-untyped-call]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels)
    if max(image.size) < 160:  # a projector would show its pixels
        scale = 160 / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    target = io.BytesIO()
    image.save(target, format="PNG")
    return target.getvalue()
