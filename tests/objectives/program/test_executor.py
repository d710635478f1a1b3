"""Does the executor compute what the network computes?  Against torch, for every family, in fp32 and fp16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import timm
import torch
import torchvision
from coremltools.converters.mil import Builder as mb

from coreml_pareto.objectives.program import Executor, ImageInput, Program, TensorInput, load
from coreml_pareto.spaces.errors import UserError

CLASSES = 10
NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    **{
        name: lambda name=name: timm.create_model(name, num_classes=CLASSES)
        for name in (
            "mobilenetv1_100",
            "mobilenetv2_050",
            "mobilenetv3_small_050",
            "mobilenetv4_conv_small_050",
            "efficientnet_b0",
            "tf_efficientnet_lite0",  # SAME padding
            "tf_efficientnetv2_b0",
        )
    },
    "squeezenet1_0": lambda: torchvision.models.squeezenet1_0(num_classes=CLASSES),
    "squeezenet1_1": lambda: torchvision.models.squeezenet1_1(num_classes=CLASSES),
}


def logits_of(classifier: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return classifier.logits(images.permute(0, 3, 1, 2).float() / 255)


def with_fp16_weights(classifier: Any) -> Any:
    """The torch network with batch norms folded and every weight rounded to fp16: what an fp16 package stores."""
    folded = copy.deepcopy(classifier)
    maker: dict[int, torch.nn.Module] = {}
    pairs, hooks, kept = [], [], []
    for module in folded.modules():
        if isinstance(module, torch.nn.Conv2d):
            hooks.append(
                module.register_forward_hook(lambda m, _, y: (maker.update({id(y): m}), kept.append(y), None)[2])
            )
        if isinstance(module, torch.nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(lambda m, x: pairs.append((maker[id(x[0])], m))))
    with torch.no_grad():
        folded(torch.rand(1, 3, 48, 48))
        for hook in hooks:
            hook.remove()
        for conv, norm in pairs:
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            bias = 0 if conv.bias is None else conv.bias
            norm.bias.copy_(norm.bias + (bias - norm.running_mean) * factor)
            conv.weight.mul_(factor.reshape(-1, 1, 1, 1))
            conv.bias = None
            norm.weight.fill_(1), norm.running_mean.fill_(0), norm.running_var.fill_(1 - norm.eps)
        for weight in folded.parameters():
            weight.copy_(weight.half().float())
        folded.mean.copy_(folded.mean.half().float())
        folded.deviation.copy_(1 / (1 / folded.deviation).half().float())
    return folded


def leads(logits: torch.Tensor, by: float) -> torch.Tensor:
    """Images whose best class leads by more than this share of the spread of their logits."""
    first, second = logits.topk(2, 1)[0].T
    return first - second > by * logits.std(1)


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_torch(name: str, convert: Any, network: Any, images: torch.Tensor) -> None:
    classifier = network(name, NETWORKS[name])
    expected = logits_of(classifier, images)
    single = load(convert(f"{name}_fp32", classifier, fp16=False))
    half = load(convert(f"{name}_fp16", classifier))
    assert (single.precision, half.precision) == ("fp32", "fp16")

    exact = Executor(single).run(images, [single.logits])
    assert relative(exact[single.logits], expected) < 5e-5
    assert torch.equal(exact["classLabel"], expected.argmax(1))
    torch.testing.assert_close(exact["classLabel_probs"], exact[single.logits].softmax(1))

    # What fp16 weights cost belongs to the network (5e-4 to 3e-2 for these random ones), what is left is ours.
    stored = Executor(half).run(images, [half.logits])[half.logits]
    assert relative(stored, logits_of(with_fp16_weights(classifier), images)) < 1e-3
    for rounding in (False, True):
        rounded = Executor(half, round_fp16=rounding).run(images, [half.logits])[half.logits]
        assert 1e-5 < relative(rounded, expected) < 0.1
        clear = leads(expected, by=0.1)
        assert clear.float().mean() > 0.5
        assert torch.equal(rounded.argmax(1)[clear], expected.argmax(1)[clear])


def test_a_batch_is_its_images_one_by_one(mobilenet: Any, convert: Any, images: torch.Tensor) -> None:
    program = load(convert("mobilenetv3_small_050_fp16", mobilenet))
    executor = Executor(program)
    assert executor.batched
    whole = executor.run(images)["classLabel_probs"]
    singles = torch.cat([executor.run(image[None])["classLabel_probs"] for image in images])
    torch.testing.assert_close(whole, singles, rtol=1e-4, atol=1e-6)
    assert executor.run(images[:0].reshape(0, 48, 48, 3))["classLabel"].shape == (0,)


def test_rounding_leaves_fp16_numbers_only(mobilenet: Any, convert: Any, images: torch.Tensor) -> None:
    program = load(convert("mobilenetv3_small_050_fp16", mobilenet))
    names = [name for name, kind in program.types.items() if kind.dtype == "fp16" and kind.shape[:1] == (1,)]
    rounded = Executor(program, round_fp16=True).run(images[:2], names)
    plain = Executor(program).run(images[:2], names)
    assert all(torch.equal(rounded[name].half().float(), rounded[name]) for name in names)
    assert sum(not torch.equal(plain[name].half().float(), plain[name]) for name in names) > 0.9 * len(names)


def test_rounding_overflows_as_fp16_does(build: Callable[..., Program]) -> None:
    def body(x: Any) -> Any:
        wide = mb.mul(x=mb.cast(x=x, dtype="fp16"), y=np.float16(60000))
        return mb.cast(x=wide, dtype="fp32", name="y")

    program, x = build(body, (1, 3)), np.array([[1.0, 2.0, -3.0]], np.float32)
    assert Executor(program).run(x)["y"].tolist() == [[60000, 120000, -180000]]
    assert Executor(program, round_fp16=True).run(x)["y"].tolist() == [[60000, np.inf, -np.inf]]


def test_fetching_changes_nothing(mobilenet: Any, convert: Any, images: torch.Tensor) -> None:
    """Operations that overwrite their operand must leave it alone when it is fetched."""
    program = load(convert("mobilenetv3_small_050_fp16", mobilenet))
    names = [name for name in program.types if program.types[name].bits]
    executor = Executor(program)
    everything = executor.run(images[:3], names)
    plain = executor.run(images[:3], [program.logits])
    assert all(torch.equal(everything[name], plain[name]) for name in plain)
    for name in names[5:60:9]:
        assert torch.equal(executor.run(images[:3], [name])[name], everything[name])


def test_a_view_survives_the_overwriting_of_its_source(build: Callable[..., Program]) -> None:
    def body(x: Any) -> Any:
        source = mb.mul(x=x, y=np.float32(2))
        view = mb.reshape(x=source, shape=[1, 6])
        positive = mb.relu(x=source)
        return mb.identity(x=view, name="view"), mb.identity(x=positive, name="positive")

    x = np.array([[[1, -2, 3], [-4, 5, -6]]], np.float32)
    got = Executor(build(body, (1, 2, 3))).run(x)
    assert got["view"].tolist() == [[2, -4, 6, -8, 10, -12]]
    assert got["positive"].tolist() == [[[2, 0, 6], [0, 10, 0]]]


def test_what_depends_on_constants_only_is_computed_once(build: Callable[..., Program]) -> None:
    def body(x: Any) -> Any:
        weight = mb.dequantize(input=np.arange(-6, 6, dtype=np.int8).reshape(3, 4), scale=np.float32(0.5))
        return mb.matmul(x=x, y=weight, name="y")

    x = np.eye(3, dtype=np.float32)[:, None]
    got = Executor(build(body, (1, 1, 3))).run(x)["y"]
    np.testing.assert_array_equal(got[:, 0], np.arange(-6, 6).reshape(3, 4) / 2)


@pytest.mark.parametrize("layout", ["RGB", "BGR", "GRAYSCALE"])
def test_image_scale_bias_and_colour_layout(layout: str, convert: Any, images: torch.Tensor) -> None:
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(torch.cat([x, -x, x * x], 1).mean((2, 3)), -1)

    channels = 1 if layout == "GRAYSCALE" else 3
    bias = -1.0 if channels == 1 else [-0.5, -1.0, 0.25]
    path = convert_image(convert, layout, Mean(), channels, bias)
    program = load(path)
    assert isinstance(program.input, ImageInput)
    assert program.input.color_layout == layout
    assert program.input.scale == pytest.approx(2 / 255)
    assert program.input.bias == pytest.approx([bias] if channels == 1 else bias)
    x = images.permute(0, 3, 1, 2).float()
    if layout == "BGR":
        x = x.flip(1)
    if layout == "GRAYSCALE":
        from PIL import Image

        x = torch.tensor(np.stack([np.array(Image.fromarray(i).convert("L")) for i in images.numpy()]))[:, None].float()
    expected = Mean()(x * (2 / 255) + torch.tensor(bias).reshape(-1, 1, 1))
    got = Executor(program).run(images)["classLabel_probs"]
    # PIL computes luma in 16-bit integers: single grey levels differ by one.
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def convert_image(convert: Any, layout: str, module: torch.nn.Module, channels: int, bias: Any) -> Path:
    return convert(f"mean_{layout}", module, channels=channels, classes=3 * channels, fp16=False, scale=2 / 255,
                   bias=bias, color_layout=getattr(ct.colorlayout, layout))  # fmt: skip


def test_tensor_input_keeps_its_own_layout(build: Callable[..., Program]) -> None:
    program = build(lambda x: mb.reduce_sum(x=x, axes=[0], keep_dims=False, name="y"), (2, 3))
    assert isinstance(program.input, TensorInput)
    executor = Executor(program)
    assert not executor.batched
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    np.testing.assert_array_equal(executor.run(x)["y"], x.sum(1))


def test_unknown_operation_is_refused_by_name(build: Callable[..., Program]) -> None:
    program = build(lambda x: mb.band_part(x=x, lower=0, upper=0), (1, 3, 3))
    with pytest.raises(UserError, match="'band_part'"):
        Executor(program)


def test_unknown_variant_is_refused_when_the_executor_is_built(build: Callable[..., Program]) -> None:
    program = build(lambda x: mb.slice_by_index(x=x, begin=[0, 3], end=[1, 0], stride=[1, -1]), (1, 4))
    with pytest.raises(UserError, match="negative stride"):
        Executor(program)


def test_images_of_the_wrong_kind_are_refused(mobilenet: Any, convert: Any, images: torch.Tensor) -> None:
    executor = Executor(load(convert("mobilenetv3_small_050_fp16", mobilenet)))
    for wrong in (images[:, :40], images.float(), images[0], images.permute(0, 3, 1, 2)):
        with pytest.raises(UserError, match=r"uint8 RGB images \[batch, 48, 48, 3\]"):
            executor.run(wrong)
    with pytest.raises(UserError, match="has no nothing"):
        executor.run(images, ["nothing"])


def test_tensors_of_the_wrong_shape_are_refused(build: Callable[..., Program]) -> None:
    executor = Executor(build(lambda x: mb.relu(x=x), (1, 4)))
    with pytest.raises(UserError, match=r"takes fp32 \[1, 4\]"):
        executor.run(np.zeros((2, 5), np.float32))


def test_open_shapes_are_refused(dynamic: Program) -> None:
    with pytest.raises(UserError, match="static shapes"):
        Executor(dynamic)
