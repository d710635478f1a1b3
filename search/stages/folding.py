"""A network for inference only: batch norms folded into the convolutions before them, paddings and drop-outs resolved.

W8A8 needs it: coremltools' quantizer traces the network in training mode, in which timm's `BatchNormAct2d` computes
with the statistics of the batch, and the package would be silently wrong. Jacob et al. 2018 (arXiv:1712.05877, §3.2)
fold for the same reason: what is quantised must be the weight that is run.

Which norm follows which convolution is found by running the network once, so it needs no naming convention; the result
is compared with the network itself.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.drop import DropPath
from timm.layers.padding import pad_same_arg
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-3
"""Largest relative error of the folded network's output; folding only reorders fp32 sums."""


class NoDropout(nn.Identity):
    """Stands where a drop-out was; attention layers ask theirs for its probability."""

    p = 0.0


def fold_batch_norm(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy for inference without batch norms behind convolutions; the module is not changed.

    Activations that timm keeps inside its norms stay. TensorFlow's SAME padding becomes an explicit one, right for the
    example's size only. Norms without a convolution before them stay as `nn.BatchNorm2d`.

    Args:
        module: any network whose convolutions and norms are called once.
        example: images [n, 3, side, side] as the network expects them.

    Raises:
        RuntimeError: the folded network computes something else.
    """
    folded = copy.deepcopy(module).eval()
    pairs, sizes = observe(folded, example, (nn.Conv2d,), (nn.BatchNorm2d,))
    for conv_name, norm_name in pairs.items():
        conv, norm = cast("nn.Conv2d", folded.get_submodule(conv_name)), folded.get_submodule(norm_name)
        replace(folded, conv_name, fuse_conv_bn_eval(conv, cast("nn.BatchNorm2d", norm)))
        replace(folded, norm_name, _after(norm))
    for name, child in list(folded.named_modules()):
        if isinstance(child, Conv2dSame):
            replace(folded, name, static_padding(child, sizes[name], child.weight))
        elif isinstance(child, nn.BatchNorm2d):
            replace(folded, name, _plain_norm(child))
        elif isinstance(child, (nn.Dropout, DropPath)):
            replace(folded, name, NoDropout())
        if isinstance(getattr(child, "drop_rate", None), float):
            child.drop_rate = 0.0  # timm's functional drop-out before the classifier
    require_same(module, folded, example, "Folding batch norms")
    return folded


Kinds = tuple[type[nn.Module], ...]


def observe(
    network: nn.Module, example: Tensor, layers: Kinds, readers: Kinds
) -> tuple[dict[str, str], dict[str, torch.Size]]:
    """Run once: which reader (a norm) reads a layer's output (and nothing between), and each layer's input size."""
    outputs: list[tuple[Tensor, str]] = []  # keeps the tensors alive, so that identity means identity
    pairs: dict[str, str] = {}
    sizes: dict[str, torch.Size] = {}

    def saw_layer(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            outputs.append((output, name))
            sizes[name] = inputs[0].shape[-2:]

        return hook

    def saw_reader(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            pairs.update({layer: name for output, layer in outputs if output is inputs[0]})

        return hook

    handles = []
    for name, child in network.named_modules():
        if isinstance(child, layers):
            handles.append(child.register_forward_hook(saw_layer(name)))
        elif isinstance(child, readers):
            handles.append(child.register_forward_pre_hook(saw_reader(name)))
    with torch.no_grad():
        network(example)
    for handle in handles:
        handle.remove()
    return pairs, sizes


def _after(norm: nn.Module) -> nn.Module:
    """What a norm does besides: timm's `BatchNormAct2d` carries drop-out and activation."""
    parts = [getattr(norm, name, None) for name in ("drop", "act")]
    kept = [part for part in parts if part is not None and not isinstance(part, nn.Identity)]
    return kept[0] if len(kept) == 1 else nn.Sequential(*kept) if kept else nn.Identity()


def _plain_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """torch's own norm with the same numbers, followed by what timm's carries."""
    plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps, affine=norm.affine)
    plain.load_state_dict({key: value for key, value in norm.state_dict().items() if key in plain.state_dict()})
    after = _after(norm)
    return plain.eval() if isinstance(after, nn.Identity) else nn.Sequential(plain, after).eval()


def static_padding(conv: nn.Conv2d, size: torch.Size, weight: Tensor) -> nn.Module:
    """A plain convolution with this weight; TensorFlow's SAME padding is that for one input size, before the convolution
    where it is not symmetric."""
    if not (isinstance(conv, Conv2dSame) or getattr(conv, "same_pad", False)):
        return _plain_conv(conv, cast("tuple[int, int]", conv.padding), weight)
    left, right, top, bottom = pad_same_arg(list(size), list(conv.kernel_size), list(conv.stride), list(conv.dilation))
    symmetric = left == right and top == bottom
    plain = _plain_conv(conv, (top, left) if symmetric else (0, 0), weight)
    return plain if symmetric else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain)


def _plain_conv(conv: nn.Conv2d, padding: tuple[int, int], weight: Tensor) -> nn.Conv2d:
    kernel, stride, dilation = (
        cast("tuple[int, int]", pair) for pair in (conv.kernel_size, conv.stride, conv.dilation)
    )
    bias = conv.bias is not None
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, kernel, stride, padding, dilation, conv.groups, bias)
    plain.load_state_dict({"weight": weight} | ({"bias": conv.bias} if bias else {}))
    return plain


def replace(network: nn.Module, name: str, child: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, child)


def require_same(module: nn.Module, folded: nn.Module, example: Tensor, what: str) -> None:
    """RuntimeError unless a folded network computes what it did."""
    reference = copy.deepcopy(module).eval()
    with torch.no_grad():
        expected, got = reference(example), folded(example)
    error = float((got - expected).norm() / expected.norm().clamp_min(1e-12))
    if not error <= TOLERANCE:  # NaN is an error too
        raise RuntimeError(
            f"{what} changes what {type(module).__name__} computes (relative error {error:.2g}, "
            f"at most {TOLERANCE:g}): a layer's output is read by more than what is folded into it, or it runs twice."
        )
