"""The EfficientNet family: B0–B4, Lite0–4 and V2 B0–B3, each a compound scaling of resolution, width and depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreml_pareto.spaces.family import Backbone, Family, TrainingDefaults, by_name

if TYPE_CHECKING:
    from torch import nn

    from coreml_pareto.spaces.candidate import Network

# name: (width, depth, resolution). B: Tan & Le 2019 (arXiv:1905.11946) and the reference implementation's
# `efficientnet_params`; Lite: TensorFlow TPU repository, efficientnet/lite; V2: Tan & Le 2021 (arXiv:2104.00298),
# `efficientnetv2_base` and its b1–b3 scalings in google/automl.
_SCALING: dict[str, tuple[float, float, int]] = {
    "efficientnet_b0": (1.0, 1.0, 224),
    "efficientnet_b1": (1.0, 1.1, 240),
    "efficientnet_b2": (1.1, 1.2, 260),
    "efficientnet_b3": (1.2, 1.4, 300),
    "efficientnet_b4": (1.4, 1.8, 380),
    "efficientnet_lite0": (1.0, 1.0, 224),
    "efficientnet_lite1": (1.0, 1.1, 240),
    "efficientnet_lite2": (1.1, 1.2, 260),
    "efficientnet_lite3": (1.2, 1.4, 280),
    "efficientnet_lite4": (1.4, 1.8, 300),
    "efficientnetv2_b0": (1.0, 1.0, 224),
    "efficientnetv2_b1": (1.0, 1.1, 240),
    "efficientnetv2_b2": (1.1, 1.2, 260),
    "efficientnetv2_b3": (1.2, 1.4, 300),
}


def _timm_name(name: str) -> str:
    """Return timm's name: the ports of TensorFlow weights carry `tf_`."""
    ported = name.startswith("efficientnetv2") or name in {f"efficientnet_lite{i}" for i in range(1, 5)}
    return f"tf_{name}" if ported else name


def _build(network: Network, pretrained: bool) -> nn.Module:
    from coreml_pareto.spaces import timm_builders as builders  # torch and timm cost seconds: only to build

    width, depth, _ = _SCALING[network.backbone]
    if network.backbone.startswith("efficientnetv2"):
        return builders.efficientnet_v2(network, pretrained, (width, depth))
    if network.backbone.startswith("efficientnet_lite"):
        return builders.efficientnet_lite(network, pretrained, (width, depth))
    return builders.efficientnet_b(network, pretrained, (width, depth))


EFFICIENTNET = Family(
    name="efficientnet",
    backbones=by_name(
        *(
            Backbone(name, resolution, True, True, _timm_name(name), {1.0: _timm_name(name)})
            for name, (_, _, resolution) in _SCALING.items()
        )
    ),
    build=_build,
    training=TrainingDefaults(learning_rate=3e-3, weight_decay=0.02, gradient_clip=2.0, label_smoothing=0.05),
)
