"""Matched pairs of a run: who is compared with whom, and with what interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coreml_pareto.objectives.accuracy import RIGHT, spell_right
from coreml_pareto.objectives.paired import compare
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.methods import KINDS, PLAIN, Methods, methods, parts, pigeonhole, untaught
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe
from coreml_pareto.spaces.compression import every_compression, parse

Right = NDArray[np.bool_]
Make = Callable[..., Any]
TAUGHT = {"teacher": "resnet18", "temperature": 4.0, "hard_weight": 0.5, "soft_weight": 1.0}


@pytest.fixture
def package(result_at: Make) -> Callable[..., Result]:
    """package(number, right, …): a scored trial whose top-1 tells which images were right."""

    def make(
        number: int, right: Right, compression: str = "fp16", size: float = 1e6, latency: float = 1.0,
        backbone: str = "mobilenetv2", parent: str | None = None, training: str = "", network: dict[str, Any] | None = None,
        **recipe: Any,
    ) -> Result:  # fmt: skip
        at = {"width": 1.0, "resolution": 32, "stem_stride": 1, "classes": 10} | (network or {})
        candidate = Candidate(
            network=Network(family="mobilenet", backbone=backbone, **at),
            recipe=Recipe(epochs=8, learning_rate=1e-3, weight_decay=0.01, **recipe),
            compression=parse(compression),
        )
        score = result_at(number, (float(right.mean()), latency, size, 1e6, 0.1)).score
        conditions = {**score["top1"].conditions, RIGHT: spell_right(right), "images": str(len(right))}
        top1 = Reading(float(right.mean()), "share", 0.0, 1.0, "measured", conditions)
        key = training or candidate.model_copy(update={"compression": PLAIN}).digest
        outcome = Scored({**score, "top1": top1}, Path(f"{number}.mlpackage"), {TRAINING: key})
        return Result(number, candidate, outcome, parent=parent)

    return make


def _draw(share: float, seed: int, images: int = 400) -> Right:
    drawn: Right = np.random.default_rng(seed).random(images) < share
    return drawn


def _only(found: Methods, kind: str) -> Any:
    (effect,) = [effect for effect in found.effects if effect.kind == kind]
    return effect


def test_one_pair_is_the_paired_difference_of_its_packages(package: Make, run_of: Make) -> None:
    plain, small = _draw(0.8, 1), _draw(0.7, 2)
    results = (package(0, plain, size=4e6, latency=2.0), package(1, small, "int8/channel", size=1e6, latency=1.0))
    effect = _only(methods(run_of(results)), "quantization")
    expected = compare(small, plain)
    change = effect.changes["accuracy"]
    assert (change.value, change.low, change.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert effect.what == "int8/channel" and effect.comparisons == 1 and change.shown == (expected.high < 0)
    size = effect.changes["size"]
    assert (size.value, size.low, size.high, size.ratio, size.gain) == pytest.approx((-3e6, -3e6, -3e6, 0.25, 0.75))


def test_means_and_ranges_over_comparisons(package: Make, run_of: Make) -> None:
    results = tuple(
        package(
            2 * n + side, _draw(0.8 - 0.1 * side, n), "palette-4/tensor" if side else "fp16",
            size=(8e6, 2e6, 8e6, 4e6)[2 * n + side], network={"width": (1.0, 0.5)[n]},
        )
        for n in (0, 1) for side in (0, 1)
    )  # fmt: skip
    effect = _only(methods(run_of(results)), "quantization")
    size = effect.changes["size"]
    assert effect.comparisons == 2 and (size.low, size.high) == (-6e6, -4e6) and size.value == -5e6
    assert size.ratio == pytest.approx((0.25 * 0.5) ** 0.5)
    accuracy = [results[2 * n + 1].score["top1"].value - results[2 * n].score["top1"].value for n in (0, 1)]
    assert effect.changes["accuracy"].value == pytest.approx(np.mean(accuracy))


def test_compressions_of_the_same_two_trainings_are_one_comparison(package: Make, run_of: Make) -> None:
    results = tuple(
        package(number, _draw(0.8, number), form, network={"resolution": pixels})
        for number, (pixels, form) in enumerate(
            (p, f) for p in (48, 32) for f in ("fp16", "int8/channel", "palette-4/tensor")
        )
    )
    effect = _only(methods(run_of(results)), "resolution")
    assert effect.what == "48 → 32" and len(effect.pairs) == 3 and effect.comparisons == 1


def test_only_what_differs_in_nothing_else_is_a_pair(package: Make, run_of: Make) -> None:
    right = _draw(0.8, 0)
    results = (
        package(0, right),
        package(1, right, "int8/channel", training="another one"),  # of another training
        package(2, right, network={"resolution": 48, "width": 0.5}),  # two knobs
        package(3, right, backbone="mobilenetv3_small", **TAUGHT),  # two again
    )
    found = methods(run_of(results))
    assert found.effects == ()
    assert set(found.unpaired) == set(KINDS) - {"pruning"} and found.untried == ("pruning",)


def test_what_every_package_uses_was_tried(package: Make, run_of: Make) -> None:
    right = _draw(0.8, 0)
    every = tuple(package(n, right, "int8/channel", network={"width": w}, **TAUGHT) for n, w in enumerate((1.0, 0.5)))
    found = methods(run_of(every))
    assert set(found.unpaired) == {"distillation", "quantization"}
    assert set(found.untried) == {"pruning", "resolution", "architecture"}
    wide = methods(run_of((package(0, right), package(1, right, "fp32"))))
    assert "quantization" in wide.untried  # single precision is no quantization


def test_a_teacher_is_compared_with_none_and_other_first_weights_are_counted(package: Make, run_of: Make) -> None:
    right = _draw(0.8, 0)
    results = (
        package(0, right), package(1, right, **TAUGHT), package(2, right, **TAUGHT | {"temperature": 5.0}, parent="abc"),
    )  # fmt: skip
    effect = _only(methods(run_of(results)), "distillation")
    assert effect.what == "resnet18" and effect.comparisons == 2 and effect.other_start == 1
    assert [[p.trial for p in pair] for pair in effect.pairs] == [[0, 1], [0, 2]]


def test_joint_pruning_counts_for_each_of_its_methods(package: Make, run_of: Make) -> None:
    right = _draw(0.8, 0)
    forms = ("fp16", "palette-4/tensor", "pruning-50", "pruning-50+palette-4")
    found = methods(run_of(tuple(package(n, right, form, training="t") for n, form in enumerate(forms))))
    told = {(e.kind, e.what): [[p.trial for p in pair] for pair in e.pairs] for e in found.effects}
    assert told == {
        ("quantization", "palette-4/tensor"): [[0, 1], [2, 3]], ("pruning", "pruning-50"): [[0, 2], [1, 3]],
    }  # fmt: skip


def test_every_compression_is_its_parts() -> None:
    for compression in every_compression():
        quantized, pruned = parts(compression)
        assert (quantized.sparsity, pruned.sparsity) == (0, compression.sparsity)
        assert pruned.scheme == ("pruning" if compression.sparsity else "fp16")
        if compression.sparsity == 0:
            assert quantized == compression
        elif compression.scheme == "pruning":
            assert (quantized, pruned) == (PLAIN, compression)


def test_untaught_is_the_space_s_own_recipe_without_a_teacher() -> None:
    plain = Recipe(epochs=8, learning_rate=1e-3, weight_decay=0.01)
    assert untaught(plain.model_copy(update=TAUGHT)) == plain == untaught(plain)


def test_going_back_undoes(package: Make, run_of: Make) -> None:
    results = (package(0, _draw(0.8, 1), size=4e6, network={"resolution": 48}), package(1, _draw(0.6, 2), size=3e6))
    effect = _only(methods(run_of(results)), "resolution")
    back = effect.reversed
    assert back.what == "32 → 48" and back.reversed == effect
    for name, change in effect.changes.items():
        assert back.changes[name].value == -change.value and back.changes[name].low == -change.high
        assert change.ratio is None or back.changes[name].ratio == pytest.approx(1 / change.ratio)


def test_records_without_images_have_no_interval(package: Make, run_of: Make) -> None:
    results = (package(0, _draw(0.8, 1)), package(1, _draw(0.7, 2), "int8/channel"))
    assert isinstance(results[1].outcome, Scored)
    bare = replace(results[1].score["top1"], conditions={})
    results = (
        results[0],
        replace(results[1], outcome=replace(results[1].outcome, score={**results[1].score, "top1": bare})),
    )
    change = _only(methods(run_of(results)), "quantization").changes["accuracy"]
    assert (change.low, change.high, change.shown) == (None, None, False)


@settings(max_examples=20)
@given(st.integers(6, 30), st.floats(0.0, 0.05), st.integers(0, 2**32 - 1))
def test_the_pigeonhole_interval_has_the_closed_form_s_width(count: int, spread: float, seed: int) -> None:
    """For a table of row effects only, the variance of the drawn mean is that of the rows over their number."""
    rows = np.random.default_rng(seed).normal(0.1, spread, count)
    low, high = pigeonhole(np.tile(rows, (2000, 1)))
    width = 2 * 1.96 * rows.std() / count**0.5
    assert low <= rows.mean() + 1e-12 and high >= rows.mean() - 1e-12
    assert high - low == pytest.approx(width, rel=0.35, abs=1e-9)


def test_the_interval_holds_its_level() -> None:
    """Two-way model: comparisons and images both drawn; 95 % intervals hold 95 % of the time, or more."""
    rng, held, turns = np.random.default_rng(0), 0, 200
    for _ in range(turns):
        truth, comparisons, images = 0.02, 8, 300
        effects = rng.normal(truth, 0.02, comparisons)
        gained = (rng.random((comparisons, images)) < 0.1 + effects[:, None]).astype(float)
        lost = (rng.random((comparisons, images)) < 0.1).astype(float)
        counts = rng.multinomial(images, np.full(images, 1 / images), size=500)
        low, high = pigeonhole(counts @ (gained - lost).T / images)
        held += low <= truth <= high
    assert held / turns >= 0.9
