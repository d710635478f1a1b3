"""Counting right answers: by hand, with published intervals, and against the network itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from coreml_pareto.objectives.accuracy import Correctness, evaluate, hits, readings, right_of, spell_right, wilson
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.spaces.errors import UserError


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys_and_contains_the_proportion(counts: tuple[int, int]) -> None:
    successes, n = counts
    low, high = wilson(successes, n)
    other = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((other.low, other.high), abs=1e-9)
    assert 0 <= low <= successes / n <= high <= 1


def test_wilson_refuses_what_is_no_proportion() -> None:
    for successes, n in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="successes"):
            wilson(successes, n)


def test_hits_by_hand() -> None:
    probabilities = np.array([[0.1, 0.6, 0.3], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2]])
    found = hits(probabilities, np.array([1, 0, 1]))
    assert found.top1.tolist() == [True, True, False]  # a tie goes to the lower index, as argmax does
    assert found.top5.all()


@given(st.integers(6, 20), st.integers(0, 10_000))
def test_hits_against_ranks(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities, targets = random.random((30, classes)), random.integers(0, classes, 30)
    better = (probabilities > probabilities[np.arange(30), targets][:, None]).sum(axis=1)
    found = hits(probabilities, targets)
    assert (found.top1 == (better == 0)).all()
    assert (found.top5 == (better < 5)).all()


def test_broken_probabilities_are_refused() -> None:
    with pytest.raises(UserError, match="NaN or inf"):
        hits(np.array([[np.nan, 1.0]]), np.array([0]))


def batches(images: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], n: int) -> Iterator[tuple[Any, Any]]:
    for start in range(0, len(images), n):
        yield images[start : start + n], targets[start : start + n]


@pytest.fixture(scope="module")
def answers(net: torch.nn.Module, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the torch network says, most probable class first."""
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return np.asarray(net(pixels).argsort(dim=1, descending=True))


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_a_package_is_right_where_the_network_is(packages: dict[str, Path], images, answers, batch: int) -> None:  # type: ignore[no-untyped-def]
    targets = answers[:, 0].copy()
    targets[::4] = answers[::4, 2]  # every fourth label is the third guess
    targets[1::8] = answers[1::8, 6]  # every eighth the last of seven
    result = evaluate(load(packages["fp16"]), batches(images, targets, batch), split="test")
    assert result.correctness.top1.sum() == 25
    assert (result.correctness.top1 == (targets == answers[:, 0])).all()
    assert result.correctness.top5.sum() == 35
    top1 = result.score["top1"]
    assert (top1.value, top1.how, top1.conditions["images"], top1.conditions["split"]) == (
        25 / 40,
        "measured",
        "40",
        "test",
    )
    assert (top1.low, top1.high) == wilson(25, 40)
    assert "note" not in result.score["top5"].conditions


def test_rounding_to_fp16_is_told(packages: dict[str, Path], images, answers) -> None:  # type: ignore[no-untyped-def]
    score = evaluate(load(packages["fp16"]), [(images, answers[:, 0])], round_fp16=True).score
    assert "fp16" in score["top1"].conditions["executor"]


def test_few_classes_are_told() -> None:
    from coreml_pareto.objectives.accuracy import readings

    found = hits(np.array([[0.2, 0.8]]), np.array([0]))
    assert "2 classes" in readings(found, 2, "validation", False)["top5"].conditions["note"]


@pytest.mark.parametrize("targets", [[7], [-1]])
def test_labels_outside_the_classes_are_refused(packages: dict[str, Path], images, targets: list[int]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="index the package's 7 classes"):
        evaluate(load(packages["fp16"]), [(images[:1], np.array(targets))])


def test_no_images_are_refused(packages: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="needs labelled images"):
        evaluate(load(packages["fp16"]), [])


@pytest.mark.parametrize("images", [1, 7, 8, 1000])
def test_a_top1_tells_which_images_were_right(images: int) -> None:
    right = np.random.default_rng(images).random(images) < 0.8
    found = readings(Correctness(right, np.ones(images, bool)), 10, "validation", False)
    back = right_of(Reading.from_dict(json.loads(json.dumps(found["top1"].to_dict()))))
    assert back is not None and back.dtype == bool and (back == right).all()
    assert right_of(found["top5"]) is None  # nothing is drawn from it
    assert right_of(Reading(0.5, "share", 0.4, 0.6, "measured", {"images": "10"})) is None


def test_ten_thousand_images_take_little_room() -> None:
    for share, most in ((0.99, 300), (0.95, 700), (0.6, 1600)):
        assert len(spell_right(np.random.default_rng(0).random(10_000) < share)) < most
