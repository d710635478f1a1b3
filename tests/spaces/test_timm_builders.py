"""timm's private generators, called in one file only, and the stem's stride."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from coreml_pareto.spaces import timm_builders
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.errors import UserError

SPACES = Path(__file__).parents[2] / "spaces"


def mobilenet(width: float = 1.0, depth: float = 1.0) -> Network:
    return Network(family="mobilenet", backbone="mobilenetv2", width=width, depth=depth, resolution=64, classes=7)


def test_published_width_and_depth_are_multiplied_with_ours() -> None:
    """EfficientNet-B2 is B0 at width 1.1 and depth 1.2 (arXiv:1905.11946)."""
    b0 = Network(family="efficientnet", backbone="efficientnet_b0", width=1.1, depth=1.2, resolution=64, classes=1000)
    with torch.device("meta"):
        scaled = timm_builders.efficientnet_b(b0, False, (1.0, 1.0))
        b2 = timm.create_model("efficientnet_b2")
    assert {k: v.shape for k, v in scaled.state_dict().items()} == {k: v.shape for k, v in b2.state_dict().items()}


def test_depth_repeats_the_blocks_that_timm_repeats() -> None:
    """mobilenetv2_110d is V2 at width 1.1 and depth 1.2, with the first and last stage left as they are."""
    with torch.device("meta"):
        ours: Any = timm_builders.mobilenet_v2(mobilenet(1.1, 1.2), False)
        theirs: Any = timm.create_model("mobilenetv2_110d")
    for one, other in zip(ours.blocks[1:-1], theirs.blocks[1:-1], strict=True):
        assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}


@pytest.mark.parametrize("name", ["tf_efficientnet_lite1", "tf_efficientnetv2_b0"])
def test_ports_of_tensorflow_pad_as_tensorflow_does(name: str) -> None:
    backbone = name.removeprefix("tf_")
    network = Network(family="efficientnet", backbone=backbone, resolution=64, classes=1000)
    build = timm_builders.efficientnet_lite if "lite" in name else timm_builders.efficientnet_v2
    base = (1.0, 1.1) if "lite" in name else (1.0, 1.0)
    ours, theirs = build(network, False, base).eval(), timm.create_model(name).eval()
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(ours(image), theirs(image))
    assert [m.eps for m in ours.modules() if isinstance(m, nn.BatchNorm2d)] == [
        m.eps for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)
    ]


def test_the_stem_takes_the_stride_and_the_weights_stay() -> None:
    model = timm_builders.mobilenet_v2(mobilenet(), False)
    weights, reductions = (
        {k: v.clone() for k, v in model.state_dict().items()},
        [r["reduction"] for r in model.feature_info],
    )  # type: ignore[union-attr]
    timm_builders.set_stem_stride(model, 1)
    assert model.conv_stem.stride == (1, 1)  # type: ignore[union-attr]
    assert [row["reduction"] * 2 for row in model.feature_info] == reductions  # type: ignore[union-attr]
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


def test_correcting_one_network_leaves_the_next_alone() -> None:
    timm_builders.set_stem_stride(timm_builders.mobilenet_v2(mobilenet(), False), 1)
    assert timm_builders.mobilenet_v2(mobilenet(), False).feature_info[0]["reduction"] == 2  # type: ignore[index]


@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.Conv2d(3, 8, 4, stride=4)), nn.Linear(2, 2)], ids=["patches", "linear"]
)
def test_a_stem_without_stride_2_is_refused(model: nn.Module) -> None:
    with pytest.raises(UserError, match=r"needs a first convolution of stride 2.*leave stem_stride at 2"):
        timm_builders.set_stem_stride(model, 1)


def test_no_other_file_calls_what_is_private_to_timm() -> None:
    for path in SPACES.rglob("*.py"):
        names = [node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)]
        assert path.name == "timm_builders.py" or not [name for name in names if name.startswith("_gen_")], path
