"""The SqueezeNet family: 1.0 and 1.1 at any width, from torchvision's Fire modules.

Iandola et al. 2016 (arXiv:1602.07360). At width 1 the module equals torchvision's to the parameter and takes its
ImageNet weights; torchvision has no other width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coreml_pareto.spaces.family import Backbone, Family, TrainingDefaults, by_name

if TYPE_CHECKING:
    from torch import nn

    from coreml_pareto.spaces.candidate import Network

# Stem (channels, kernel), then per Fire module (squeeze, expand); "pool" is max pooling 3×3 by 2 with ceil mode.
_LAYOUTS: dict[str, tuple[tuple[int, int], tuple[tuple[int, int] | str, ...]]] = {
    "squeezenet1_0": (
        (96, 7),
        ("pool", (16, 64), (16, 64), (32, 128), "pool", (32, 128), (48, 192), (48, 192), (64, 256), "pool", (64, 256)),
    ),
    "squeezenet1_1": (
        (64, 3),
        ("pool", (16, 64), (16, 64), "pool", (32, 128), (32, 128), "pool", (48, 192), (48, 192), (64, 256), (64, 256)),
    ),
}


def _scale(channels: int, width: float) -> int:
    """Scale a number of channels to a multiple of 8, at least 8 (rounding of MobileNet's `make_divisible`)."""
    return channels if width == 1 else max(8, int(channels * width + 4) // 8 * 8)


def _features(network: Network) -> tuple[nn.Sequential, list[dict[str, Any]]]:
    """Return torchvision's `features` at this width, and timm's feature info: the last map of each stride."""
    from torch import nn
    from torchvision.models.squeezenet import Fire

    (stem, kernel), body = _LAYOUTS[network.backbone]
    channels, reduction = _scale(stem, network.width), 2
    layers: list[nn.Module] = [nn.Conv2d(3, channels, kernel_size=kernel, stride=2), nn.ReLU(inplace=True)]
    info: list[dict[str, Any]] = []
    for row in body:
        if isinstance(row, str):
            info.append({"num_chs": channels, "reduction": reduction, "module": f"features.{len(layers) - 1}"})
            layers.append(nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True))
            reduction *= 2
            continue
        squeeze, expand = (_scale(c, network.width) for c in row)
        layers.append(Fire(channels, squeeze, expand, expand))
        channels = 2 * expand
    info.append({"num_chs": channels, "reduction": reduction, "module": f"features.{len(layers) - 1}"})
    return nn.Sequential(*layers), info


def _build(network: Network, pretrained: bool) -> nn.Module:
    from torch import nn
    from torchvision.models import squeezenet

    model = squeezenet.SqueezeNet(version=network.backbone.removeprefix("squeezenet"), num_classes=network.classes)
    model.features, info = _features(network)
    classifier = nn.Conv2d(info[-1]["num_chs"], network.classes, kernel_size=1)
    # Without batch norm the initialisation carries the training: Kaiming as in torchvision, a small last layer.
    for module in model.features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias) if module.bias is not None else None
    nn.init.normal_(classifier.weight, std=0.01)
    # torchvision ends in ReLU → pool, which kills the gradient of classes that start below zero; logits need no ReLU.
    # torchvision's dropout of 0.5 is meant for 1.2 million photographs; 0.2 is what the other families use.
    model.classifier = nn.Sequential(nn.Dropout(0.2), classifier, nn.Identity(), nn.AdaptiveAvgPool2d((1, 1)))
    model.feature_info = info
    return _with_imagenet(model, network) if pretrained else model


def _with_imagenet(model: nn.Module, network: Network) -> nn.Module:
    """Load torchvision's ImageNet weights into all layers but the classifier (its classes are others)."""
    from torchvision.models import get_model_weights

    state = get_model_weights(network.backbone).DEFAULT.get_state_dict(progress=False, check_hash=True)
    features = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
    model.load_state_dict(features, strict=False)
    return model


SQUEEZENET = Family(
    name="squeezenet",
    backbones=by_name(
        Backbone("squeezenet1_0", 224, True, False, "squeezenet1_0", {1.0: "squeezenet1_0"}),
        Backbone("squeezenet1_1", 224, True, False, "squeezenet1_1", {1.0: "squeezenet1_1"}),
    ),
    build=_build,
    training=TrainingDefaults(learning_rate=1e-3, weight_decay=0.01, gradient_clip=1.0, label_smoothing=0.0),
)
