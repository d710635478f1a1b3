"""Plans that fit their time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import pytest

from coreml_pareto.search import budget
from coreml_pareto.search.budget import PowerLaw
from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.spaces.candidate import Network


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load_data("digits")


def _plan(timeout: str | None) -> Plan:
    search = {"timeout": timeout} if timeout else {"trials": 3}
    return load_plan(
        None, {"data": "digits", "networks": {"backbones": ["mobilenetv2", "squeezenet1_1"]}, "search": search}
    )


def _laws(seconds_at_64: float) -> dict[str, PowerLaw]:
    law = PowerLaw(seconds_at_64 / 32**2, 1.0)
    return {"mobilenetv2": law, "squeezenet1_1": law}


def test_sizes_of_the_input_follow_the_pictures(data: DataSet) -> None:
    assert budget.resolve(_plan(None), data, print).networks.resolution == (32, 48, 64)
    photographs = dataclasses.replace(data, native_resolution=500)
    assert budget.resolve(_plan(None), photographs, print).networks.resolution == (96, 128, 160, 192, 224)


def test_without_a_timeout_epochs_have_a_default(data: DataSet) -> None:
    assert budget.resolve(_plan(None), data, print).training.epochs == (budget.DEFAULT_EPOCHS,)


@pytest.mark.parametrize("seconds_at_64", [1e-5, 1e-3, 1e-2, 1e-1])
@pytest.mark.parametrize("timeout", ["5m", "30m", "8h"])
def test_at_least_four_networks_fit_and_the_first_within_a_fifth(
    seconds_at_64: float, timeout: str, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_measure", lambda *_: _laws(seconds_at_64))
    said: list[str] = []
    plan = budget.resolve(_plan(timeout), data, said.append)
    assert plan.search.seconds is not None
    images, space = plan.training.images or len(data.train), plan.space(10)
    laws = _laws(seconds_at_64)
    costs = sorted(laws[n.backbone].seconds(n) * space.epochs_of(n.backbone)[0] * images for n in space.networks())
    assert 4 * costs[len(costs) // 2] <= plan.search.seconds
    assert costs[0] <= plan.search.seconds / 5
    assert any(line.startswith("Planned for the timeout") for line in said)


@pytest.mark.parametrize(("seconds", "epochs"), [(1e-4, 40), (2e-3, None), (1.0, 0)])
def test_teachers_have_their_share_of_the_time(
    seconds: float, epochs: int | None, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All teachers together take at most twice their share; one that cannot is left out and said."""
    asked = _plan("10m").model_dump() | {"distillation": {"teachers": ["none", "mobilenetv3_large"]}}
    monkeypatch.setattr(budget, "_measure", lambda *_: _laws(1e-4))
    monkeypatch.setattr(budget, "_seconds_per_image", lambda *_: seconds)
    said: list[str] = []
    plan = budget.resolve(Plan.model_validate(asked), data, said.append)
    if epochs == 0:
        assert plan.distillation.teachers == ("none",)
        assert "Too slow for this timeout, left out of teachers: mobilenetv3_large." in said
        return
    own = plan.distillation.teacher_epochs
    assert own is not None and (epochs is None or own == epochs)
    assert own * seconds * len(data.train) <= 2 * budget.TEACHER_SHARE * 600
    assert any(line.startswith(f"Teachers: {own} epochs") for line in said)


def test_an_upper_bound_of_images_is_kept(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_measure", lambda *_: _laws(5e-2))
    asked = _plan("10m").model_dump() | {"training": {"images": 100}}
    plan = budget.resolve(Plan.model_validate(asked), data, print)
    assert plan.training.images is not None and plan.training.images <= 100


def test_what_is_too_slow_is_left_out_and_said(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_measure", lambda *_: _laws(5e-2))
    said: list[str] = []
    plan = budget.resolve(_plan("10m"), data, said.append)
    assert len(plan.space(10).resolution) < 3 or len(plan.networks.width) < 4
    assert any(line.startswith("Too slow for this timeout") for line in said)


def test_a_fast_backbone_gets_more_epochs(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = PowerLaw(1.8e-5, 1.0), PowerLaw(6e-6, 1.0)
    monkeypatch.setattr(budget, "_measure", lambda *_: {"mobilenetv2": slow, "squeezenet1_1": fast})
    plan = budget.resolve(_plan("10m"), data, print)
    epochs = plan.training.epochs
    assert isinstance(epochs, Mapping)
    assert budget.MOST_EPOCHS > epochs["squeezenet1_1"] == pytest.approx(3 * epochs["mobilenetv2"], abs=3)


def test_a_slow_backbone_goes_before_the_sizes_of_all(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its family keeps another; the family's last one stays and the slow sizes go."""
    plan = load_plan(
        None,
        {
            "networks": {
                "backbones": ["efficientnet_b0", "efficientnet_lite0", "squeezenet1_1"],
                "resolution": [32, 64],
            },
            "search": {"timeout": "10m"},
        },
    )
    laws = {"efficientnet_b0": PowerLaw(1.0, 1.0), "efficientnet_lite0": PowerLaw(1e-6, 1.0)}
    monkeypatch.setattr(budget, "_measure", lambda *_: laws | {"squeezenet1_1": PowerLaw(1e-6, 1.0)})
    trimmed = budget.resolve(plan, data, print)
    assert trimmed.networks.backbones == ("efficientnet_lite0", "squeezenet1_1")
    assert (trimmed.networks.width, trimmed.networks.resolution) == (plan.networks.width, (32, 64))
    laws["efficientnet_lite0"] = PowerLaw(1e-4, 1.0)
    monkeypatch.setattr(budget, "_measure", lambda *_: laws | {"squeezenet1_1": PowerLaw(1e-6, 1.0)})
    trimmed = budget.resolve(plan, data, print)
    assert trimmed.networks.backbones == ("efficientnet_lite0", "squeezenet1_1")
    assert len(trimmed.networks.width) < len(plan.networks.width)


def test_a_measured_law_is_positive_and_grows(data: DataSet) -> None:
    space = _plan(None).space(10)
    small = dataclasses.replace(space, backbones=("squeezenet1_1",), width=(0.25,), resolution=(32, 64))
    law = budget._measure(small, 8, budget.pick_device("cpu"))["squeezenet1_1"]
    low, high = (
        Network(family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=side, stem_stride=2, classes=10)
        for side in (32, 64)
    )
    assert 0 < law.seconds(low) < law.seconds(high)
    assert math.isfinite(law.seconds(high))
