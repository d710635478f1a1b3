"""The distillation loss against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from torch import nn

from coreml_pareto.search.stages.loss import FeatureMatcher, Taps, as_map, feature_loss, hard_loss, soft_loss, weighted
from coreml_pareto.spaces.candidate import Network, Recipe
from coreml_pareto.spaces.families import build

RECIPE = Recipe(epochs=1, learning_rate=1e-3, weight_decay=0)
TAUGHT = RECIPE.model_copy(
    update={"teacher": "t", "temperature": 4.0, "hard_weight": 0.3, "soft_weight": 0.5, "feature_weight": 2.0}
)


def test_soft_loss_is_the_scaled_divergence_of_two_coins() -> None:
    """Two classes, T = 2: the teacher's softened odds are e^(2/2), the student's are even."""
    p = math.e / (math.e + 1)
    divergence = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    loss = soft_loss(torch.zeros(3, 2), torch.tensor([[2.0, 0.0]]).repeat(3, 1), temperature=2.0)
    assert float(loss) == pytest.approx(4 * divergence, rel=1e-6)


def test_the_gradient_of_soft_labels_keeps_its_size_as_the_temperature_grows() -> None:
    """Hinton et al. 2015, equations 3 and 4: for zero-mean logits it tends to (student - teacher) / classes."""
    student = torch.tensor([[0.3, -0.1, -0.2]], requires_grad=True)
    teacher = torch.tensor([[-0.4, 0.5, -0.1]])
    soft_loss(student, teacher, temperature=1000.0).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / 3, atol=1e-3, rtol=1e-2)


def test_equal_networks_teach_nothing() -> None:
    logits = torch.randn(5, 7)
    assert float(soft_loss(logits, logits, 3.0)) == pytest.approx(0, abs=1e-6)


def test_feature_loss_is_zero_for_equal_directions_and_two_for_orthogonal_ones() -> None:
    east = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    north = torch.tensor([0.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    assert float(feature_loss(east, 5 * east, nn.Identity())) == pytest.approx(0)
    assert float(feature_loss(east, north, nn.Identity())) == pytest.approx(2)


def test_weights_multiply_their_terms_and_zero_drops_one() -> None:
    terms = {"hard": torch.tensor(1.0), "soft": torch.tensor(10.0), "features": torch.tensor(100.0)}
    assert float(weighted(terms, TAUGHT)) == pytest.approx(0.3 + 5 + 200)
    assert float(weighted(terms, TAUGHT.model_copy(update={"feature_weight": 0.0}))) == pytest.approx(5.3)
    assert float(weighted({"hard": torch.tensor(1.0)}, RECIPE)) == 1.0


def test_hard_loss_of_even_odds() -> None:
    assert float(hard_loss(torch.zeros(4, 10), torch.arange(4), RECIPE)) == pytest.approx(math.log(10))


STUDENT = Network(family="mobilenet", backbone="mobilenetv3_small", width=0.35, resolution=64, classes=3)


def foreign(name: str, **knobs: Any) -> nn.Module:
    """A network of timm, made small."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=3, **knobs)
    return model.eval()


FOREIGN = {
    "tokens behind a class token": ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2, "embed_dim": 48}, {16: 48}),
    "tokens behind five others": ("vit_betwixt_patch16_reg4_gap_256", {"img_size": 64, "depth": 2}, {16: 640}),
    "tokens that a class token joins later": ("cait_xxs24_224", {"img_size": 64, "depth": 2}, {16: 192}),
    "channels last, transformer": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 64, "embed_dim": 16, "depths": (1, 1, 1), "num_heads": (1, 2, 4), "window_size": 4},
        {4: 16, 8: 32, 16: 64},
    ),
    "channels last, convolutions": ("mambaout_femto", {"depths": (1, 1, 1, 1)}, {4: 48, 8: 96, 16: 192, 32: 288}),
    "channels first": ("convnext_atto", {"depths": (1, 1, 1, 1)}, {4: 40, 8: 80, 16: 160, 32: 320}),
}
EACH = pytest.mark.parametrize(("name", "knobs", "channels"), FOREIGN.values(), ids=FOREIGN)


def test_taps_see_the_maps_that_feature_info_names() -> None:
    network = Network(family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=64, classes=3)
    module = build(network)
    taps = Taps(module, 64)
    assert module.training  # as it was
    module(torch.rand(2, 3, 64, 64))
    assert {stride: tuple(m.shape[:2]) for stride, m in taps.maps.items()} == {
        s: (2, c) for s, c in taps.channels.items()
    }


def test_looking_at_a_black_image_changes_nothing() -> None:
    module = build(STUDENT)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    Taps(module, 64)
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@EACH
def test_taps_see_what_timm_itself_makes_of_other_layouts(
    name: str, knobs: dict[str, Any], channels: dict[int, int]
) -> None:
    """timm's `forward_intermediates` is the second opinion: it knows each network's layout by its own code."""
    model, images = foreign(name, **knobs), torch.rand(2, 3, 64, 64)
    taps = Taps(model, 64)
    assert taps.channels == channels
    with torch.no_grad():
        model(images)
        untyped: Any = model
        maps = untyped.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)
    by_side = {tuple(found.shape): found for found in maps}  # the last one of each shape
    for found in taps.maps.values():
        torch.testing.assert_close(found, by_side[tuple(found.shape)])


@EACH
def test_any_layout_teaches(name: str, knobs: dict[str, Any], channels: dict[int, int]) -> None:
    student, teacher = build(STUDENT), foreign(name, **knobs)
    matcher = FeatureMatcher(student, teacher, (64, 64))
    assert matcher.strides == tuple(sorted(channels)[-2:])
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        teacher(images)
    student(images)
    loss = matcher()
    loss.backward()
    assert 0 < loss.item() <= 4
    for adapter in matcher.adapters.values():
        assert adapter.weight.grad is not None and adapter.weight.grad.abs().sum() > 0
    first = next(student.parameters())
    assert first.grad is not None and first.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("gmlp_ti16_224", 224),  # tokens, and no word of how many are none of the grid
        ("crossvit_tiny_240", 240),  # two maps in a list
        ("eva02_tiny_patch14_224", 224),  # a stride that no network of ours has
    ],
)
def test_what_is_no_map_is_not_compared(name: str, side: int) -> None:
    assert FeatureMatcher(build(STUDENT), foreign(name), (64, side)).strides == ()


def test_maps_are_what_the_network_states() -> None:
    first, last = torch.rand(2, 5, 4, 4), torch.rand(2, 4, 4, 5)
    stated = nn.Identity()
    assert as_map(first, stated, 5) is first
    assert as_map(last, stated, 5) is None and as_map([first], stated, 5) is None
    stated.output_fmt = "NHWC"  # type: ignore[assignment]
    assert torch.equal(as_map(last, stated, 5), last.permute(0, 3, 1, 2))  # type: ignore[arg-type]
    assert as_map(first, stated, 5) is None and as_map(torch.rand(2, 16, 5), stated, 5) is None
    stated.num_prefix_tokens = 1  # type: ignore[assignment]
    tokens = torch.arange(17.0).view(1, 17, 1).expand(2, 17, 5)
    assert as_map(tokens, stated, 5)[0, 0].tolist() == (1 + torch.arange(16.0)).view(4, 4).tolist()  # type: ignore[index]
    assert as_map(torch.rand(2, 16, 5), stated, 5).shape == (2, 5, 4, 4)  # type: ignore[union-attr]
    for count, channels in ((12, 5), (17, 6)):  # no square, other channels
        assert as_map(torch.rand(2, count, 5), stated, channels) is None


def test_adapters_match_any_two_families_and_learn() -> None:
    student = build(Network(family="mobilenet", backbone="mobilenetv2", width=0.35, resolution=64, classes=3))
    teacher = build(Network(family="squeezenet", backbone="squeezenet1_1", width=0.5, resolution=64, classes=3)).eval()
    matcher = FeatureMatcher(student, teacher, (64, 64))
    assert matcher.strides == (8, 16)
    images = torch.rand(2, 3, 64, 64)
    student(images), teacher(images)
    loss = matcher()
    loss.backward()
    assert 0 < loss.item() <= 4
    assert all(adapter.weight.grad is not None for adapter in matcher.adapters.values())


def test_maps_of_autocast_are_compared_in_single_precision() -> None:
    """As trainings on CUDA do: the student under autocast, the adapters and the teacher outside."""
    student = build(STUDENT)
    teacher = build(Network(family="squeezenet", backbone="squeezenet1_1", width=0.5, resolution=64, classes=3)).eval()
    matcher = FeatureMatcher(student, teacher, (64, 64))
    images = torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        student(images)
    assert {found.dtype for found in matcher._student.maps.values()} == {torch.bfloat16}
    with torch.no_grad():
        teacher(images)
    loss = matcher()
    loss.backward()
    assert loss.dtype == torch.float32 and 0 < loss.item() <= 4
    assert all(adapter.weight.grad is not None for adapter in matcher.adapters.values())
