"""Every network of the table: published parameter counts to the unit, and the contract that all the others rely on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import (
    FAMILIES,
    TIMM,
    backbone_of,
    build,
    check_network,
    family_of,
    has_imagenet,
    normalisation,
    training_defaults,
)
from coreml_pareto.spaces.family import Backbone

ROWS = [(family.name, row) for family in FAMILIES.values() for row in family.backbones.values()]
EVERY = pytest.mark.parametrize(("family", "row"), ROWS, ids=[row.name for _, row in ROWS])
WIDTHS = [(family, row, width) for family, row in ROWS for width in row.published]
DEEP = [(family, row) for family, row in ROWS if row.scalable_depth]

# At 1,000 classes. timm's results (huggingface/pytorch-image-models, results/results-imagenet.csv, `param_count` in
# millions) and torchvision's documentation of its weights (`num_params`).
PUBLISHED = {
    ("mobilenetv1", 1.0): 4_231_976,
    ("mobilenetv2", 0.5): 1_968_680,
    ("mobilenetv2", 1.0): 3_504_872,
    ("mobilenetv2", 1.4): 6_108_776,
    ("mobilenetv3_small", 0.5): 1_593_224,
    ("mobilenetv3_small", 1.0): 2_542_856,
    ("mobilenetv3_large", 1.0): 5_483_032,
    ("mobilenetv4_conv_small", 0.5): 2_238_952,
    ("mobilenetv4_conv_small", 1.0): 3_774_024,
    ("efficientnet_b0", 1.0): 5_288_548,
    ("efficientnet_b1", 1.0): 7_794_184,
    ("efficientnet_b2", 1.0): 9_109_994,
    ("efficientnet_b3", 1.0): 12_233_232,
    ("efficientnet_b4", 1.0): 19_341_616,
    ("efficientnet_lite0", 1.0): 4_652_008,
    ("efficientnetv2_b0", 1.0): 7_139_704,
    ("squeezenet1_0", 1.0): 1_248_424,
    ("squeezenet1_1", 1.0): 1_235_496,
}


def network(family: str, name: str, **knobs: Any) -> Network:
    return Network(**{"family": family, "backbone": name, "resolution": 64, "classes": 1000, **knobs})


def on_meta(chosen: Network) -> nn.Module:
    """Build without memory for the weights."""
    with torch.device("meta"):
        return build(chosen)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def feature_maps(model: nn.Module, side: int) -> tuple[torch.Tensor, list[tuple[dict[str, Any], torch.Size]]]:
    """Return the logits for two images, and each row of `feature_info` with the shape of its map."""
    shapes: dict[str, torch.Size] = {}
    for row in model.feature_info:  # type: ignore[union-attr]
        name = row["module"]
        model.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: out.shape}))
    logits = model.eval()(torch.rand(2, 3, side, side))
    return logits, [(row, shapes[row["module"]]) for row in model.feature_info]  # type: ignore[union-attr]


@pytest.mark.parametrize(("family", "row", "width"), WIDTHS, ids=[f"{row.name}-{width:g}" for _, row, width in WIDTHS])
def test_parameters_equal_the_published_network_of_that_width(family: str, row: Backbone, width: float) -> None:
    ours = on_meta(network(family, row.name, width=width))
    with torch.device("meta"):
        name = row.published[width]
        theirs = getattr(torchvision.models, name)() if family == "squeezenet" else timm.create_model(name)
    assert parameters(ours) == parameters(theirs)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize(("backbone", "width"), PUBLISHED, ids=lambda value: str(value))
def test_parameters_equal_the_published_number(backbone: str, width: float) -> None:
    chosen = network(family_of(backbone), backbone, width=width)
    assert parameters(on_meta(chosen)) == PUBLISHED[backbone, width]


@EVERY
def test_it_runs_at_its_smallest_input_and_half_width(family: str, row: Backbone) -> None:
    logits, maps = feature_maps(build(network(family, row.name, width=0.5, resolution=32, classes=3)), 32)
    assert logits.shape == (2, 3) and logits.isfinite().all()
    assert len(maps) >= 4


@EVERY
@pytest.mark.parametrize("stem", [2, 1])
def test_feature_info_says_what_the_maps_are(family: str, row: Backbone, stem: int) -> None:
    side = 64
    _, maps = feature_maps(
        build(network(family, row.name, width=0.5, resolution=side, stem_stride=stem, classes=3)), side
    )
    reductions = [info["reduction"] for info, _ in maps]
    assert reductions == [stem * 2**i for i in range(len(maps))]
    for info, shape in maps:
        assert shape[1] == info["num_chs"]
        full = math.ceil(side / info["reduction"])
        short = 6 // stem if family == "squeezenet" else 0  # its stem of 3×3 or 7×7 pixels is not padded
        assert full - short <= shape[2] <= full


@pytest.mark.parametrize(("family", "row"), DEEP, ids=[row.name for _, row in DEEP])
def test_more_depth_is_more_blocks_of_the_same_width(family: str, row: Backbone) -> None:
    def blocks(depth: float) -> list[int]:
        return [len(stage) for stage in on_meta(network(family, row.name, depth=depth)).blocks]  # type: ignore[union-attr,arg-type]

    one, half_more = blocks(1.0), blocks(1.5)
    assert all(a <= b for a, b in zip(one, half_more, strict=True)) and sum(one) < sum(half_more)


@EVERY
def test_more_width_is_more_parameters(family: str, row: Backbone) -> None:
    counts = [parameters(on_meta(network(family, row.name, width=width))) for width in (0.35, 0.5, 0.75, 1.0, 1.5)]
    assert counts == sorted(set(counts))


@EVERY
def test_its_normalisation_and_defaults_are_usable(family: str, row: Backbone) -> None:
    mean, std = normalisation(network(family, row.name))
    assert all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std)
    defaults = training_defaults(family)
    assert 0 < defaults.learning_rate < 0.1 and defaults.gradient_clip > 0
    assert 32 <= row.native_resolution <= 384


@EVERY
def test_random_weights_follow_from_the_seed(family: str, row: Backbone) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build(network(family, row.name, width=0.35, classes=2)).parameters()).detach()

    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))


@EVERY
def test_what_cannot_be_scaled_is_refused(family: str, row: Backbone) -> None:
    if row.scalable_depth:
        check_network(network(family, row.name, depth=1.5))
    else:
        with pytest.raises(UserError, match=r"no depth multiplier, got 1.5: set depth: \[1.0\]"):
            build(network(family, row.name, depth=1.5))
    with pytest.raises(UserError, match="width and depth 1 only"):
        build(network(family, row.name, width=0.5), imagenet=True)


def test_squeezenet_reaches_what_the_same_layers_of_torchvision_reach() -> None:
    ours = build(network("squeezenet", "squeezenet1_1"))
    theirs = torchvision.models.squeezenet1_1(weights=None)
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(1, 3, 97, 97)
    assert torch.equal(ours.features(image), theirs.features(image))  # type: ignore[operator]


def test_normalisation_is_that_of_the_published_weights() -> None:
    assert normalisation(network("mobilenet", "mobilenetv2"))[0] == (0.485, 0.456, 0.406)
    lite1 = timm.get_pretrained_cfg("tf_efficientnet_lite1")
    assert normalisation(network("efficientnet", "efficientnet_lite1")) == (tuple(lite1.mean), tuple(lite1.std))


def test_any_other_network_of_timm() -> None:
    assert family_of("resnet10t") == TIMM and family_of("squeezenet1_1") == "squeezenet"
    row = backbone_of(TIMM, "resnet10t")
    assert (row.scalable_width, row.scalable_depth) == (False, False)
    model = build(network(TIMM, "resnet10t", classes=5)).eval()
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    with pytest.raises(UserError, match=r"no width multiplier, got 0.5: set width: \[1.0\]"):
        build(network(TIMM, "resnet10t", width=0.5))


def test_an_unknown_name_is_refused_with_near_ones() -> None:
    with pytest.raises(UserError, match=r"No backbone is called 'mobilnetv2'; near: .*mobilenetv2"):
        family_of("mobilnetv2")
    with pytest.raises(UserError, match="No backbone is called"):
        family_of("§§§")
    with pytest.raises(UserError, match=r"No backbone is called 'mobilenetv2_100\.mine'; near: mobilenetv2_100"):
        family_of("mobilenetv2_100.mine")


def test_imagenet_weights_are_where_they_were_published() -> None:
    ours = [network(family, row.name) for family, row in ROWS]
    assert all(has_imagenet(chosen) for chosen in ours)
    assert not any(has_imagenet(chosen.model_copy(update={"width": 0.5})) for chosen in ours)
    assert has_imagenet(network(TIMM, "mobilenetv2_050")) and not has_imagenet(network(TIMM, "mobilenetv2_035"))
    assert backbone_of(TIMM, "mobilenetv2_035").pretrained is None
