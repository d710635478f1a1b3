"""Weights handed on: element by element for every pair of widths and input sizes, and what it is good for."""

from __future__ import annotations

import itertools

import pytest
import torch

from coreml_pareto.search.stages.inherit import inherit
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.families import build, family_of

BACKBONES = ("mobilenetv2", "mobilenetv3_small", "efficientnet_lite0", "squeezenet1_1", "resnet10t")


def network(backbone: str, width: float = 1.0, resolution: int = 32) -> Network:
    family = family_of(backbone)
    return Network(family=family, backbone=backbone, width=width, resolution=resolution, classes=10)


@pytest.mark.parametrize("backbone", BACKBONES[:-1])
@pytest.mark.parametrize(("own", "given"), [(0.35, 0.5), (0.5, 0.35), (0.5, 0.5)])
def test_every_element_that_both_have_is_the_parents_and_all_others_are_kept(
    backbone: str, own: float, given: float
) -> None:
    child, parent = build(network(backbone, own)), build(network(backbone, given)).state_dict()
    drawn = {name: tensor.clone() for name, tensor in child.state_dict().items()}
    share = inherit(child, parent)
    taken = 0
    for name, tensor in child.state_dict().items():
        mask = torch.zeros(tensor.shape, dtype=torch.bool)
        mask[tuple(slice(0, side) for side in parent[name].shape)] = True
        padded = drawn[name].clone()
        part = tuple(slice(0, min(pair)) for pair in zip(tensor.shape, parent[name].shape, strict=True))
        padded[part] = parent[name][part]
        assert torch.equal(tensor, torch.where(mask, padded, drawn[name])), name
        taken += int(mask.sum())
    assert share == pytest.approx(taken / sum(t.numel() for t in drawn.values()))
    assert share == 1.0 if given >= own else 0.2 < share < 1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_same_network_at_another_input_size_computes_the_same(backbone: str) -> None:
    torch.manual_seed(0)
    parent = build(network(backbone, resolution=64)).eval()
    child = build(network(backbone, resolution=32))
    assert inherit(child, parent.state_dict()) == 1.0
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(child.eval()(images), parent(images))


def test_what_the_parent_lacks_or_has_otherwise_is_kept() -> None:
    child = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    before = [p.clone() for p in child.parameters()]
    assert inherit(child, {"0.weight": torch.ones(2), "9.bias": torch.ones(2)}) == 0.0
    assert all(torch.equal(a, b) for a, b in itertools.zip_longest(child.parameters(), before))
