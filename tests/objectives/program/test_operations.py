"""Contract of the operation table: every row has a case, agrees with an independent reference, and batches.

Cases are written with coremltools' own Builder and travel through a saved package. The reference is coremltools'
`value_inference` (numpy) where the operation has one, else torch or a closed form that is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb

from coreml_pareto.objectives.program import OPERATIONS, Executor, Program
from coreml_pareto.objectives.program.operations import Call
from coreml_pareto.objectives.program.operations.resizing import grid

SHAPE = (1, 4, 6, 6)
rng = np.random.default_rng(0)
X = rng.normal(0, 2, (3, *SHAPE[1:])).astype(np.float32)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return rng.normal(0, 0.5, shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """`build` writes the operation on a variable; `reference` computes it on one image, default: coremltools."""

    build: Callable[[Any], Any]
    reference: Callable[[torch.Tensor], Any] | None = None
    batches: bool = True  # False: the operation mixes the leading dimension; it is run image by image


def unary(kind: str, **parameters: Any) -> Case:
    return Case(lambda x: getattr(mb, kind)(x=x, **parameters))


def positive(kind: str, **parameters: Any) -> Case:
    return Case(lambda x: getattr(mb, kind)(x=mb.add(x=mb.abs(x=x), y=np.float32(0.1)), **parameters))


def inside(kind: str) -> Case:
    """Arguments in (-1, 1)."""
    return Case(lambda x: getattr(mb, kind)(x=mb.mul(x=mb.tanh(x=x), y=np.float32(0.9))))


def binary(kind: str) -> list[Case]:
    constant = np.sign(normal(4, 1, 1)) * (0.5 + np.abs(normal(4, 1, 1)))
    return [
        Case(lambda x: getattr(mb, kind)(x=x, y=constant.astype(np.float32))),
        Case(lambda x: getattr(mb, kind)(x=np.float32(1.5), y=x)),
        Case(lambda x: getattr(mb, kind)(x=x, y=mb.tanh(x=x))),
    ]


def compare(kind: str) -> list[Case]:
    rounded: Callable[[Any], Any] = lambda x: mb.round(x=x)  # noqa: E731
    return [Case(lambda x: mb.cast(x=getattr(mb, kind)(x=rounded(x), y=np.float32(1.0)), dtype="fp32"))]


def logical(kind: str) -> list[Case]:
    def body(x: Any) -> Any:
        left, right = mb.greater(x=x, y=np.float32(0.5)), mb.less(x=x, y=np.float32(1.0))
        return mb.cast(x=getattr(mb, kind)(x=left, y=right), dtype="fp32")

    return [Case(body)]


def reduction(kind: str) -> list[Case]:
    make = positive if "log" in kind else unary
    return [make(kind, axes=[2, 3], keep_dims=True), make(kind, axes=[-1, 1], keep_dims=False),
            replace(make(kind, axes=[0, 1], keep_dims=True), batches=False)]  # fmt: skip


def integers(x: Any) -> Any:
    return mb.cast(x=mb.mul(x=x, y=np.float32(10)), dtype="int32")


W, B = normal(8, 4, 3, 3), normal(8)
DEPTHWISE, GROUPED, EVEN = normal(8, 1, 3, 3), normal(8, 2, 3, 3), normal(8, 4, 2, 4)
ONE_D, THREE_D, UP = normal(8, 4, 3), normal(8, 4, 2, 3, 3), normal(4, 5, 3, 3)
MEAN, VARIANCE, GAMMA, BETA = normal(4), np.abs(normal(4)) + 0.5, normal(4), normal(4)
T = torch.from_numpy


def conv(weight: np.ndarray[Any, Any], reference: Callable[[torch.Tensor], Any], **parameters: Any) -> Case:
    return Case(lambda x: mb.conv(x=x, weight=weight, bias=B, **parameters), reference)


CONV = [
    conv(W, lambda x: F.conv2d(x, T(W), T(B), 2, 1), strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
    conv(W, lambda x: F.conv2d(F.pad(x, (2, 1, 0, 3)), T(W), T(B)), pad_type="custom", pad=[0, 3, 2, 1]),
    conv(W, lambda x: F.conv2d(x, T(W), T(B), 1, 2, 2), pad_type="same", dilations=[2, 2]),
    # 6 positions, stride 2, kernel 3: one row and column of padding, behind (same) or in front (same_lower).
    conv(W, lambda x: F.conv2d(F.pad(x, (0, 1, 0, 1)), T(W), T(B), 2), strides=[2, 2], pad_type="same"),
    conv(W, lambda x: F.conv2d(F.pad(x, (1, 0, 1, 0)), T(W), T(B), 2), strides=[2, 2], pad_type="same_lower"),
    conv(EVEN, lambda x: F.conv2d(F.pad(x, (1, 2, 0, 1)), T(EVEN), T(B)), pad_type="same"),
    conv(DEPTHWISE, lambda x: F.conv2d(x, T(DEPTHWISE), T(B), groups=4), groups=4),
    conv(GROUPED, lambda x: F.conv2d(x, T(GROUPED), T(B), groups=2), groups=2),
    Case(lambda x: mb.conv(x=x, weight=W), lambda x: F.conv2d(x, T(W))),
    Case(lambda x: mb.conv(x=mb.reshape(x=x, shape=[1, 4, 36]), weight=ONE_D, strides=[2]),
         lambda x: F.conv1d(x.reshape(1, 4, 36), T(ONE_D), None, 2)),
    Case(lambda x: mb.conv(x=mb.reshape(x=x, shape=[1, 4, 3, 3, 4]), weight=THREE_D),
         lambda x: F.conv3d(x.reshape(1, 4, 3, 3, 4), T(THREE_D))),
    Case(lambda x: mb.conv(x=x, weight=mb.reshape(x=mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[1, 4, 2, 2]),
                                                  shape=[1, 4, 2, 2])),
         lambda x: F.conv2d(x, x[:, :, :2, :2]), batches=False),
]  # fmt: skip


def deconv(reference: Callable[[torch.Tensor], Any], **parameters: Any) -> Case:
    return Case(lambda x: mb.conv_transpose(x=x, weight=UP, bias=B[:5], **parameters), reference)


def up(x: torch.Tensor, **parameters: Any) -> torch.Tensor:
    return F.conv_transpose2d(x, T(UP), T(B[:5]), **parameters)


CONV_TRANSPOSE = [
    deconv(lambda x: up(x, stride=2), strides=[2, 2]),
    deconv(lambda x: up(x, stride=2, padding=1), strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
    deconv(lambda x: up(x, stride=2, padding=1, output_padding=1), strides=[2, 2], pad_type="custom",
           pad=[1, 1, 1, 1], output_shape=[1, 5, 12, 12]),
    deconv(lambda x: up(x, stride=2)[..., :12, :12], strides=[2, 2], pad_type="same"),
]  # fmt: skip


def pool(kind: str, reference: Callable[[torch.Tensor], Any], **parameters: Any) -> Case:
    defaults = {"kernel_sizes": [3, 3], "strides": [2, 2]}
    return Case(lambda x: getattr(mb, kind)(x=x, **(defaults | parameters)), reference)


def counted(x: torch.Tensor, pad: tuple[int, ...]) -> torch.Tensor:
    """Average over the pixels that are there."""
    return F.avg_pool2d(F.pad(x, pad), 3, 2) / F.avg_pool2d(F.pad(torch.ones_like(x), pad), 3, 2)


SYMMETRIC = {"pad_type": "custom", "pad": [1, 1, 1, 1]}
MAX_POOL = [
    pool("max_pool", lambda x: F.max_pool2d(x, 3, 2), pad_type="valid"),
    pool("max_pool", lambda x: F.max_pool2d(x, 3, 2, 1), **SYMMETRIC),
    pool("max_pool", lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), pad_type="valid", ceil_mode=True),
    pool("max_pool", lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), **SYMMETRIC, ceil_mode=True),
    pool("max_pool", lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e9), 3, 2), pad_type="same"),
    pool("max_pool", lambda x: F.max_pool2d(F.pad(x, (1, 0, 1, 0), value=-1e9), 3, 2), pad_type="same_lower"),
    pool("max_pool", lambda x: F.max_pool2d(F.pad(x, (2, 2, 0, 1), value=-1e9), 3, 2), pad_type="custom",
         pad=[0, 1, 2, 2]),
    Case(lambda x: mb.max_pool(x=mb.reshape(x=x, shape=[1, 4, 36]), kernel_sizes=[3], pad_type="valid"),
         lambda x: F.max_pool1d(x.reshape(1, 4, 36), 3, 1)),
]  # fmt: skip
AVG_POOL = [
    pool("avg_pool", lambda x: F.avg_pool2d(x, 3, 2), pad_type="valid"),
    pool("avg_pool", lambda x: F.avg_pool2d(x, 3, 2, 1), **SYMMETRIC),
    pool("avg_pool", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), **SYMMETRIC,
         exclude_padding_from_average=True),
    pool("avg_pool", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), **SYMMETRIC, ceil_mode=True),
    pool("avg_pool", lambda x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2), pad_type="same"),
    pool("avg_pool", lambda x: counted(x, (0, 1, 0, 1)), pad_type="same", exclude_padding_from_average=True),
    pool("avg_pool", lambda x: counted(x, (1, 0, 2, 1)), pad_type="custom", pad=[2, 1, 1, 0],
         exclude_padding_from_average=True),
]  # fmt: skip


def layer_norm(x: torch.Tensor) -> torch.Tensor:
    y = F.layer_norm(x.permute(0, 2, 3, 1), (4,), T(GAMMA), T(BETA), 1e-3)
    return y.permute(0, 3, 1, 2)


NORMS = {
    "batch_norm": [
        Case(lambda x: mb.batch_norm(x=x, mean=MEAN, variance=VARIANCE, gamma=GAMMA, beta=BETA, epsilon=np.float32(1e-3)),
             lambda x: F.batch_norm(x, T(MEAN), T(VARIANCE), T(GAMMA), T(BETA), False, 0, 1e-3)),
        Case(lambda x: mb.batch_norm(x=x, mean=MEAN, variance=VARIANCE),
             lambda x: F.batch_norm(x, T(MEAN), T(VARIANCE))),
    ],
    "instance_norm": [
        Case(lambda x: mb.instance_norm(x=x, gamma=GAMMA, beta=BETA, epsilon=np.float32(1e-3)),
             lambda x: F.instance_norm(x, None, None, T(GAMMA), T(BETA), eps=1e-3)),
    ],
    "layer_norm": [
        Case(lambda x: mb.layer_norm(x=x, axes=[1], gamma=GAMMA, beta=BETA, epsilon=np.float32(1e-3)), layer_norm),
        Case(lambda x: mb.layer_norm(x=x, axes=[-2, -1], epsilon=np.float32(1e-3)),
             lambda x: F.layer_norm(x, (6, 6), eps=1e-3)),
        Case(lambda x: mb.layer_norm(x=x, axes=[0, 1, 2, 3]), lambda x: F.layer_norm(x, SHAPE), batches=False),
    ],
    "l2_norm": [
        Case(lambda x: mb.l2_norm(x=x, epsilon=np.float32(1e-3)), lambda x: x / (x.square().sum() + 1e-3).sqrt()),
        Case(lambda x: mb.l2_norm(x=mb.reshape(x=x, shape=[1, 4, 36])),
             lambda x: (x / (x.square().sum() + 1e-6).sqrt()).reshape(1, 4, 36), batches=False),
    ],
    "local_response_norm": [
        Case(lambda x: mb.local_response_norm(x=x, size=3, alpha=np.float32(0.1), beta=np.float32(0.6), k=np.float32(2)),
             lambda x: F.local_response_norm(x, 3, 0.1, 0.6, 2.0)),
    ],
}  # fmt: skip


def resize(**parameters: Any) -> Callable[[Any], Any]:
    return lambda x: mb.resize_bilinear(x=x, target_size_height=9, target_size_width=4, **parameters)


def sampled(mode: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Interpolation on the documented grid, by numpy, one dimension after the other."""

    def run(x: torch.Tensor) -> torch.Tensor:
        points = np.arange(6)
        y = np.apply_along_axis(lambda row: np.interp(grid(mode, 6, 9), points, row), -2, x.numpy())
        return T(np.apply_along_axis(lambda row: np.interp(grid(mode, 6, 4), points, row), -1, y))

    return run


def upsample(**parameters: Any) -> Callable[[Any], Any]:
    return lambda x: mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=3, **parameters)


RESIZING = {
    "resize_bilinear": [
        Case(resize(sampling_mode="UNALIGN_CORNERS"), lambda x: F.interpolate(x, (9, 4), mode="bilinear")),
        Case(resize(sampling_mode="STRICT_ALIGN_CORNERS"),
             lambda x: F.interpolate(x, (9, 4), mode="bilinear", align_corners=True)),
        *[Case(resize(sampling_mode=mode), sampled(mode)) for mode in ("DEFAULT", "OFFSET_CORNERS", "ALIGN_CORNERS")],
    ],
    "upsample_bilinear": [
        Case(upsample(), lambda x: F.interpolate(x, (12, 18), mode="bilinear", align_corners=True)),
        Case(upsample(align_corners=False), lambda x: F.interpolate(x, (12, 18), mode="bilinear")),
    ],
    "resize_nearest_neighbor": [
        Case(lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=9, target_size_width=4),
             lambda x: F.interpolate(x, (9, 4), mode="nearest")),
    ],
    "upsample_nearest_neighbor": [
        Case(lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
             lambda x: F.interpolate(x, (12, 18), mode="nearest")),
    ],
}  # fmt: skip

LINEAR_W, LINEAR_B, RIGHT = normal(5, 6), normal(5), normal(6, 7)
MATRIX = {
    "linear": [Case(lambda x: mb.linear(x=mb.reshape(x=x, shape=[1, 24, 6]), weight=LINEAR_W, bias=LINEAR_B)),
               Case(lambda x: mb.linear(x=mb.reshape(x=x, shape=[24, 6]), weight=LINEAR_W), batches=False)],
    "matmul": [
        Case(lambda x: mb.matmul(x=x, y=RIGHT)),
        Case(lambda x: mb.matmul(x=x, y=mb.tanh(x=x), transpose_x=True)),
        Case(lambda x: mb.matmul(x=x, y=RIGHT.T.copy(), transpose_y=True)),
        Case(lambda x: mb.matmul(x=RIGHT.T.copy(), y=x)),
        Case(lambda x: mb.matmul(x=mb.reshape(x=x, shape=[1, 144]), y=mb.reshape(x=x, shape=[144, 1])), batches=False),
    ],
    "einsum": [
        Case(lambda x: mb.einsum(values=(x, mb.transpose(x=x, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
             lambda x: torch.stack([x[0, :, h] @ x[0, :, h].T for h in range(6)], 1)[None]),
    ],
    "scaled_dot_product_attention": [
        Case(lambda x: mb.scaled_dot_product_attention(query=x, key=mb.tanh(x=x), value=mb.sin(x=x)),
             lambda x: torch.softmax(x @ x.tanh().mT / 6**0.5, -1) @ x.sin()),
        Case(lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=x, attn_mask=np.eye(6) > 0), lambda x: x),
    ],
}  # fmt: skip

SHAPES = {
    "reshape": [unary("reshape", shape=[1, 2, -1]), unary("reshape", shape=[0, 2, 12, 6]),
                replace(unary("reshape", shape=[4, 36]), batches=False)],
    "expand_dims": [unary("expand_dims", axes=[-1]), unary("expand_dims", axes=[0])],
    "squeeze": [Case(lambda x: mb.squeeze(x=mb.reshape(x=x, shape=[1, 4, 1, 36]), axes=[2])),
                Case(lambda x: mb.squeeze(x=mb.reshape(x=x, shape=[1, 4, 1, 36])), batches=False)],
    "flatten2d": [unary("flatten2d", axis=1), replace(unary("flatten2d", axis=2), batches=False)],
    "reshape_like": [
        Case(lambda x: mb.reshape_like(x=x, ref_tensors=(x, np.zeros((2, 2, 36), np.float32)), begins=(0, 0),
                                       ends=(1, 3), end_masks=(False, False)),
             lambda x: x.reshape(1, 2, 2, 36)),
    ],
    "transpose": [unary("transpose", perm=[0, 2, 3, 1]), unary("transpose", perm=[0, -1, 1, -2]),
                  replace(unary("transpose", perm=[1, 0, 2, 3]), batches=False)],
    "slice_by_index": [
        unary("slice_by_index", begin=[0, 1, 0, 2], end=[1, 3, 6, 6], stride=[1, 1, 2, 3]),
        unary("slice_by_index", begin=[0, 0, -3, 1], end=[0, 0, -1, 0], begin_mask=[True, True, False, False],
              end_mask=[True, True, False, True]),
        unary("slice_by_index", begin=[0, -1, 0, 0], end=[1, 0, 3, 3], squeeze_mask=[False, True, False, False]),
        replace(unary("slice_by_index", begin=[0, 1, 0, 0], end=[1, 3, 3, 3], squeeze_mask=[True, False, False, False]),
                batches=False),
    ],
    "slice_by_size": [unary("slice_by_size", begin=[0, 1, 2, 0], size=[1, 2, -1, 3])],
    "split": [Case(lambda x: mb.split(x=x, num_splits=2, axis=1)[1]),
              Case(lambda x: mb.split(x=x, split_sizes=[1, 3, 2], axis=-1)[1])],
    "concat": [Case(lambda x: mb.concat(values=(x, mb.tanh(x=x)), axis=1),
                    lambda x: torch.cat([x, x.tanh()], 1)),
               Case(lambda x: mb.concat(values=(x, mb.tanh(x=x)), axis=1, interleave=True),
                    lambda x: torch.stack([x, x.tanh()], 2).reshape(1, 8, 6, 6)),
               Case(lambda x: mb.concat(values=(x, mb.tanh(x=x)), axis=0),
                    lambda x: torch.cat([x, x.tanh()], 0), batches=False)],
    "stack": [Case(lambda x: mb.stack(values=(x, mb.tanh(x=x)), axis=-1), lambda x: torch.stack([x, x.tanh()], -1)),
              Case(lambda x: mb.stack(values=(x, x), axis=0), lambda x: torch.stack([x, x]), batches=False)],
    "tile": [unary("tile", reps=[1, 2, 1, 3]), replace(unary("tile", reps=[2, 1, 1, 1]), batches=False)],
    "reverse": [unary("reverse", axes=[1, -1]), replace(unary("reverse"), batches=False)],
    "pad": [unary("pad", pad=[0, 0, 1, 0, 2, 1, 0, 3], mode="constant", constant_val=np.float32(0.5)),
            unary("pad", pad=[1, 2, 3, 0], mode="reflect"), unary("pad", pad=[2, 0, 1, 1, 0, 4], mode="replicate"),
            unary("pad", pad=[1, 2])],
    "gather": [unary("gather", indices=np.array([3, -1, 0], np.int32), axis=1),
               unary("gather", indices=np.array([[1, 0], [5, 2]], np.int32), axis=-1),
               unary("gather", indices=np.int32(2), axis=2),
               replace(unary("gather", indices=np.array([0], np.int32), axis=0), batches=False)],
    "fill_like": [Case(lambda x: mb.fill_like(ref_tensor=x, value=np.float32(3)), lambda x: torch.full_like(x, 3))],
    "pixel_shuffle": [Case(lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2))],
    "pixel_unshuffle": [Case(lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(3)),
                             lambda x: F.pixel_unshuffle(x, 3))],
    # Four channels, block 2: channel 2i + j goes to row i, column j of each block; with one output channel this is
    # pixel_shuffle. Its inverse brings blocks to the front.
    "depth_to_space": [Case(lambda x: mb.depth_to_space(x=x, block_size=2), lambda x: F.pixel_shuffle(x, 2))],
    "space_to_depth": [Case(lambda x: mb.space_to_depth(x=x, block_size=2),
                            lambda x: torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1))],
    "sliding_windows": [Case(lambda x: mb.sliding_windows(x=x, axis=2, size=3, stride=2),
                             lambda x: torch.stack([x[:, :, i : i + 3] for i in (0, 2)], 2))],
}  # fmt: skip

SCALES, ZEROS = (np.abs(normal(4)) + 0.02).astype(np.float32), np.array([-3, 0, 4, 20], np.int8)


def round_trip(x: torch.Tensor, scale: Any, zero: Any, low: int, high: int) -> torch.Tensor:
    return (torch.clamp(torch.round(x / scale) + zero, low, high) - zero) * scale


def quantised(x: Any) -> Any:
    return mb.quantize(input=x, scale=SCALES, zero_point=ZEROS, axis=1, output_dtype="int8")


QUANTISATION = {
    "quantize": [
        Case(lambda x: mb.cast(x=mb.quantize(input=x, scale=np.float32(0.05), output_dtype="int8"), dtype="fp32"),
             lambda x: torch.clamp(torch.round(x / 0.05), -128, 127)),
        Case(lambda x: mb.cast(x=quantised(x), dtype="fp32"),
             lambda x: torch.clamp(torch.round(x / T(SCALES).reshape(4, 1, 1)) + T(ZEROS).reshape(4, 1, 1), -128, 127)),
    ],
    "dequantize": [
        Case(lambda x: mb.dequantize(input=quantised(x), scale=SCALES, zero_point=ZEROS, axis=1),
             lambda x: round_trip(x, T(SCALES).reshape(4, 1, 1), T(ZEROS).reshape(4, 1, 1).float(), -128, 127)),
        Case(lambda x: mb.dequantize(input=mb.quantize(input=x, scale=np.float32(0.05), zero_point=np.uint8(9),
                                                       output_dtype="uint8"),
                                     scale=np.float32(0.05), zero_point=np.uint8(9)),
             lambda x: round_trip(x, 0.05, 9, 0, 255)),
    ],
}  # fmt: skip

alpha = np.float32(0.3)
beta = np.float32(0.7)
ACTIVATIONS = {
    **{kind: [unary(kind)] for kind in ("relu", "relu6", "sigmoid", "softplus", "softsign", "tanh")},
    "silu": [Case(lambda x: mb.silu(x=x), lambda x: x / (1 + torch.exp(-x)))],
    "gelu": [unary("gelu", mode=mode) for mode in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")],
    "prelu": [unary("prelu", alpha=GAMMA)],
    "softplus_parametric": [unary("softplus_parametric", alpha=GAMMA, beta=BETA)],
    "elu": [unary("elu", alpha=alpha)],
    "leaky_relu": [unary("leaky_relu", alpha=alpha)],
    # coremltools' value_inference writes into its operand here, which is also our image.
    "thresholded_relu": [
        Case(lambda x: mb.thresholded_relu(x=mb.round(x=x), alpha=np.float32(1)),
             lambda x: torch.where(x.round() >= 1, x.round(), 0)),
        Case(lambda x: mb.thresholded_relu(x=x, alpha=alpha), lambda x: torch.where(x >= 0.3, x, 0)),
    ],
    **{kind: [unary(kind, alpha=alpha, beta=beta)] for kind in ("clamped_relu", "linear_activation", "scaled_tanh")},
    "sigmoid_hard": [unary("sigmoid_hard", alpha=np.float32(1 / 6), beta=np.float32(0.5))],
}  # fmt: skip

CASES: dict[str, list[Case]] = {
    "conv": CONV,
    "conv_transpose": CONV_TRANSPOSE,
    "max_pool": MAX_POOL,
    "avg_pool": AVG_POOL,
    "l2_pool": [pool("l2_pool", lambda x: F.lp_pool2d(x.abs(), 2, 3, 2), pad_type="valid")],
    **MATRIX,
    **ACTIVATIONS,
    **NORMS,
    **RESIZING,
    **SHAPES,
    **QUANTISATION,
    **{kind: [unary(kind)] for kind in ("abs", "atan", "ceil", "cos", "erf", "exp", "exp2", "floor", "identity",
                                        "round", "sign", "sin", "square", "tan", "cosh", "sinh")},
    **{kind: [inside(kind)] for kind in ("acos", "asin", "atanh")},
    "logical_not": [Case(lambda x: mb.cast(x=mb.logical_not(x=mb.greater(x=x, y=np.float32(0))), dtype="fp32"))],
    "sqrt": [positive("sqrt")],
    "rsqrt": [positive("rsqrt"), positive("rsqrt", epsilon=np.float32(0.1))],
    "log": [positive("log"), positive("log", epsilon=np.float32(0.1))],
    "inverse": [positive("inverse"), positive("inverse", epsilon=np.float32(0.1))],
    "clip": [unary("clip", alpha=np.float32(-0.5), beta=np.float32(1))],
    "threshold": [unary("threshold", alpha=alpha)],
    "cast": [Case(lambda x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp32")),
             Case(lambda x: mb.cast(x=mb.cast(x=x, dtype="bool"), dtype="fp32"))],
    **{kind: binary(kind) for kind in ("add", "sub", "mul", "maximum", "minimum", "floor_div", "mod")},
    "real_div": [*binary("real_div"), Case(lambda x: mb.cast(x=mb.real_div(x=integers(x), y=np.int32(3)), dtype="fp32"),
                                           lambda x: torch.trunc((10 * x).int() / 3))],
    "pow": [positive("pow", y=np.float32(2.5)), Case(lambda x: mb.pow(x=np.float32(1.5), y=x))],
    **{kind: compare(kind) for kind in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")},
    **{kind: logical(kind) for kind in ("logical_and", "logical_or", "logical_xor")},
    "select": [Case(lambda x: mb.select(cond=mb.greater(x=x, y=np.float32(0)), a=x, b=mb.exp(x=x)),
                    lambda x: torch.where(x > 0, x, x.exp()))],
    **{kind: reduction(kind) for kind in ("reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod",
                                          "reduce_sum_square", "reduce_l1_norm", "reduce_l2_norm", "reduce_log_sum",
                                          "reduce_log_sum_exp")},
    **{kind: [Case(lambda x, kind=kind: mb.cast(x=getattr(mb, kind)(x=x, axis=1, keep_dims=True), dtype="fp32")),
              Case(lambda x, kind=kind: mb.cast(x=getattr(mb, kind)(x=x, axis=-1), dtype="fp32"))]
       for kind in ("reduce_argmax", "reduce_argmin")},
    "softmax": [unary("softmax", axis=1), unary("softmax"), replace(unary("softmax", axis=0), batches=False)],
    "cumsum": [unary("cumsum", axis=2), unary("cumsum", axis=1, reverse=True),
               Case(lambda x: mb.cumsum(x=x, axis=1, exclusive=True), lambda x: torch.cumsum(x, 1) - x),
               replace(unary("cumsum", axis=0), batches=False)],
    "argsort": [Case(lambda x: mb.cast(x=mb.argsort(x=x, axis=1), dtype="fp32")),
                Case(lambda x: mb.cast(x=mb.argsort(x=x, axis=-1, ascending=True), dtype="fp32"))],
    "topk": [Case(lambda x: mb.topk(x=x, k=2, axis=1)[0], lambda x: x.sort(1, True)[0][:, :2]),
             Case(lambda x: mb.cast(x=mb.topk(x=x, k=3, axis=-1, ascending=True)[1], dtype="fp32"),
                  lambda x: x.argsort(-1)[..., :3]),
             Case(lambda x: mb.topk(x=x, k=2, axis=1, return_indices=False), lambda x: x.sort(1, True)[0][:, :2])],
}  # fmt: skip
ALL = [(kind, index) for kind, cases in CASES.items() for index in range(len(cases))]


def test_every_row_has_a_case() -> None:
    """`classify` has its own test: it ends a program."""
    assert set(OPERATIONS) == set(CASES) | {"classify"}


@pytest.fixture(scope="module")
def programs(build: Callable[..., Program]) -> dict[tuple[str, int], Program]:
    """One saved package holds every case; each is cut out with what it depends on."""

    def body(x: Any) -> Any:
        return tuple(mb.identity(x=CASES[kind][i].build(x), name=f"{kind}_case_{i}") for kind, i in ALL)

    whole = build(body, SHAPE)
    return {(kind, i): cut(whole, f"{kind}_case_{i}") for kind, i in ALL}


def cut(program: Program, output: str) -> Program:
    needed, operations = {output}, []
    for operation in reversed(program.operations):
        if any(name in needed for name, _ in operation.outputs):
            operations.append(operation)
            needed |= set(operation.operands())
    types = {name: kind for name, kind in program.types.items() if name in needed} | {
        name: kind for operation in operations for name, kind in operation.outputs
    }
    return replace(program, operations=tuple(reversed(operations)), output=(output,), types=types)


def reference(case: Case, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if case.reference is not None:
        return np.asarray(case.reference(T(image.copy())), np.float32)
    values = []

    def body(x: Any) -> Any:
        values.append(case.build(mb.const(val=image.copy())).val)
        return x

    mb.program(input_specs=[mb.TensorSpec(shape=SHAPE)], opset_version=ct.target.iOS18)(body)
    assert values[0] is not None, "coremltools has no reference for this operation; write one"
    return np.asarray(values[0], np.float32)


@pytest.mark.parametrize(("kind", "index"), ALL)
def test_row(kind: str, index: int, programs: dict[tuple[str, int], Program]) -> None:
    case, program = CASES[kind][index], programs[kind, index]
    assert kind in {operation.kind for operation in program.operations}
    executor = Executor(program)
    got = executor.run(X)[program.output[0]].numpy()
    singles = np.concatenate([executor.run(x[None])[program.output[0]].numpy() for x in X])
    assert executor.batched == case.batches
    np.testing.assert_allclose(got, singles, rtol=1e-5, atol=1e-5)
    expected = np.stack([reference(case, x[None]) for x in X])
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=2e-5, atol=2e-5)
    stated = program.types[program.output[0]].shape
    assert got.shape == ((3, *stated[1:]) if stated[:1] == (1,) else (3, *stated))


@pytest.mark.parametrize("kind", [kind for kind, row in OPERATIONS.items() if row.overwrite])
def test_overwriting_computes_the_same_in_place(kind: str, programs: dict[tuple[str, int], Program]) -> None:
    program, row = programs[kind, 0], OPERATIONS[kind]
    operation = next(operation for operation in program.operations if operation.kind == kind)
    call, x = Call(operation, program.types), T(X.copy())
    others = [T(operation.one(name).value.copy()) for name in row.operands[1:]]
    assert row.overwrite is not None
    expected, got = row.execute(call)(x, *others), row.overwrite(call)(x, *others)
    assert got.data_ptr() == x.data_ptr() != expected.data_ptr()
    assert torch.equal(got, expected)
