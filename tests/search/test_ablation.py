"""Designs, and the arithmetic of their steps: closed forms, and scipy as a second path."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search.ablation import METHODS, Ablation, Design, Method, baseline, design, mixed, most_compressed
from coreml_pareto.search.config import load_plan
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe
from coreml_pareto.spaces.compression import check, every_compression, parse, spell
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.space import Space

SIZE = OBJECTIVES["size"]
PLAN: dict[str, Any] = {
    "name": "small", "data": "digits",
    "networks": {"backbones": ["mobilenetv3_small", "squeezenet1_1"], "width": [0.5, 0.35, 1.0], "resolution": [48, 32, 64]},
    "distillation": {"teachers": ["none", "resnet18"]}, "compression": ["fp16", "int8/channel", "pruning-50+palette-4"],
    "target": {"os": 18}, "training": {"epochs": [4, 8]}, "search": {"trials": 4},
}  # fmt: skip


def _space(**sections: Any) -> Space:
    return load_plan(None, PLAN | sections).space(10)


def full_recipe(compression: str = "pruning-50+palette-4", **changes: Any) -> Candidate:
    """A recipe with every method in it."""
    network: dict[str, Any] = {
        "backbone": "mobilenetv3_small",
        "width": 0.35,
        "resolution": 32,
        "stem_stride": 1,
    } | changes
    return Candidate(
        network=Network(family="mobilenet", classes=10, **network),
        recipe=Recipe(
            epochs=8, learning_rate=1e-3, weight_decay=0.01, teacher="resnet18", temperature=4, soft_weight=1.0
        ),
        compression=parse(compression),
    )


# --- designs ----------------------------------------------------------------------------------------------------------


def test_the_way_goes_from_plain_to_full_one_method_at_a_time() -> None:
    found = design(full_recipe(), _space())
    plain, *_, last = found.steps
    assert found.methods == METHODS and last == found.full and len(found.steps) == 6
    assert (
        plain.network.label == "mobilenetv1 @64" and plain.recipe.teacher is None and spell(plain.compression) == "fp16"
    )
    assert [spell(step.compression) for step in found.steps] == (
        ["fp16"] * 3 + ["palette-4/tensor"] + ["pruning-50+palette-4"] * 2
    )
    assert [step.network.resolution for step in found.steps] == [64] * 5 + [32]
    assert [step.network.stem_stride for step in found.steps] == [2] * 5 + [1]  # small inputs keep their detail
    assert [step.recipe.teacher for step in found.steps] == [None] * 2 + ["resnet18"] * 4
    assert {step.recipe.epochs for step in found.steps} == {8}


def test_each_is_left_out_alone() -> None:
    found = design(full_recipe(), _space())
    parts = {method: mixed(found.plain, found.full, [method]) for method in METHODS}
    for left_out, candidate in found.without.items():
        assert candidate != found.full and candidate == mixed(found.plain, found.full, set(METHODS) - {left_out})
    assert found.without["distillation"].recipe == found.plain.recipe
    assert found.without["architecture"].network.label == "mobilenetv1 @32 stem/1"
    assert found.without["quantization"].compression == parts["pruning"].compression == parse("pruning-50")
    assert found.without["pruning"].compression == parts["quantization"].compression == parse("palette-4")
    assert found.without["resolution"] == found.steps[-2]
    assert len(found.candidates) == 6 + 5 - 1


@pytest.mark.parametrize("changes", [{"resolution": 64, "stem_stride": 2}, {"backbone": "mobilenetv1", "width": 1.0}])
def test_what_does_not_differ_is_no_method(changes: dict[str, Any]) -> None:
    found = design(full_recipe("fp16", **changes), _space())
    gone = {"quantization", "pruning", "resolution" if "resolution" in changes else "architecture"}
    assert set(found.methods) == set(METHODS) - gone


def test_the_baseline_itself_is_refused() -> None:
    plain = baseline(full_recipe(), _space())
    with pytest.raises(UserError, match="plain baseline itself"):
        design(plain, _space())


def test_a_network_of_timm_keeps_its_form() -> None:
    recipe = full_recipe()
    full = recipe.model_copy(update={"network": Network(family="timm", backbone="resnet18", resolution=32, classes=10)})
    found = design(full, _space())
    assert "architecture" not in found.methods and found.plain.network.backbone == "resnet18"


def test_every_step_of_every_compression_is_one_that_core_ml_takes() -> None:
    for compression in every_compression():
        full = full_recipe().model_copy(update={"compression": compression})
        for candidate in design(full, _space()).candidates:
            check(candidate.compression)


def test_a_study_stands_for_all_that_it_offers() -> None:
    full = most_compressed(_space())
    assert full.network.label == "mobilenetv3_small×0.35 @32 stem/1" and full.recipe.teacher == "resnet18"
    assert full.recipe.epochs == 8 and spell(full.compression) == "pruning-50+palette-4"
    assert spell(most_compressed(_space(compression=["w8a8", "mixed-3", "palette-4/tensor"])).compression) == "mixed-3"
    closed = _space(distillation={"teachers": ["none"]}, compression=["fp16"])
    assert design(most_compressed(closed), closed).methods == ("architecture", "resolution")


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _ablation(value: Callable[[frozenset[Method], int], float], seeds: int = 3) -> Ablation:
    """An ablation whose sizes are a function of the methods and the seed."""
    found = design(full_recipe(), _space())
    applied = {step.digest: frozenset(METHODS[:count]) for count, step in enumerate(found.steps)}
    applied |= {candidate.digest: frozenset(METHODS) - {method} for method, candidate in found.without.items()}
    scores = {
        digest: {seed: {"size_bytes": exact(value(methods, seed), "B")} for seed in range(seeds)}
        for digest, methods in applied.items()
    }
    return Ablation(found, tuple(range(seeds)), scores)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_steps_add_up_to_the_whole_difference(seed: int, seeds: int) -> None:
    noise = np.random.default_rng(seed)
    drawn: dict[Any, float] = {}
    found = _ablation(lambda methods, at: drawn.setdefault((methods, at), float(noise.lognormal(12, 3))), seeds)
    whole = found.mean(found.design.full, SIZE).value - found.mean(found.design.plain, SIZE).value
    largest = max(map(abs, drawn.values()))
    assert math.fsum(shift.value for shift in found.steps(SIZE)) == pytest.approx(whole, abs=1e-12 * largest)


def test_methods_that_do_not_meet_give_the_same_last_as_in_their_turn() -> None:
    effects: dict[Method, float] = dict(zip(METHODS, (-5e5, 0.0, -2e5, -1e5, 3e4), strict=True))
    found = _ablation(lambda methods, seed: 1e6 + seed + sum(effects[m] for m in methods))
    for shifts in (found.steps(SIZE), found.last(SIZE)):
        assert [shift.value for shift in shifts] == pytest.approx(list(effects.values()))


def test_methods_that_overlap_give_less_at_the_end() -> None:
    """Each removes half of what is there."""
    found = _ablation(lambda methods, seed: 1e6 * 0.5 ** len(methods))
    assert [s.value for s in found.steps(SIZE)] == pytest.approx([-5e5, -2.5e5, -1.25e5, -6.25e4, -3.125e4])
    assert [s.value for s in found.last(SIZE)] == pytest.approx([-3.125e4] * 5)


def test_the_interval_is_student_s_over_paired_seeds() -> None:
    noise = np.random.default_rng(0)
    drawn: dict[Any, float] = {}
    found = _ablation(lambda methods, at: drawn.setdefault((methods, at), 1e6 + float(noise.normal(0, 1e4))), 5)
    way = found.design.steps
    for place, shift in enumerate(found.steps(SIZE)):
        before, after = (
            [found.scores[c.digest][s]["size_bytes"].value for s in range(5)] for c in way[place : place + 2]
        )
        expected = ttest_rel(after, before).confidence_interval(0.95)
        assert (shift.low, shift.high) == pytest.approx((expected.low, expected.high))


def test_a_level_is_none_that_cannot_be() -> None:
    found = _ablation(lambda methods, seed: 1.0 + 1e6 * seed, seeds=2)
    level = found.mean(found.design.plain, SIZE)
    assert level.low == 0 and level.high is not None and level.high > 1e6
    sizes = found.scores[found.design.plain.digest]
    for seed, top1 in ((0, 0.9), (1, 0.99)):
        sizes[seed]["top1"] = Reading(top1, "share", top1, top1, "measured")  # type: ignore[index]
    assert found.mean(found.design.plain, OBJECTIVES["accuracy"]).high == 1


def test_one_seed_has_no_interval_and_axes_that_some_package_lacks_are_left_out() -> None:
    found = _ablation(lambda methods, seed: 1e6, seeds=1)
    assert {(s.low, s.high) for s in found.steps(SIZE)} == {(None, None)} and found.axes == (SIZE,)


def test_forms_are_named() -> None:
    found: Design = design(full_recipe(), _space())
    assert [found.form(method) for method in found.methods] == [
        "mobilenetv3_small×0.35", "resnet18, T 4", "palette-4/tensor", "pruning-50", "64 → 32 px"
    ]  # fmt: skip
