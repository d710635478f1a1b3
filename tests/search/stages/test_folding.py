"""Folding: nothing is left of the norms, and the network computes what it did."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from coreml_pareto.search.stages.folding import fold_batch_norm
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.families import family_of

BACKBONES = [
    ("mobilenetv1", 0.5, 2),
    ("mobilenetv2", 0.35, 1),
    ("mobilenetv3_small", 0.5, 2),
    ("mobilenetv3_large", 0.35, 2),
    ("mobilenetv4_conv_small", 0.5, 2),
    ("efficientnet_b0", 0.35, 1),
    ("efficientnet_lite0", 0.35, 2),
    ("efficientnetv2_b0", 0.35, 2),
    ("squeezenet1_0", 0.5, 2),
    ("squeezenet1_1", 0.5, 1),
]


@pytest.mark.parametrize("side", [32, 45])
@pytest.mark.parametrize(("backbone", "width", "stem"), BACKBONES)
def test_families(packages: Any, backbone: str, width: float, stem: Any, side: int) -> None:
    network = Network(
        family=family_of(backbone), backbone=backbone, width=width, resolution=side, stem_stride=stem, classes=10
    )
    module = packages.randomised(network)
    before = copy.deepcopy(module.state_dict())
    example = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    folded = fold_batch_norm(module, example)
    assert not any(isinstance(part, (nn.BatchNorm2d, Conv2dSame)) for part in folded.modules())
    assert not folded.training
    torch.fx.symbolic_trace(folded)
    other = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert packages.errors(folded(other), module(other)).max() < 2e-3
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_a_norm_without_convolution_stays_as_a_plain_one() -> None:
    torch.manual_seed(0)
    norm = BatchNormAct2d(3)
    norm.running_mean.uniform_(-1, 1)
    module = nn.Sequential(norm, nn.Conv2d(3, 4, 1), nn.Dropout(0.5)).eval()
    x = torch.randn(2, 3, 4, 4)
    folded = fold_batch_norm(module, x)
    assert [type(part) for part in folded.modules() if isinstance(part, nn.BatchNorm2d)] == [nn.BatchNorm2d]
    assert not any(isinstance(part, nn.Dropout) for part in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(x), module(x))


class Shared(nn.Module):
    """A convolution whose output is read by more than its norm: it must not be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.norm.running_mean.fill_(2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y + self.norm(y)


def test_what_cannot_be_folded_is_refused_by_name() -> None:
    torch.manual_seed(0)
    with pytest.raises(RuntimeError, match="Shared"):
        fold_batch_norm(Shared().eval(), torch.randn(2, 3, 4, 4))
