"""Plans that fit their time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import pytest
import torch

from coreml_pareto.search import budget
from coreml_pareto.search.budget import Allowance, PowerLaw
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


def _laws(seconds_at_64: float, faster: float = 1.0) -> dict[str, PowerLaw]:
    """The law of MobileNetV2, and SqueezeNet's, which is so many times faster."""
    scale = seconds_at_64 / 32**2
    return {"mobilenetv2": PowerLaw(scale, 1.0), "squeezenet1_1": PowerLaw(scale / faster, 1.0)}


def test_sizes_of_the_input_follow_the_pictures(data: DataSet) -> None:
    assert budget.resolve(_plan(None), data, print).networks.resolution == (32, 48, 64)
    photographs = dataclasses.replace(data, native_resolution=500)
    assert budget.resolve(_plan(None), photographs, print).networks.resolution == (96, 128, 160, 192, 224)


def test_without_a_timeout_epochs_have_a_default(data: DataSet) -> None:
    assert budget.resolve(_plan(None), data, print).training.epochs == (budget.DEFAULT_EPOCHS,)


@pytest.mark.parametrize("faster", [0.2, 1.0, 30.0])
@pytest.mark.parametrize("seconds_at_64", [1e-5, 1e-3, 1e-2, 1e-1])
@pytest.mark.parametrize(("timeout", "spent"), [("5m", 0), ("5m", 30), ("30m", 0), ("30m", 200), ("8h", 1000)])
def test_at_least_four_networks_fit_and_the_first_within_a_fifth(
    faster: float, seconds_at_64: float, timeout: str, spent: float, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading and measuring count; the first is the baseline that the search asks first."""
    laws, said = _laws(seconds_at_64, faster), list[str]()
    monkeypatch.setattr(budget, "_measure", lambda *_: laws)
    plan = budget.resolve(_plan(timeout), data, said.append, lambda: spent)
    assert plan.search.seconds is not None
    images, space = plan.training.images or len(data.train), plan.space(10)

    def cost(network: Network) -> float:
        return laws[network.backbone].seconds(network) * space.epochs_of(network.backbone)[0] * images

    costs = sorted(map(cost, space.networks()))
    assert spent + 4 * costs[len(costs) // 2] <= plan.search.seconds
    first, *others = budget.baselines(space)
    assert spent + cost(first) <= plan.search.seconds / 6  # the rest of the fifth is for its conversion
    assert all(cost(first) <= cost(other) for other in others)
    assert any(line.startswith("Planned for the timeout") for line in said)


def test_baselines_are_asked_in_the_order_of_the_measured_laws(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal sizes; only the clock knows who is fast, between families and within one."""
    names = ["efficientnet_b0", "efficientnet_lite0", "mobilenetv2", "squeezenet1_1"]
    asked = {"networks": {"backbones": names, "width": [0.5], "resolution": [64]}, "search": {"timeout": "10m"}}
    laws = {name: PowerLaw(scale, 1.0) for name, scale in zip(names, (9e-5, 4e-5, 8e-5, 6e-5), strict=True)}
    monkeypatch.setattr(budget, "_measure", lambda *_: laws)
    monkeypatch.setattr(budget, "_lengths", lambda costs, *_: dict.fromkeys(costs, 4))
    plan = budget.resolve(load_plan(None, asked), data, print)
    found = [network.backbone for network in budget.baselines(plan.space(10))]
    assert found == ["efficientnet_lite0", "squeezenet1_1", "mobilenetv2"]


def test_without_laws_the_smallest_baseline_is_asked_first(data: DataSet) -> None:
    names = ["resnet18", "squeezenet1_1", "mobilenetv2"]  # timm's networks have width 1
    asked = {"networks": {"backbones": names, "width": [0.5], "resolution": [64]}, "training": {"epochs": [2]}}
    plan = budget.resolve(load_plan(None, asked), data, print)
    found = [network.backbone for network in budget.baselines(plan.space(10))]
    assert found == ["squeezenet1_1", "mobilenetv2", "resnet18"]
    asked["training"] = {"epochs": {"resnet18": 1, "squeezenet1_1": 12, "mobilenetv2": 12}}
    plan = budget.resolve(load_plan(None, asked), data, print)
    assert budget.baselines(plan.space(10))[0].backbone == "resnet18"


def test_time_that_is_gone_is_not_planned(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds are asked after measuring; where reading took them all, the least plan is made."""
    clock = [100.0]

    def measure(*_: object) -> dict[str, PowerLaw]:
        clock[0] += 200.0
        return _laws(1e-3)

    monkeypatch.setattr(budget, "_measure", measure)
    planned = budget.resolve(_plan("10m"), data, print, lambda: clock[0])
    monkeypatch.setattr(budget, "_measure", lambda *_: _laws(1e-3))
    assert planned.training == budget.resolve(_plan("10m"), data, print, lambda: 300.0).training
    assert planned.training != budget.resolve(_plan("10m"), data, print).training
    assert Allowance.of(_plan("10m"), 600.0, 9000.0) == Allowance(left=60.0, each=9.0, first=3.0)
    late = budget.resolve(_plan("10m"), data, print, lambda: 9000.0)
    assert late.training == budget.resolve(_plan("10m"), data, print, lambda: 540.0).training


@pytest.mark.parametrize(("seconds", "epochs"), [(1e-4, 40), (2e-3, None), (1.0, 0)])
def test_teachers_have_their_share_of_the_time(
    seconds: float, epochs: int | None, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All teachers together take at most twice their share; one that cannot is left out and said."""
    asked = _plan("10m").model_dump() | {"distillation": {"teachers": ["none", "mobilenetv3_large"]}}
    monkeypatch.setattr(budget, "_measure", lambda *_: _laws(1e-4))
    monkeypatch.setattr(budget, "_seconds_per_image", lambda *_: seconds)
    said: list[str] = []
    paces = budget.Paces()
    plan = budget.resolve(Plan.model_validate(asked), data, said.append, paces=paces)
    assert paces.backbones == _laws(1e-4)
    if epochs == 0:
        assert plan.distillation.teachers == ("none",)
        assert "Too slow for this timeout, left out of teachers: mobilenetv3_large." in said
        return
    own = plan.distillation.teacher_epochs
    assert paces.teachers == {"mobilenetv3_large": seconds}
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


@pytest.mark.parametrize(
    ("asked", "packages", "mean"),
    [((0, 4), 2, 2), ((0, 4), "auto", 2), ((1, 3), 2, 3), ((3,), 2, 6), ((1,), "auto", 5)],
)
def test_fine_tuning_comes_out_of_the_epochs(
    asked: tuple[int, ...], packages: int | str, mean: int, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One package of a training as the sampler draws, the further ones (five compressions in all) the least."""
    monkeypatch.setattr(budget, "_measure", lambda *_: _laws(1e-2))
    plain = _plan("30m")
    tuned = plain.model_copy(update={"training": plain.training.model_copy(update={"fine_tune_epochs": asked})})
    search = plain.search.model_copy(update={"packages_per_training": packages})
    assert len(plain.compression) == 5
    tuned = tuned.model_copy(update={"search": search})
    before, after = (budget.resolve(plan, data, print).training.epochs for plan in (plain, tuned))
    assert isinstance(before, Mapping) and isinstance(after, Mapping)
    assert max(before.values()) < budget.MOST_EPOCHS
    assert after == {name: max(budget.LEAST_EPOCHS, epochs - mean) for name, epochs in before.items()}


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
    assert trimmed.networks.backbones == ("squeezenet1_1", "efficientnet_lite0")
    assert len(trimmed.networks.width) < len(plan.networks.width)


def _squeezenets(**keys: object) -> Plan:
    networks = {"backbones": ["squeezenet1_1"], "width": [0.25], "resolution": [32, 64]}
    return load_plan(None, {"networks": networks, "training": {"device": "cpu", "batch_size": 8}, **keys})


def test_a_measured_law_is_positive_and_grows(data: DataSet) -> None:
    plan = _squeezenets()
    law = budget._measure(plan, data, Allowance(600.0, 60.0, 60.0))["squeezenet1_1"]
    low, high = sorted(plan.space(10).networks(), key=lambda network: network.resolution)
    low = low.model_copy(update={"stem_stride": 2})
    assert 0 < law.seconds(low) < law.seconds(high)
    assert math.isfinite(law.seconds(high))


def test_the_large_end_is_timed_only_where_the_small_one_has_time(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = {"backbones": ["mobilenetv2", "squeezenet1_1"], "width": [0.5, 1.0], "resolution": [64, 224]}
    plan, timed = load_plan(None, {"networks": networks}), list[tuple[str, int]]()

    def seconds(network: Network, *_: object) -> float:
        timed.append((network.backbone, network.resolution))
        return budget.size(network) * (1e-6 if network.backbone == "squeezenet1_1" else 1e-3)

    monkeypatch.setattr(budget, "_seconds_per_image", seconds)
    laws = budget._measure(plan, data, Allowance(600.0, 60.0, 60.0))
    assert timed == [("mobilenetv2", 64), ("squeezenet1_1", 64), ("squeezenet1_1", 224)]
    for network in plan.space(10).networks():
        assert laws[network.backbone].seconds(network) == pytest.approx(seconds(network))


@pytest.mark.parametrize(
    ("resolution", "stride", "images"), [(32, 1, 64), (64, 2, 64), (64, 1, 16), (128, 2, 16), (224, 2, 5), (384, 2, 2)]
)
def test_a_timed_step_has_few_images_where_they_are_large(
    resolution: int, stride: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stem's stride of 1 makes every feature map four times as large."""
    seen: list[int] = []

    class Watcher(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(10))

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            seen.append(len(pictures))
            return self.weight.expand(len(pictures), 10)

    monkeypatch.setattr(budget, "build", lambda _: Watcher())
    network = Network(
        family="mobilenet", backbone="mobilenetv2", resolution=resolution, stem_stride=stride, classes=10
    )  # fmt: skip
    assert budget._seconds_per_image(network, 256, torch.device("cpu")) > 0
    assert set(seen) == {images}
