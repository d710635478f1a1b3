"""The knobs of distillation: legal values only, each once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from pydantic import ValidationError

from coreml_pareto.spaces.distillation import NONE, DistillationSpace, is_checkpoint

KNOBS = ("teachers", "temperature", "hard_weight", "soft_weight", "feature_weight")


def test_no_distillation_is_the_default_and_the_playbook_the_rest() -> None:
    space = DistillationSpace()
    assert space.teachers == (NONE,)
    assert all(3 <= value <= 5 for value in space.temperature)


@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_needs_a_value(knob: str) -> None:
    with pytest.raises(ValidationError, match=f"{knob}\n.*at least 1 item"):
        DistillationSpace.model_validate({knob: []})


@pytest.mark.parametrize("value", [0.99, 10.01, -1])
def test_temperatures_outside_1_to_10_are_refused(value: float) -> None:
    with pytest.raises(ValidationError, match=r"temperature\.1\n.* than or equal to 1"):
        DistillationSpace.model_validate({"temperature": [4.0, value]})
    assert DistillationSpace(temperature=(1, 10)).temperature == (1.0, 10.0)


@pytest.mark.parametrize(
    "teacher", ["./mine", "runs/a/store/train/0f", "..", "~", "~/mine", "/mine", "C:\\mine", "mine/"]
)
def test_a_path_is_a_checkpoint(teacher: str) -> None:
    assert is_checkpoint(teacher)


def test_a_folder_never_turns_a_name_into_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("resnet18", NONE, "mobilenetv2_100.ra_in1k"):
        (tmp_path / name).mkdir()
        assert not is_checkpoint(name)


@pytest.mark.parametrize("knob", ["hard_weight", "soft_weight", "feature_weight"])
def test_negative_weights_are_refused(knob: str) -> None:
    with pytest.raises(ValidationError, match=f"{knob}.1\n.*greater than or equal to 0"):
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


@pytest.mark.parametrize("knob", KNOBS[1:])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), True])
def test_what_is_no_finite_number_is_refused(knob: str, value: float) -> None:
    with pytest.raises(ValidationError, match=knob):
        DistillationSpace.model_validate({knob: value})


@pytest.mark.parametrize(("knob", "value"), [("teachers", "resnet18"), *((knob, 4.0) for knob in KNOBS[1:])])
def test_a_lone_value_is_a_list_of_one(knob: str, value: object) -> None:
    assert getattr(DistillationSpace.model_validate({knob: value}), knob) == (value,)


@pytest.mark.parametrize(("hard", "soft", "feature"), [*itertools.product([(0,), (0, 1), (1,)], repeat=3)])
def test_a_loss_of_nothing_is_refused_exactly_where_it_can_happen(
    hard: tuple[float, ...], soft: tuple[float, ...], feature: tuple[float, ...]
) -> None:
    weights = {"hard_weight": hard, "soft_weight": soft, "feature_weight": feature}
    if any(sum(loss) == 0 for loss in itertools.product(hard, soft, feature)):
        with pytest.raises(ValidationError, match="teaches nothing"):
            DistillationSpace.model_validate(weights)
    else:
        assert DistillationSpace.model_validate(weights).hard_weight == hard
