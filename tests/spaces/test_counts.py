"""Multiply-accumulates and parameters against published figures and against a sum by hand."""

from __future__ import annotations

import pytest

from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.counts import count


def network(backbone: str, family: str, resolution: int = 224, **more: float) -> Network:
    return Network.model_validate(
        {"family": family, "backbone": backbone, "resolution": resolution, "classes": 1000, "stem_stride": 2} | more
    )


@pytest.mark.parametrize(
    ("backbone", "family", "millions"),
    [
        ("mobilenetv2", "mobilenet", 300),  # Sandler et al. 2018, table 4
        ("mobilenetv3_small", "mobilenet", 56),  # Howard et al. 2019, table 3
        ("mobilenetv3_large", "mobilenet", 219),
        ("efficientnet_b0", "efficientnet", 390),  # Tan & Le 2019, table 2
        ("resnet18", "timm", 1820),  # He et al. 2016, table 1: 1.8e9
    ],
)
def test_published_counts(backbone: str, family: str, millions: float) -> None:
    assert count(network(backbone, family)).macs / 1e6 == pytest.approx(millions, rel=0.03)


def test_four_times_the_pixels_are_four_times_the_work() -> None:
    """All but the classifier's, which sees one pixel."""
    small, large = (count(network("mobilenetv2", "mobilenet", side)).macs for side in (64, 128))
    classifier = 1280 * 1000
    assert large - classifier == 4 * (small - classifier)


def test_parameters_are_those_of_the_published_weights() -> None:
    assert count(network("mobilenetv2", "mobilenet")).parameters == 3_504_872  # torchvision's mobilenet_v2
    assert count(network("resnet18", "timm")).parameters == 11_689_512  # torchvision's resnet18
