"""Whose weights a network begins with: the order of preference, row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coreml_pareto.search.lineage import parent_of
from coreml_pareto.search.outcome import Failed, Infeasible, Pruned, Scored
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.compression import parse


@pytest.fixture
def trained(result_at: Callable[..., Result]) -> Callable[..., Result]:
    """trained(3, 0.9, width=0.5): a scored trial, its training's key `key-3`, its network and recipe changed so."""

    def make(number: int, top1: float, parent: str | None = None, epochs: int = 12, **network: Any) -> Result:
        plain = result_at(0, (top1, 1.0, 1e5, 1e6, 1.0))
        changed = {"backbone": "mobilenetv2", "width": 0.5, "resolution": 48} | network
        candidate = plain.candidate.model_copy(
            update={
                "network": plain.candidate.network.model_copy(update=changed),
                "recipe": plain.candidate.recipe.model_copy(update={"epochs": epochs}),
            }
        )
        assert isinstance(plain.outcome, Scored)
        outcome = replace(plain.outcome, provenance={"training": f"key-{number}"})
        return Result(number, candidate, outcome, parent=parent)

    return make


def _child(trained: Callable[..., Result], **network: Any) -> Candidate:
    return trained(99, 0.5, **network).candidate


def test_nothing_related_gives_nothing(trained: Callable[..., Result]) -> None:
    others = [trained(0, 0.9, backbone="mobilenetv3_small"), trained(1, 0.9, depth=1.2)]
    assert parent_of(_child(trained), others) is None
    assert parent_of(_child(trained), []) is None
    for outcome in (Failed("training", "nan"), Infeasible(("size",), {}), Pruned("no", {})):
        assert parent_of(_child(trained), [replace(trained(0, 0.9, width=0.75), outcome=outcome)]) is None


def test_the_same_network_goes_before_its_width_and_wider_before_narrower(trained: Callable[..., Result]) -> None:
    """The most accurate comes last everywhere: nearness counts first."""
    order = [
        trained(0, 0.80, epochs=4), trained(1, 0.81, resolution=64), trained(2, 0.82, resolution=96),
        trained(3, 0.83, width=0.75), trained(4, 0.84, width=1.0), trained(5, 0.85, width=0.35), trained(6, 0.9, width=0.2),
    ]  # fmt: skip
    child = _child(trained)
    for first in range(len(order)):
        assert parent_of(child, reversed(order[first:])) == f"key-{first}"


def test_of_equals_the_most_accurate_gives_its_weights(trained: Callable[..., Result]) -> None:
    equals = [trained(0, 0.8, epochs=4), trained(1, 0.9, epochs=5), trained(2, 0.85, epochs=6)]
    assert parent_of(_child(trained), equals) == "key-1"


@pytest.mark.parametrize("parent", [None, "key-of-old"])
def test_another_compression_is_the_same_training_whatever_was_trained_since(
    parent: str | None, trained: Callable[..., Result]
) -> None:
    first = trained(0, 0.8, parent)
    smaller = first.candidate.model_copy(update={"compression": parse("palette-4/tensor")})
    assert parent_of(smaller, [first, trained(1, 0.9, epochs=4)]) == parent
    stopped = replace(first, outcome=Pruned("too slow", {}, (0.1, 0.2)))
    assert parent_of(first.candidate, [stopped, trained(1, 0.9, epochs=4)]) == parent
