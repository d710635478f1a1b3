"""Which weights will a package hold?  Those that the network computes with, the constant scales behind them in them.

The conversion computes what depends on no input: a standardised weight (Qiao et al. 2019, arXiv:1903.10520; NFNets: Brock et
al. 2021, arXiv:2102.06171) is stored as what comes out, and a layer scale (Touvron et al. 2021, arXiv:2103.17239;
ConvNeXt) is multiplied into the weight before it. What is trained under a compression must be the weight that is
compressed, so both are done in torch first, and the result is compared with the network itself.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from timm.layers.layer_scale import LayerScale, LayerScale2d
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.models.convnext import ConvNeXtBlock
from timm.models.nfnet import NormFreeBlock
from torch import Tensor, nn
from torch.nn import functional

from coreml_pareto.search.stages.folding import observe, replace, require_same, static_padding

_STANDARDISED = (ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame)
_SCALES = (LayerScale, LayerScale2d)


def fold_scales(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy for inference with plain weights, and without the scales behind them; the module is not changed.

    Args:
        module: batch norms and drop-outs folded.
        example: images [n, 3, side, side] as the network expects them; paddings hold for this size.

    Raises:
        RuntimeError: the copy computes something else.
    """
    folded = copy.deepcopy(module).eval()
    scaled, sizes = observe(folded, example, (nn.Conv2d, nn.Linear), _SCALES)
    with torch.no_grad():
        for name, part in list(folded.named_modules()):
            if isinstance(part, _STANDARDISED):
                replace(folded, name, _plain(part, sizes[name]))
        for layer, name in scaled.items():
            _scale(folded.get_submodule(layer), cast("Tensor", folded.get_submodule(name).gamma))
            replace(folded, name, nn.Identity())
        for part in folded.modules():
            if isinstance(part, ConvNeXtBlock) and part.gamma is not None:
                _scale(part.mlp.fc2, part.gamma)
                part.gamma = None
            elif isinstance(part, NormFreeBlock) and part.attn_last is None:
                gain = 1.0 if part.skipinit_gain is None else part.skipinit_gain
                _scale(_last(part.conv3), torch.as_tensor(part.alpha * gain))
                part.alpha, part.skipinit_gain = 1.0, None
    require_same(module, folded, example, "Folding scales")
    return folded


def _plain(conv: nn.Conv2d, size: torch.Size) -> nn.Module:
    """A convolution with the weight that a standardised one computes."""
    gain = conv.gain.reshape(-1) * conv.scale if isinstance(conv, (ScaledStdConv2d, ScaledStdConv2dSame)) else None
    rows = conv.weight.reshape(1, conv.out_channels, -1)
    weight = functional.batch_norm(
        rows, None, None, weight=gain, training=True, momentum=0.0, eps=cast("float", conv.eps)
    )
    return static_padding(conv, size, weight.reshape_as(conv.weight))


def _last(part: nn.Module) -> nn.Module:
    """The convolution, which may have its padding before it."""
    return part[-1] if isinstance(part, nn.Sequential) else part


def _scale(layer: nn.Module, scale: Tensor) -> None:
    """Multiply what a layer computes by a number, or one for each output channel."""
    weight, bias = cast("nn.Parameter", layer.weight), cast("nn.Parameter | None", layer.bias)
    weight.mul_(scale.reshape(-1, *[1] * (weight.ndim - 1)))
    if bias is not None:
        bias.mul_(scale.reshape(-1))
