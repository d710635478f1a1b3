"""The distillation loss against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from coreml_pareto.search.stages.loss import FeatureMatcher, Taps, feature_loss, hard_loss, soft_loss, weighted
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


def test_taps_see_the_maps_that_feature_info_names() -> None:
    network = Network(family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=64, classes=3)
    module = build(network)
    taps = Taps(module)
    module(torch.rand(2, 3, 64, 64))
    assert {stride: tuple(m.shape[1:2]) for stride, m in taps.maps.items()} == {
        s: (c,) for s, c in taps.channels.items()
    }


def test_adapters_match_any_two_families_and_learn() -> None:
    student = build(Network(family="mobilenet", backbone="mobilenetv2", width=0.35, resolution=64, classes=3))
    teacher = build(Network(family="squeezenet", backbone="squeezenet1_1", width=0.5, resolution=64, classes=3)).eval()
    matcher = FeatureMatcher(student, teacher)
    assert matcher.strides == (8, 16)
    images = torch.rand(2, 3, 64, 64)
    student(images), teacher(images)
    loss = matcher()
    loss.backward()
    assert 0 < loss.item() <= 4
    assert all(adapter.weight.grad is not None for adapter in matcher.adapters.values())
