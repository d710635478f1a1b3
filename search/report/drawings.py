"""The charts and photographs of a report as PNG files, for Markdown and for whoever pastes them elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

from matplotlib.figure import Figure
from PIL import Image

from coreml_pareto.search.figures import SCALES
from coreml_pareto.search.report.class_prints import class_print, confusion_print
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.ink import save
from coreml_pareto.search.report.prints import anchors_print, growth_print, importance_print, pareto_print, plottable

PHOTOGRAPHS = "photographs"


@final
class Drawing:
    """One chart: its file's name, what it shows, and how it is drawn."""

    def __init__(self, name: str, caption: str, draw: Callable[[], Figure]) -> None:
        self.name, self.caption, self.draw = f"{name}.png", caption, draw


def drawings(facts: Facts) -> Iterator[Drawing]:
    """The charts that this run has something to show on, in the order of the report."""
    for row in facts.objectives:
        if row.name != "accuracy" and any(plottable(result, row) for result in facts.scored):
            caption = f"Top-1 against {SCALES[row.name].noun}"
            yield Drawing(f"pareto-{row.name}", caption, lambda row=row: pareto_print(facts, row))  # type: ignore[misc]
    if facts.anchors:
        yield Drawing("anchors", "The anchors", lambda: anchors_print(facts))
    if facts.importances:
        yield Drawing("importance", "Which choice mattered for what", lambda: importance_print(facts.importances))
    growth, pictures = facts.growth, facts.pictures
    if growth is not None and len(growth.points) > 1:
        yield Drawing("growth", "How the front grew", lambda: growth_print(growth))
    if pictures is not None:
        yield Drawing("confusion", "What is taken for what", lambda: confusion_print(pictures))
        yield Drawing("classes", "Accuracy by class", lambda: class_print(pictures))


def write_drawings(facts: Facts, folder: Path) -> None:
    """Write every chart into a folder that exists.

    Raises:
        OSError: a file cannot be written.
    """
    for drawing in drawings(facts):
        save(drawing.draw(), folder / drawing.name)


def write_photographs(facts: Facts, folder: Path) -> list[str]:
    """Write the sample photographs below a folder that exists; their paths in it, in the order of the samples."""
    samples = facts.pictures.samples if facts.pictures is not None else ()
    if samples:
        (folder / PHOTOGRAPHS).mkdir(exist_ok=True)
    names = []
    for number, sample in enumerate(samples, 1):
        names.append(f"{PHOTOGRAPHS}/{'right' if sample.right else 'wrong'}-{number:02}.png")
        Image.fromarray(sample.pixels).save(folder / names[-1])
    return names
