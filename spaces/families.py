"""The table of families, and how a `Network` becomes a torch module with known initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.efficientnet import EFFICIENTNET
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.family import Backbone, Family, TrainingDefaults
from coreml_pareto.spaces.mobilenet import MOBILENET
from coreml_pareto.spaces.squeezenet import SQUEEZENET

if TYPE_CHECKING:
    from torch import nn

FAMILIES: Mapping[str, Family] = {family.name: family for family in (MOBILENET, EFFICIENTNET, SQUEEZENET)}
"""The searched families. Any other network of timm belongs to the family `timm`, which has no table."""

TIMM = "timm"
_TIMM_TRAINING = TrainingDefaults(learning_rate=1e-3, weight_decay=0.02, gradient_clip=1.0, label_smoothing=0.05)


def family_of(backbone: str) -> str:
    """Return the family of a backbone's name; `timm` for names that only timm knows.

    Raises:
        UserError: neither the families nor timm have this name; the message suggests near ones.
    """
    for family in FAMILIES.values():
        if backbone in family.backbones:
            return family.name
    _check_timm_name(backbone)
    return TIMM


def backbone_of(family: str, name: str) -> Backbone:
    """Return the row of a backbone; timm's own ones cannot be scaled."""
    if family != TIMM:
        return FAMILIES[family].backbones[name]
    config = _timm_config(name)
    resolution = 224 if config is None else int(config.input_size[-1])
    return Backbone(name, resolution, False, False, name if _published(name) else None, {1.0: name})


def has_imagenet(network: Network) -> bool:
    """Return whether ImageNet weights of this network were published; they exist at width and depth 1 only."""
    name = backbone_of(network.family, network.backbone).pretrained
    return network.width == 1 and network.depth == 1 and name is not None and _published(name)


def training_defaults(family: str) -> TrainingDefaults:
    """Return the optimiser settings with which this family learns from random weights."""
    return FAMILIES[family].training if family in FAMILIES else _TIMM_TRAINING


def normalisation(network: Network) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return per-channel mean and standard deviation of pixels in 0..1 that the network expects.

    Those that its ImageNet weights were trained with, whether they are loaded or not, so that one network has one
    rule; ImageNet's own statistics where timm states none.
    """
    config = _timm_config(backbone_of(network.family, network.backbone).pretrained or network.backbone)
    if config is None:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    (r, g, b), (sr, sg, sb) = config.mean, config.std
    return (r, g, b), (sr, sg, sb)


def check_network(network: Network) -> Network:
    """Return `network` if it can be built, refuse it with the way out otherwise."""
    backbone = backbone_of(network.family, network.backbone)
    if network.width != 1 and not backbone.scalable_width:
        raise UserError(f"{network.backbone} has no width multiplier, got {network.width:g}: set width: [1.0] for it.")
    if network.depth != 1 and not backbone.scalable_depth:
        raise UserError(f"{network.backbone} has no depth multiplier, got {network.depth:g}: set depth: [1.0] for it.")
    return network


def check_input(network: Network) -> Network:
    """Return `network` if it takes pictures of its resolution; ours all do, timm's others are tried on a black one.

    Raises:
        UserError: it does not, with what it said.
    """
    if network.family != TIMM:
        return network
    import torch

    side = network.resolution
    try:
        with torch.no_grad():
            build(network).eval()(torch.zeros(1, 3, side, side))
    except Exception as error:  # timm's networks refuse in many ways, asserts among them
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{network.backbone} takes no pictures of {side}x{side} pixels ({told[:120]}): "
            "name a resolution that suits it, or leave it out."
        ) from error
    return network


def build(network: Network, *, imagenet: bool = False) -> nn.Module:
    """Build the torch module of a network: images [batch, 3, side, side], normalised, to logits [batch, classes].

    Random weights come from torch's global generator. With `imagenet` the published ImageNet weights are loaded
    (width and depth 1 only); whatever the hub's client raises when it is out of reach is passed on.

    Raises:
        UserError: the network has no such multiplier, or no ImageNet weights at this scale.
    """
    from coreml_pareto.spaces import timm_builders

    check_network(network)
    if imagenet and (network.width != 1 or network.depth != 1):
        raise UserError(f"ImageNet weights exist at width and depth 1 only, got {network.label}: set pretrained: auto.")
    make = FAMILIES[network.family].build if network.family in FAMILIES else timm_builders.any_timm
    model = make(network, imagenet)
    if network.stem_stride != 2:
        timm_builders.set_stem_stride(model, network.stem_stride)
    return model


def _check_timm_name(name: str) -> None:
    import difflib

    import timm

    known = [backbone for family in FAMILIES.values() for backbone in family.backbones]
    with suppress(RuntimeError):  # an architecture that timm has, with a tag that it has not
        if timm.is_model(name) and _timm_config(name) is not None:
            return
    near = difflib.get_close_matches(name, known + timm.list_models(), n=4, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise UserError(
        f"No backbone is called {name!r}{hint}. `coreml-pareto space` lists ours, timm.list_models() the rest."
    )


def _published(name: str) -> bool:
    """Whether there are weights under timm's name; torchvision's networks, which timm does not know, all have some."""
    config = _timm_config(name)
    return config is None or bool(config.has_weights)


def _timm_config(name: str) -> Any:
    """timm's configuration of the weights of a name; None for a name that is not timm's."""
    import timm

    return timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
