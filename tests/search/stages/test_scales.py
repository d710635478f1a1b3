"""Scales behind a weight, and what standardises it, end up in the weight; the network computes what it did."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.layers.layer_scale import LayerScale, LayerScale2d
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.models.convnext import ConvNeXtBlock
from torch import nn

from coreml_pareto.search.stages.folding import fold_batch_norm
from coreml_pareto.search.stages.scales import fold_scales
from coreml_pareto.spaces.candidate import Network

STANDARDISED = (ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame)
SCALES = (LayerScale, LayerScale2d)


def drawn(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1, 1)
    return module.eval()


def images(side: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("backbone", ["convnext_atto", "nf_resnet26", "deit3_small_patch16_224"])
def test_networks(packages: Any, backbone: str) -> None:
    module = packages.randomised(Network(family="timm", backbone=backbone, resolution=32, classes=10))
    before = copy.deepcopy(module.state_dict())
    folded = fold_scales(fold_batch_norm(module, images(32)), images(32))
    scaled = [part for part in module.modules() if isinstance(part, (*STANDARDISED, *SCALES, ConvNeXtBlock))]
    left = [part for part in folded.modules() if isinstance(part, (*STANDARDISED, *SCALES))]
    assert scaled and not left
    assert all(part.gamma is None for part in folded.modules() if isinstance(part, ConvNeXtBlock))
    with torch.no_grad():
        assert packages.errors(folded(images(32, 3)), module(images(32, 3))).max() < 2e-3
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("kind", STANDARDISED)
@pytest.mark.parametrize(("side", "stride"), [(8, 1), (9, 2), (10, 2)])
def test_a_standardised_weight_in_closed_form(kind: type[nn.Conv2d], side: int, stride: int) -> None:
    conv = drawn(kind(3, 4, 3, stride=stride, bias=True))
    folded = fold_scales(nn.Sequential(conv), images(side))
    (plain,) = (part for part in folded.modules() if isinstance(part, nn.Conv2d))
    rows = conv.weight.detach().reshape(4, -1)
    expected = (rows - rows.mean(1, keepdim=True)) / (rows.var(1, correction=0, keepdim=True) + conv.eps).sqrt()
    if hasattr(conv, "gain"):
        expected = expected * conv.gain.detach().reshape(-1, 1) / 27**0.5
    torch.testing.assert_close(plain.weight.detach(), expected.reshape(4, 3, 3, 3))
    assert type(plain) is nn.Conv2d
    with torch.no_grad():
        torch.testing.assert_close(folded(images(side, 3)), conv(images(side, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_scale_multiplies_rows_and_bias(bias: bool) -> None:
    linear, scale = nn.Linear(6, 5, bias=bias), LayerScale(5)
    module = drawn(nn.Sequential(nn.Flatten(), nn.Linear(48, 6), linear, scale))
    folded = fold_scales(module, images(4))
    torch.testing.assert_close(folded[2].weight.detach(), torch.diag(scale.gamma.detach()) @ linear.weight.detach())
    if bias:
        torch.testing.assert_close(folded[2].bias.detach(), scale.gamma.detach() * linear.bias.detach())
    torch.testing.assert_close(folded[1].weight, module[1].weight)


class Shared(nn.Module):
    """What the scale reads is read by something else as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 3, 1), LayerScale2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.scale(y) + y


def test_a_fold_that_changes_the_network_is_refused() -> None:
    with pytest.raises(RuntimeError, match="Folding scales changes what Shared computes"):
        fold_scales(drawn(Shared()), images(4))
