"""Where does a name beside a point hide the least?  Each is tried all around its point, near first, then farther away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from coreml_pareto.search.report.ink import GREY

_DISTANCES: Final = (9, 13, 18, 26, 36, 48, 64)
_DIRECTIONS: Final = ((1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (0, 1), (0, -1), (1, 0), (-1, 0))
_MARKER: Final = 6.0
"""Half the height of a point of the front, pixels."""
_EDGE: Final = 5.0
"""Pixels kept free within the axes: text is a little wider at another resolution."""

Points = NDArray[np.float64]
"""[points, 2], in the axes' data."""


def name_points(axes: Axes, names: Sequence[tuple[float, float, str]], strong: Points, weak: Points) -> None:
    """Write each name where it lies within the axes and covers no other name and no strong point, and the fewest weak ones.

    A name that fits nowhere is left out. The layout of the figure must not change afterwards.
    """
    figure = axes.get_figure(root=True)
    if figure is None or not names:
        return
    figure.draw_without_rendering()  # the layout decides where points lie
    taken = [Bbox.from_bounds(x - _MARKER, y - _MARKER, 2 * _MARKER, 2 * _MARKER) for x, y in _pixels(axes, strong)]
    for x, y, text in sorted(names, key=lambda name: name[1]):
        box = _Name(axes, x, y, text).settle(taken, _pixels(axes, weak))
        taken += [] if box is None else [box]


def _pixels(axes: Axes, points: Points) -> Points:
    return np.asarray(axes.transData.transform(points.reshape(-1, 2)))


class _Name:
    """One text beside a point, tried at several places."""

    def __init__(self, axes: Axes, x: float, y: float, text: str) -> None:
        self._axes = axes
        self._text = axes.annotate(
            text, (x, y), (0, 0), textcoords="offset points", fontsize=7.5, zorder=7,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip
        self._text.set_in_layout(False)  # a name must not move what it was placed by
        self._text.set_gid("name")

    def settle(self, taken: Sequence[Bbox], weak: Points) -> Bbox | None:
        """Take the place that hides the fewest weak points, the nearest of these; None, and no text, where none is free."""
        free: list[tuple[int, int, tuple[float, float], Bbox]] = []
        for order, offset in enumerate((float(r * dx), float(r * dy)) for r in _DISTANCES for dx, dy in _DIRECTIONS):
            box = self._moved(offset)
            if self._inside(box) and not box.count_overlaps(taken):
                free.append((_covered(box.padded(_MARKER / 2), weak), order, offset, box))
                if free[-1][0] == 0:  # nothing nearer, nothing better
                    break
        if not free:
            self._text.remove()
            return None
        _, _, offset, box = min(free, key=lambda place: place[:2])
        self._moved(offset)
        return box

    def _moved(self, offset: tuple[float, float]) -> Bbox:
        dx, dy = offset
        self._text.set_position(offset)
        self._text.set_horizontalalignment("left" if dx > 0 else "right" if dx < 0 else "center")
        self._text.set_verticalalignment("bottom" if dy > 0 else "top" if dy < 0 else "center")
        return name_box(self._text).padded(1.0)

    def _inside(self, box: Bbox) -> bool:
        page = self._axes.get_window_extent().padded(-_EDGE)
        return bool(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1)


def name_box(text: Text) -> Bbox:
    """Where the letters of an annotation stand, pixels, without the line to its point."""
    figure = text.get_figure(root=True)
    assert figure is not None and isinstance(figure.canvas, FigureCanvasAgg)
    renderer = figure.canvas.get_renderer()  # type: ignore[no-untyped-call]
    text.update_positions(renderer)  # type: ignore[attr-defined]  # only annotations are asked
    return Text.get_window_extent(text, renderer)


def _covered(box: Bbox, points: Points) -> int:
    inside = (points > (box.x0, box.y0)) & (points < (box.x1, box.y1))
    return int(inside.all(axis=1).sum())
