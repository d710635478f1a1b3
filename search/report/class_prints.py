"""Which classes does the recommended package tell apart, and which not?  Confusion and accuracy by class, for paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coreml_pareto.search.report.ink import BLUE, GREY, INK, PALE, plain_axes, printed, sheet, shortened
from coreml_pareto.search.report.pictures import ClassAccuracy, Pictures

MATRIX: Final = 25
"""Classes up to which a matrix can be read; of more, the pairs that are confused most often are shown."""
PAIRS: Final = 12
BARS: Final = 25
"""Classes up to which each has a line; of more, the worst and the best ones."""
BEST: Final = 5
_LABEL: Final = 24
"""Characters of a class's label beside an axis."""


@printed
def confusion_print(pictures: Pictures) -> Figure:
    """The matrix in percent of each class's pictures; of more than MATRIX classes the most confused pairs."""
    return _matrix(pictures) if len(pictures.classes) <= MATRIX else _pairs(pictures)


@printed
def class_print(pictures: Pictures) -> Figure:
    """Accuracy with 95 % interval by class, the worst on top; of more than BARS classes the worst and the best."""
    worst, best = extremes(pictures.by_class)
    shown = [*worst, *best]
    drawn = sheet(0.6 + 0.17 * len(shown) + (0.25 if best else 0.0))
    axes = drawn.subplots()
    plain_axes(axes, "x")
    places = [-float(place) - (1.0 if place >= len(worst) else 0.0) for place in range(len(shown))]
    for place, one in zip(places, shown, strict=True):
        axes.plot([100 * one.low, 100 * one.high], [place, place], color=BLUE, linewidth=1.2, alpha=0.5)
        axes.plot([100 * one.value], [place], "o", color=BLUE, ms=4.5)
        _beside(axes, place, f"{100 * one.value:.0f} % of {one.images:,}")
    if best:
        left_out = len(pictures.by_class) - len(shown)
        axes.axhline(-len(worst), color=GREY, linewidth=0.6, linestyle=(0, (2, 2)))
        _beside(axes, -float(len(worst)), f"{left_out:,} {'class' if left_out == 1 else 'classes'} between")
    axes.set_yticks(places, [shortened(one.label, _LABEL) for one in shown])
    axes.set_ylim(places[-1] - 0.8, 0.8)
    axes.set_xlim(-1, 101)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{pictures.split} pictures answered right, %")
    return drawn


def extremes(classes: Sequence[ClassAccuracy]) -> tuple[list[ClassAccuracy], list[ClassAccuracy]]:
    """All classes, the worst first, and none; of more than BARS the worst ones and the BEST best ones."""
    ranked = sorted(classes, key=lambda one: (one.value, -one.images, one.label))
    return (ranked, []) if len(ranked) <= BARS else (ranked[: BARS - BEST], ranked[-BEST:])


def _matrix(pictures: Pictures) -> Figure:
    count = len(pictures.classes)
    totals = pictures.confusion.sum(axis=1, keepdims=True)
    percent = np.divide(100.0 * pictures.confusion, totals, out=np.zeros(totals.shape) + 0 * pictures.confusion,
                        where=totals > 0)  # fmt: skip
    size = min(6.2, 1.7 + 0.27 * count)
    drawn = sheet(size)
    axes = drawn.subplots()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(pictures.confusion > 0):
        value = percent[row, column]
        text = f"{value:.0f}" if value >= 0.5 else "<1"
        axes.text(column, row, text, ha="center", va="center", color="white" if value > 55 else INK,
                  fontsize=7.5 if count <= 12 else 5.5)  # fmt: skip
    names = [shortened(name, _LABEL) for name in pictures.classes]
    axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.tick_params(length=0)
    axes.spines[:].set_color(PALE)
    axes.set_xlabel("answer")
    axes.set_ylabel("class of the picture")
    return drawn


def _pairs(pictures: Pictures) -> Figure:
    pairs = pictures.mixups(PAIRS)
    drawn = sheet(0.6 + 0.2 * max(len(pairs), 3))
    axes = drawn.subplots()
    if not pairs:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no picture was taken for another class", ha="center", transform=axes.transAxes)
        return drawn
    plain_axes(axes, "x")
    places = range(len(pairs))[::-1]
    axes.barh(places, [100 * pair.share for pair in pairs], color=BLUE, height=0.66)
    for place, pair in zip(places, pairs, strict=True):
        _beside(axes, place, f"{pair.count:,}")
    named = [f"{shortened(pair.truth, _LABEL)} → {shortened(pair.predicted, _LABEL)}" for pair in pairs]
    axes.set_yticks(places, named)
    axes.set_ylim(-0.7, len(pairs) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the class's pictures, % (right: how many)")
    return drawn


def _beside(axes: Axes, place: float, text: str) -> None:
    """At the right edge, outside."""
    axes.annotate(text, (1, place), (4, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points", va="center",
                  fontsize=6.5, color=INK)  # fmt: skip
