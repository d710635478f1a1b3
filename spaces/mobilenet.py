"""The MobileNet family: V1, V2, V3 small and large, V4 conv small, medium and large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreml_pareto.spaces.family import Backbone, Family, TrainingDefaults, by_name

if TYPE_CHECKING:
    from torch import nn

    from coreml_pareto.spaces.candidate import Network

_BACKBONES = by_name(
    Backbone("mobilenetv1", 224, True, True, "mobilenetv1_100", {1.0: "mobilenetv1_100", 1.25: "mobilenetv1_125"}),
    Backbone(
        "mobilenetv2", 224, True, True, "mobilenetv2_100",
        {
            0.35: "mobilenetv2_035", 0.5: "mobilenetv2_050", 0.75: "mobilenetv2_075",
            1.0: "mobilenetv2_100", 1.4: "mobilenetv2_140",
        },
    ),
    Backbone(
        "mobilenetv3_small", 224, True, True, "mobilenetv3_small_100",
        {0.5: "mobilenetv3_small_050", 0.75: "mobilenetv3_small_075", 1.0: "mobilenetv3_small_100"},
    ),
    Backbone(
        "mobilenetv3_large", 224, True, True, "mobilenetv3_large_100",
        {0.75: "mobilenetv3_large_075", 1.0: "mobilenetv3_large_100"},
    ),
    Backbone(
        "mobilenetv4_conv_small", 224, True, False, "mobilenetv4_conv_small",
        {0.35: "mobilenetv4_conv_small_035", 0.5: "mobilenetv4_conv_small_050", 1.0: "mobilenetv4_conv_small"},
    ),
    Backbone("mobilenetv4_conv_medium", 224, True, False, "mobilenetv4_conv_medium", {1.0: "mobilenetv4_conv_medium"}),
    Backbone("mobilenetv4_conv_large", 256, True, False, "mobilenetv4_conv_large", {1.0: "mobilenetv4_conv_large"}),
)  # fmt: skip


def _build(network: Network, pretrained: bool) -> nn.Module:
    from coreml_pareto.spaces import timm_builders as builders  # torch and timm cost seconds: only to build

    if network.backbone.startswith("mobilenetv3"):
        return builders.mobilenet_v3(network, pretrained)
    if network.backbone.startswith("mobilenetv4"):
        return builders.mobilenet_v4(network, pretrained)
    build = {"mobilenetv1": builders.mobilenet_v1, "mobilenetv2": builders.mobilenet_v2}[network.backbone]
    return build(network, pretrained)


MOBILENET = Family(
    name="mobilenet",
    backbones=_BACKBONES,
    build=_build,
    training=TrainingDefaults(learning_rate=3e-3, weight_decay=0.02, gradient_clip=2.0, label_smoothing=0.05),
)
