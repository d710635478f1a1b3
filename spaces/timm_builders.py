"""Networks of any width and depth, through timm's own builders.

timm's `create_model` takes no width for these networks, its generator functions do. They are private to timm,
so this file is the only one that calls them; `tests/spaces/test_families.py` holds their parameter counts
against timm's published widths, and breaks when timm changes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
from timm.models import efficientnet, mobilenetv3
from timm.models._efficientnet_builder import BN_EPS_TF_DEFAULT
from torch import nn

from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.errors import UserError

Generator = Callable[..., nn.Module]


def mobilenet_v1(network: Network, pretrained: bool) -> nn.Module:
    """MobileNet V1 (Howard et al. 2017, arXiv:1704.04861)."""
    return _scaled(efficientnet._gen_mobilenet_v1, "mobilenetv1_100", network, pretrained)


def mobilenet_v2(network: Network, pretrained: bool) -> nn.Module:
    """MobileNet V2 (Sandler et al. 2018, arXiv:1801.04381)."""
    return _scaled(efficientnet._gen_mobilenet_v2, "mobilenetv2_100", network, pretrained)


def mobilenet_v3(network: Network, pretrained: bool) -> nn.Module:
    """MobileNet V3 small or large (Howard et al. 2019, arXiv:1905.02244)."""
    return _scaled(mobilenetv3._gen_mobilenet_v3, f"{network.backbone}_100", network, pretrained)


def mobilenet_v4(network: Network, pretrained: bool) -> nn.Module:
    """MobileNet V4 conv (Qin et al. 2024, arXiv:2404.10518); its stages are written block by block, so no depth."""
    return mobilenetv3._gen_mobilenet_v4(
        network.backbone, network.width, pretrained=pretrained, num_classes=network.classes
    )


def efficientnet_b(network: Network, pretrained: bool, base: tuple[float, float]) -> nn.Module:
    """EfficientNet B0–B4 (Tan & Le 2019, arXiv:1905.11946); `base` is the published (width, depth)."""
    return _scaled(efficientnet._gen_efficientnet, network.backbone, network, pretrained, base)


def efficientnet_lite(network: Network, pretrained: bool, base: tuple[float, float]) -> nn.Module:
    """EfficientNet Lite0–4 (no squeeze-excite, ReLU6; TensorFlow TPU repository, efficientnet/lite)."""
    name = network.backbone if network.backbone == "efficientnet_lite0" else f"tf_{network.backbone}"
    return _scaled(efficientnet._gen_efficientnet_lite, name, network, pretrained, base, **_tensorflow(name))


def efficientnet_v2(network: Network, pretrained: bool, base: tuple[float, float]) -> nn.Module:
    """EfficientNet V2 B0–B3 (Tan & Le 2021, arXiv:2104.00298)."""
    name = f"tf_{network.backbone}"
    return _scaled(efficientnet._gen_efficientnetv2_base, name, network, pretrained, base, **_tensorflow(name))


def any_timm(network: Network, pretrained: bool) -> nn.Module:
    """Any other network of timm by its name, as it is; those of a fixed input size are made for the resolution."""
    config = timm.get_pretrained_cfg(network.backbone, allow_unregistered=False)
    size: dict[str, Any] = {"img_size": network.resolution} if config is not None and config.fixed_input_size else {}
    model: nn.Module = timm.create_model(
        network.backbone, pretrained=pretrained, num_classes=network.classes, **size
    )  # fmt: skip
    return model


def set_stem_stride(model: nn.Module, stride: int) -> None:
    """Give the first convolution that halves the image another stride, in place, and correct `feature_info`.

    Raises:
        UserError: the first convolution of this network has no stride of 2.
    """
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or tuple(first.stride) != (2, 2):
        found = "none" if first is None else f"{type(first).__name__} with stride {tuple(first.stride)}"
        raise UserError(
            f"stem_stride needs a first convolution of stride 2, {type(model).__name__} has {found}: leave stem_stride at 2."
        )
    first.stride = (stride, stride)
    untyped: Any = model
    untyped.feature_info = [{**row, "reduction": row["reduction"] * stride // 2} for row in untyped.feature_info]


def _scaled(
    generate: Generator,
    name: str,
    network: Network,
    pretrained: bool,
    base: tuple[float, float] = (1.0, 1.0),
    **kwargs: Any,
) -> nn.Module:
    """Call a timm generator with the published scale times ours."""
    return generate(
        name,
        channel_multiplier=base[0] * network.width,
        depth_multiplier=base[1] * network.depth,
        pretrained=pretrained,
        num_classes=network.classes,
        **kwargs,
    )


def _tensorflow(name: str) -> dict[str, Any]:
    """Return what timm's `tf_` variants set: TensorFlow's SAME padding and batch-norm epsilon."""
    return {"pad_type": "same", "bn_eps": BN_EPS_TF_DEFAULT} if name.startswith("tf_") else {}
