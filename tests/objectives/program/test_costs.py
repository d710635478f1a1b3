"""MACs and bytes against closed forms, torch's own shapes and published counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from coremltools.converters.mil import Builder as mb

from coreml_pareto.objectives.program import Cost, Program, costs, load
from coreml_pareto.objectives.program.costs import REARRANGED
from coreml_pareto.spaces.errors import UserError


def torch_macs(module: torch.nn.Module, size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers, from the shapes that torch computes."""
    total, hooks = [], []

    def count(layer: Any, _: Any, output: torch.Tensor) -> None:
        total.append(output.numel() * math.prod(layer.weight.shape[1:]))

    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            hooks.append(layer.register_forward_hook(count))
    with torch.inference_mode():
        module(torch.rand(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return sum(total)


# torchvision's weight tables state giga multiply-accumulates per image at 224 pixels (`_ops`); the papers round them:
# MobileNetV2 300 M (arXiv:1801.04381, table 4), EfficientNet-B0 0.39 B (arXiv:1905.11946, table 2).
PUBLISHED = {
    "mobilenetv2_100": torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1,
    "efficientnet_b0": torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1,
    "squeezenet1_1": torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str, convert: Any) -> None:
    make = getattr(torchvision.models, name, None) if name.startswith("squeeze") else None
    module = (make() if make else timm.create_model(name)).eval()
    rows = costs(
        load(convert(f"{name}_224", torch.nn.Sequential(module, torch.nn.Softmax(-1)), size=224, classes=1000))
    )
    macs = sum(row.macs for row in rows)
    assert macs == torch_macs(module, 224)
    assert macs / 1e9 == pytest.approx(PUBLISHED[name].meta["_ops"], abs=6e-4)


def test_rows_of_a_network(convert: Any, small: Any) -> None:
    rows = {row.name: row for row in costs(load(convert("small_fp16", small)))}
    heavy = [row for row in rows.values() if row.macs]
    assert [(row.kind, row.group, row.precision) for row in heavy] == [
        ("conv", "dense", "fp16"),
        ("conv", "depthwise", "fp16"),
        ("conv", "dense", "fp16"),
        ("conv", "dense", "fp16"),
        ("linear", "matrix", "fp16"),
    ]
    pixels = 24 * 24
    assert [row.macs for row in heavy] == [
        pixels * 32 * 27, pixels * 32 * 25, pixels * 32 * 32, pixels * 72 * 32, 720,
    ]  # fmt: skip
    stem = heavy[0]
    assert stem.weight_elements == 32 * 27 + 32
    assert stem.weight_bytes == 2 * stem.weight_elements
    assert (stem.read_bytes, stem.written_bytes) == (2 * 3 * 48 * 48, 2 * 32 * pixels)
    assert sum(row.macs for row in rows.values()) == torch_macs(small, 48)
    assert not any(row.kind.startswith(("const", "constexpr")) for row in rows.values())


def test_bytes_follow_the_programs_types(convert: Any, small: Any) -> None:
    half, full = (
        costs(load(convert(name, small, fp16=half))) for name, half in (("small_fp16", True), ("small_fp32", False))
    )
    convs = [[row for row in rows if row.kind == "conv"] for rows in (half, full)]
    for narrow, wide in zip(*convs, strict=True):
        assert (2 * narrow.read_bytes, 2 * narrow.written_bytes) == (wide.read_bytes, wide.written_bytes)
        assert (2 * narrow.weight_bytes, narrow.macs) == (wide.weight_bytes, wide.macs)
        assert (narrow.precision, wide.precision) == ("fp16", "fp32")


def row_of(build: Callable[..., Program], body: Callable[[Any], Any], shape: tuple[int, ...], kind: str) -> Cost:
    return next(row for row in costs(build(body, shape)) if row.kind == kind)


def weights(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("groups", "channels", "group"), [(1, 8, "dense"), (8, 8, "depthwise"), (8, 16, "depthwise"), (2, 8, "dense")]
)
def test_groups(groups: int, channels: int, group: str, build: Any) -> None:
    weight = weights(channels, 8 // groups, 3, 3)
    row = row_of(build, lambda x: mb.conv(x=x, weight=weight, groups=groups), (1, 8, 5, 5), "conv")
    assert row.group == group
    assert row.macs == channels * 3 * 3 * (8 // groups) * 9


@pytest.mark.parametrize(
    ("kind", "body", "macs"),
    [
        ("conv_transpose", lambda x: mb.conv_transpose(x=x, weight=weights(4, 5, 3, 3), strides=[2, 2]), 4 * 36 * 5 * 9),
        ("matmul", lambda x: mb.matmul(x=x, y=x, transpose_y=True), 4 * 6 * 6 * 6),
        ("matmul", lambda x: mb.matmul(x=x, y=weights(6, 7)), 4 * 6 * 6 * 7),
        ("linear", lambda x: mb.linear(x=mb.reshape(x=x, shape=[1, 24, 6]), weight=weights(5, 6)), 24 * 5 * 6),
        ("einsum", lambda x: mb.einsum(values=(x, mb.transpose(x=x, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
         4 * 6 * 4 * 6),
        ("scaled_dot_product_attention",
         lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=mb.concat(values=(x, x), axis=-1)),
         4 * 6 * 6 * 6 + 4 * 6 * 6 * 12),
        ("relu", lambda x: mb.relu(x=x), 0),
    ],
)  # fmt: skip
def test_closed_forms(kind: str, body: Any, macs: int, build: Any) -> None:
    assert row_of(build, body, (1, 4, 6, 6), kind).macs == macs


def test_unknown_operations_are_priced_by_their_bytes(build: Any) -> None:
    row = row_of(build, lambda x: mb.band_part(x=x, lower=0, upper=0), (1, 3, 3), "band_part")
    assert (row.macs, row.read_bytes, row.written_bytes, row.note) == (0, 36, 36, "unknown operation")


def test_views_move_nothing_and_a_tensor_is_read_once(build: Any) -> None:
    view = row_of(build, lambda x: mb.reshape(x=x, shape=[1, 9]), (1, 3, 3), "reshape")
    assert (view.read_bytes, view.written_bytes) == (0, 0)
    assert view.note.startswith("view")
    assert row_of(build, lambda x: mb.mul(x=x, y=x), (1, 3, 3), "mul").read_bytes == 36


def test_open_shapes_are_refused(dynamic: Program) -> None:
    with pytest.raises(UserError, match="static shapes"):
        costs(dynamic)


@pytest.mark.parametrize(
    ("operation", "shape", "note"),
    [
        (lambda x: mb.concat(values=[mb.relu(x=x), x], axis=1), (1, 4, 6, 6), ""),
        (lambda x: mb.concat(values=[mb.relu(x=x), x], axis=1, interleave=True), (1, 4, 6, 6), REARRANGED),
        (lambda x: mb.concat(values=[mb.relu(x=x), x], axis=3), (1, 4, 6, 6), REARRANGED),
        (lambda x: mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[1, 2, 6, 6]), (1, 4, 6, 6), ""),
        (lambda x: mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[1, 4, 6, 3]), (1, 4, 6, 6), REARRANGED),
        (lambda x: mb.split(x=x, num_splits=2, axis=1)[0], (1, 4, 6, 6), ""),
        (lambda x: mb.split(x=x, num_splits=2, axis=-1)[0], (1, 4, 6, 6), REARRANGED),
        (lambda x: mb.slice_by_size(x=x, begin=[0, 0], size=[1, 3]), (1, 6), ""),
    ],
)
def test_cutting_and_joining_says_whether_rows_change(build: Any, operation: Any, shape: Any, note: str) -> None:
    kinds = ("concat", "slice_by_size", "split")
    assert [cost.note for cost in costs(build(operation, shape)) if cost.kind in kinds] == [note]
