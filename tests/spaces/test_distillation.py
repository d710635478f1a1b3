"""The knobs of distillation: legal values only, each once."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from coreml_pareto.spaces.distillation import NONE, DistillationSpace

KNOBS = ("teachers", "temperature", "hard_weight", "soft_weight", "feature_weight")


def test_no_distillation_is_the_default_and_the_playbook_the_rest() -> None:
    space = DistillationSpace()
    assert space.teachers == (NONE,)
    assert all(3 <= value <= 5 for value in space.temperature)


@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_needs_a_value(knob: str) -> None:
    with pytest.raises(ValidationError, match="at least one value"):
        DistillationSpace.model_validate({knob: []})


@pytest.mark.parametrize("value", [0.99, 10.01, -1])
def test_temperatures_outside_1_to_10_are_refused(value: float) -> None:
    with pytest.raises(ValidationError, match=r"between 1 and 10 .*got \[4.0, "):
        DistillationSpace.model_validate({"temperature": [4.0, value]})
    assert DistillationSpace(temperature=(1, 10)).temperature == (1.0, 10.0)


@pytest.mark.parametrize("knob", ["hard_weight", "soft_weight", "feature_weight"])
def test_negative_weights_are_refused(knob: str) -> None:
    with pytest.raises(ValidationError, match="not negative"):
        DistillationSpace.model_validate({knob: [0.5, -0.1]})


@pytest.mark.parametrize(
    "bad", [{"teacher_width": 0}, {"teacher_resolution": 16}, {"teacher_epochs": 0}, {"colour": 1}]
)
def test_illegal_teachers_and_unknown_keys_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bad))):
        DistillationSpace.model_validate(bad)


def test_repeated_values_count_once_and_keep_their_order() -> None:
    space = DistillationSpace(teachers=("b", NONE, "b"), temperature=(5, 3, 5))
    assert (space.teachers, space.temperature) == (("b", NONE), (5.0, 3.0))
