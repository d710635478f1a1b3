"""Facts of drawn runs, with and without pictures: nothing is trained or read from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.gathering import gather
from coreml_pareto.search.report.pictures import Photograph, Pictures
from coreml_pareto.search.run import Run


def pictures_of(classes: Sequence[str], seed: int = 0) -> Pictures:
    """Ten answers for each class, most of them right, one photograph right and one wrong."""
    rng, count = np.random.default_rng(seed), len(classes)
    confusion = np.diag(rng.integers(5, 10, count)).astype(np.int64)
    for row in range(count):
        confusion[row, (row + 1) % count] += 10 - confusion[row, row]
    pixels = rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)
    samples = (
        Photograph("test/a.png", classes[0], classes[0], 0.91, pixels),
        Photograph("test/b.png", classes[0], classes[1], None, pixels),
    )
    return Pictures("test", "nothing was chosen by them", tuple(classes), confusion, samples)


@pytest.fixture
def facts_of() -> Callable[..., Facts]:
    """facts_of(run, classes=…, title=…, client=…): gathered from a run, answers to pictures of these classes added."""

    def make(run: Run, classes: Sequence[str] = (), **told: str) -> Facts:
        facts = gather(run, date="2026-11-30", **told)
        return replace(facts, pictures=pictures_of(classes)) if classes else facts

    return make


HOSTILE = (
    '"quoted" & <b>bold</b>', "<script>alert(1)</script>", "עברית العربية", "emoji 🚀", '#panic("x") *b* $x$ @ref',
    "con\x00trol\x1b", "new\nline\ttab", "\u202eoverride", "日本語クラス", "a" * 120, "${x} {{y}} %s \\n", "`coreml-pareto x`",
)  # fmt: skip
"""Names that markup, XML, shells or typst could take for their own."""


def draw_pictures(classes: Sequence[str], images: int, seed: int = 0) -> Pictures:
    """Answers that are right four times of five, with up to 12 photographs right and 12 wrong, of many classes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(classes), images)
    wrong = (truth + rng.integers(1, 3, images)) % len(classes)
    predicted = np.where(rng.random(images) < 0.8, truth, wrong)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    shots = [
        Photograph(f"{i}.png", classes[a], classes[b], 0.5, rng.integers(0, 255, (12, 8, 3), dtype=np.uint8))
        for i, (a, b) in enumerate(zip(truth[:60], predicted[:60], strict=True))
    ]
    right, others = ([shot for shot in shots if shot.right is side][:12] for side in (True, False))
    return Pictures("test", "nothing was chosen by these pictures", tuple(classes), confusion, (*right, *others))


@pytest.fixture
def hostile_names() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture
def draw_facts(draw_run: Callable[..., Run]) -> Callable[..., Facts]:
    """draw_facts(count, limits, classes=…, seed=…): of a drawn run, with answers to many pictures of these classes."""

    def draw(
        count: int, limits: Mapping[str, float] | None = None, classes: Sequence[str] = (), seed: int = 0, **told: str
    ) -> Facts:
        facts = gather(draw_run(count, seed, limits), date="2026-11-30", **told)
        return replace(facts, pictures=draw_pictures(classes, max(300, 2 * len(classes)))) if classes else facts

    return draw
