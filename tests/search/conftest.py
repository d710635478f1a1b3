"""Runs made of synthetic results: no training, no packages on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coreml_pareto.objectives.accuracy import RIGHT, spell_right, wilson
from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search.outcome import Failed, Infeasible, Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe
from coreml_pareto.spaces.compression import parse

IMAGES = 270
FAMILIES = {
    "mobilenet": ("mobilenetv2", "mobilenetv3_small", "mobilenetv4_conv_small"),
    "efficientnet": ("efficientnet_b0", "efficientnet_lite0"),
    "squeezenet": ("squeezenet1_1",),
}
SCHEMES = ("fp16", "int8/channel", "palette-4/tensor", "int4/block-32", "pruning-50", "w8a8", "fp32")


def candidate(number: int) -> Candidate:
    """A different candidate for every number."""
    family = tuple(FAMILIES)[number % 3]
    backbone = FAMILIES[family][number // 3 % len(FAMILIES[family])]
    return Candidate(
        network=Network(
            family=family, backbone=backbone, width=(0.35, 0.5, 0.75, 1.0)[number % 4],
            resolution=(32, 48, 64)[number % 3], stem_stride=1, classes=10,
        ),
        recipe=Recipe(epochs=8 + number, learning_rate=1e-3, weight_decay=0.01),
        compression=parse(SCHEMES[number % len(SCHEMES)]),
    )  # fmt: skip


def readings(top1: float, latency: float, size: float, memory: float, energy: float) -> dict[str, Reading]:
    """A score as the objectives give it: share, ms, bytes, bytes, mJ."""
    low, high = wilson(round(top1 * IMAGES), IMAGES)
    top = Reading(
        top1, "share", min(low, top1), max(high, top1), "measured", {"images": str(IMAGES), "split": "validation"}
    )
    charge = energy / 3600 / 3.85

    def estimate(value: float, unit: str, factor: float) -> Reading:
        return Reading(value, unit, value / factor, value * factor, "estimated", {"device": "iPhone 15 Pro"})

    return {
        "top1": top,
        "top5": Reading(1.0, "share", 0.98, 1.0, "measured"),
        "latency_ms": estimate(latency, "ms", 2),
        "fps": estimate(1000 / latency, "1/s", 2),
        "size_bytes": exact(size, "B"),
        "bits_per_weight": exact(8.1, "bit"),
        "memory_bytes": estimate(memory, "B", 1.5),
        "energy_mj": estimate(energy, "mJ", 4),
        "energy_mah": estimate(charge, "mAh", 4),
        "macs": exact(1e7, "1"),
    }


def result(number: int, point: tuple[float, float, float, float, float], lacking: tuple[str, ...] = ()) -> Result:
    """A scored trial at this point (top-1, ms, bytes, bytes, mJ), without the readings named in `lacking`."""
    score = {name: reading for name, reading in readings(*point).items() if name not in lacking}
    return Result(
        number, candidate(number), Scored(score, Path(f"runs/fake/store/package/{number}/model.mlpackage")), seconds=1.0
    )


def run_of(
    results: tuple[Result, ...], limits: Mapping[str, float] | None = None, folder: Path = Path("runs/fake")
) -> Run:
    """A run of these results with all five objectives."""
    return Run(
        folder=folder, study="fake", objectives=tuple(OBJECTIVES.values()), limits=dict(limits or {}),
        target=Target(find_device("iPhone 15 Pro"), 17), classes=tuple("0123456789"), results=results,
    )  # fmt: skip


def draw_run(count: int, seed: int = 0, limits: Mapping[str, float] | None = None) -> Run:
    """`count` scored trials with a trade-off between size and accuracy, one infeasible and one failed trial."""
    rng = np.random.default_rng(seed)
    results = []
    for number in range(count):
        size = float(round(10 ** rng.uniform(5, 6.8)))
        top1 = float(np.clip(0.99 - 0.1 * (1e5 / size) ** 0.4 - rng.exponential(0.03), 0.1, 1))
        top1 = round(top1 * IMAGES) / IMAGES
        latency = 0.05 + size / 1e6 * rng.uniform(0.05, 0.3)
        results.append(
            result(number, (top1, latency, size, size * 1.3 + 4e5, 0.09 + 0.02 * size / 1e6 * rng.uniform(0.5, 2)))
        )
    results.append(Result(count, candidate(count), Infeasible(("size",), {"size_bytes": exact(2e7, "B")})))
    results.append(Result(count + 1, candidate(count + 1), Failed("training", "loss is nan")))
    return run_of(tuple(results), limits)


def with_images(run: Run, seed: int = 0, alike: float = 0.7) -> Run:
    """The same run, whose packages say which of the IMAGES they got right; the easy ones are so for all, as far as `alike`."""
    rng = np.random.default_rng(seed)
    easy = rng.standard_normal(IMAGES)

    def told(one: Result) -> Result:
        if not isinstance(one.outcome, Scored) or "top1" not in one.score:
            return one
        top1 = one.score["top1"]
        ease = alike * easy + (1 - alike) * rng.standard_normal(IMAGES)
        right = np.zeros(IMAGES, bool)
        right[np.argsort(-ease)[: round(top1.value * IMAGES)]] = True
        reading = replace(top1, value=float(right.mean()), conditions={**top1.conditions, RIGHT: spell_right(right)})
        return replace(one, outcome=replace(one.outcome, score={**one.score, "top1": reading}))

    return replace(run, results=tuple(told(one) for one in run.results))


@pytest.fixture(name="with_images")
def with_images_fixture() -> Callable[..., Run]:
    return with_images


@pytest.fixture(name="draw_run")
def draw_run_fixture() -> Callable[..., Run]:
    return draw_run


@pytest.fixture(name="result_at")
def result_at_fixture() -> Callable[..., Result]:
    return result


@pytest.fixture(name="run_of")
def run_of_fixture() -> Callable[..., Run]:
    return run_of
