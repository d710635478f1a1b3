"""How does a chart in print look, and how is it saved?  One style, one page width, and characters that any page bears.

Colours are those of `charts` (Okabe and Ito, Color Universal Design, 2008), chosen for every kind of colour vision; what
must be told apart in a grey print differs in shape, fill or a direct label as well. Text is drawn as outlines, so that a
page looks the same wherever it is opened; scripts that matplotlib's own font lacks come from the fonts installed.
"""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

INK: Final = "#222222"
GREY: Final = "#8A8A8A"
PALE: Final = "#E4E4E4"
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
WIDTH: Final = 6.7
"""Inches between the margins of an A4 page."""
DPI: Final = 200
UNKNOWN: Final = "\N{REPLACEMENT CHARACTER}"

_FALLBACKS: Final = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "WenQuanYi Micro Hei", "Arial Unicode MS", "Noto Sans Devanagari",
    "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Ethiopic", "Noto Emoji", "Symbola",
)  # fmt: skip
_CONTROLS: Final = ("Cc", "Cs")
_DIRECTIONS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_Parameters = ParamSpec("_Parameters")


def printed(draw: Callable[_Parameters, Figure]) -> Callable[_Parameters, Figure]:
    """Draw in the style of print, whatever the caller's matplotlib settings are."""

    @wraps(draw)
    def styled(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return styled


def sheet(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, inches, without pyplot's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # gives labels an extent before anything is saved
    return figure


def svg(figure: Figure) -> bytes:
    """The figure as SVG; the same figure gives the same bytes."""
    target = io.BytesIO()
    with _style():
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG on white."""
    target = io.BytesIO()
    with _style():
        figure.savefig(target, format="png", dpi=dpi, facecolor="white")
    return target.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write `.svg` or, for every other name, PNG."""
    path.write_bytes(svg(figure) if path.suffix == ".svg" else png(figure))


def printable(text: str) -> str:
    """The text on one line; what no page or XML can hold, and what would turn the text around it, as �.

    Letters of every script, right-to-left ones too, stay as they are; only the marks that override a direction go.
    """
    one_line = " ".join(text.split()) if any(map(str.isspace, text)) else text
    return "".join(UNKNOWN if _unprintable(character) else character for character in one_line)


def shortened(text: str, most: int) -> str:
    """The printable text with at most so many characters, the last an ellipsis where some are left out.

    After right-to-left letters a mark of no width keeps what follows, a figure for instance, at its place.
    """
    whole = printable(text)
    shown = whole if len(whole) <= most else whole[: most - 1].rstrip() + "…"
    leftward = any(unicodedata.bidirectional(character) in ("R", "AL") for character in shown)
    return f"{shown}\N{LEFT-TO-RIGHT MARK}" if leftward else shown


def plain_axes(axes: Axes, grid: str = "both") -> None:
    """No box, a pale grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=PALE, linewidth=0.6)  # type: ignore[arg-type]


def _unprintable(character: str) -> bool:
    code = ord(character)
    no_character = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # Unicode's noncharacters; XML forbids some
    return no_character or character in _DIRECTIONS or unicodedata.category(character) in _CONTROLS


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(_settings()), warnings.catch_warnings():
        # A script that no installed font has is drawn as boxes: no reason to stop, and nothing that a reader can change.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _settings() -> Any:  # matplotlib's stubs list every name that a setting may have
    return {
        "font.family": ["DejaVu Sans", *_installed()],
        "font.size": 8,
        "axes.labelsize": 8,
        "axes.titlesize": 8,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "text.color": INK,
        "text.parse_math": False,  # a name with two dollar signs is a name
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "legend.frameon": False,
        "legend.fontsize": 7.5,
        "svg.fonttype": "path",
        "svg.hashsalt": "coreml-pareto",
    }


@cache
def _installed() -> tuple[str, ...]:
    """Fonts of this machine that add scripts; matplotlib logs a complaint about each that is named and missing."""
    present = {font.name for font in fontManager.ttflist}
    return tuple(name for name in _FALLBACKS if name in present)
