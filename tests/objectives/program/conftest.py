"""Saved packages for the tests of this room: built once per session, from networks and from single MIL operations."""

from __future__ import annotations

import contextlib
import gc
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coremltools as ct
import pytest
import timm
import torch
from coremltools.converters.mil import Builder as mb

from coreml_pareto.objectives.program import Program, load

CLASSES = 10
SIZE = 48


class Classifier(torch.nn.Module):
    """A network with its normalisation inside and a softmax behind, as the project converts them."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", MEAN.clone())
        self.register_buffer("deviation", DEVIATION.clone())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.logits(image), -1)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        return self.network((image - self.mean) / self.deviation)


MEAN, DEVIATION = (torch.tensor(values).reshape(1, 3, 1, 1) for values in ([0.48, 0.45, 0.41], [0.23, 0.22, 0.25]))


def draw(count: int, seed: int) -> torch.Tensor:
    """Images [count, SIZE, SIZE, 3] of different colour, contrast and noise."""
    generator = torch.Generator().manual_seed(seed)
    tint, contrast = (torch.rand(count, n, 1, 1, generator=generator) for n in (3, 1))
    coarse = torch.rand(count, 3, 4, 4, generator=generator) - 0.5
    smooth = torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")
    noise = torch.rand(smooth.shape, generator=generator) - 0.5
    mixed = (0.2 + 0.6 * tint + (0.3 + contrast) * (smooth + 0.5 * noise)).clamp(0, 1)
    return (255 * mixed).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Biases and batch-norm statistics as training leaves them: none is zero or one, activations keep their scale."""
    generator = torch.Generator().manual_seed(1)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)) and module.bias is not None:
                module.bias.normal_(0, 0.1, generator=generator)
        for norm in norms:
            norm.weight.uniform_(0.6, 1.4, generator=generator)
            norm.bias.normal_(0, 0.2, generator=generator)
            norm.momentum = None
        network.train()
        if norms:
            network((draw(32, seed=1).permute(0, 3, 1, 2) / 255 - MEAN) / DEVIATION)
    return network.eval()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """coremltools reports progress on stderr and warns of torch's version and of numpy's overflows."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()  # coremltools' models leave their temporary folders to the collector, which warns


class Small(torch.nn.Module):
    """Dense, depthwise and pointwise convolution, residual, hard swish, pooling, linear: seconds less than a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 32, 3, 2, 1)
        self.depthwise = torch.nn.Conv2d(32, 32, 5, 1, 2, groups=32)
        self.pointwise = torch.nn.Conv2d(32, 32, 1)
        self.last = torch.nn.Conv2d(32, 72, 1)
        self.head = torch.nn.Linear(72, CLASSES)
        self.relu6, self.swish = torch.nn.ReLU6(), torch.nn.Hardswish()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu6(self.stem(x))
        x = x + self.pointwise(self.swish(self.depthwise(x)))
        return self.head(self.swish(self.last(x)).mean((2, 3)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """uint8 images [24, SIZE, SIZE, 3]."""
    return draw(24, seed=0)


@pytest.fixture(scope="session")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Torch module -> saved package, once per name."""
    folder = tmp_path_factory.mktemp("packages")

    def run(name: str, module: torch.nn.Module, *, target: Any = ct.target.iOS17, fp16: bool = True, size: int = SIZE,
            classes: int = CLASSES, channels: int = 3, **image: Any) -> Path:  # fmt: skip
        path = folder / f"{name}.mlpackage"
        if not path.exists():
            example = torch.rand(1, channels, size, size)
            with quietly():
                exported = torch.export.export(module, (example,)).run_decompositions({})
                model = ct.convert(
                    exported,
                    inputs=[ct.ImageType(name="image", shape=example.shape, **({"scale": 1 / 255} | image))],
                    classifier_config=ct.ClassifierConfig([f"class {i}" for i in range(classes)]),
                    minimum_deployment_target=target,
                    compute_precision=ct.precision.FLOAT16 if fp16 else ct.precision.FLOAT32,
                    skip_model_load=True,
                )
                model.author, model.license, model.version = "somebody", "Apache-2.0", "1.0"
                model.short_description = "a test"
                model.save(str(path))
                del model
        return path

    return run


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Program]:
    """Function of a MIL variable -> saved, loaded program with one fp32 input, operations untouched."""
    folder = tmp_path_factory.mktemp("programs")

    def run(body: Callable[..., Any], shape: tuple[Any, ...], opset: Any = ct.target.iOS18) -> Program:
        with quietly():
            traced = mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=opset)(body)
            model = ct.convert(
                traced,
                convert_to="mlprogram",
                compute_precision=ct.precision.FLOAT32,
                minimum_deployment_target=opset,
                pass_pipeline=ct.PassPipeline.EMPTY,
                skip_model_load=True,
            )
            path = folder / f"{len(list(folder.iterdir()))}.mlpackage"
            model.save(str(path))
            del model
        return load(path)

    return run


@pytest.fixture(scope="session")
def small(images: torch.Tensor) -> Classifier:
    """A few layers of each kind, with logits centred and scaled over the images: they do not all get one class."""
    torch.manual_seed(0)
    classifier = Classifier(randomised(Small())).eval()
    head = classifier.network.head
    with torch.no_grad():
        logits = classifier.logits(images.permute(0, 3, 1, 2).float() / 255)
        spread, mean = logits.std(0), logits.mean(0)
        head.weight.mul_(2 / spread[:, None])
        head.bias.copy_((head.bias - mean) * 2 / spread)
    return classifier


@pytest.fixture(scope="session")
def network() -> Callable[..., Classifier]:
    """Classifier by name, built and randomised once."""
    made: dict[str, Classifier] = {}

    def run(name: str, make: Callable[[], torch.nn.Module]) -> Classifier:
        if name not in made:
            torch.manual_seed(0)
            made[name] = Classifier(randomised(make())).eval()
        return made[name]

    return run


@pytest.fixture(scope="session")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A program that leaves the height of its input open."""
    path = tmp_path_factory.mktemp("dynamic") / "open.mlpackage"
    with quietly():
        traced = torch.jit.trace(torch.nn.ReLU(), torch.rand(1, 3, 16, 8))
        inputs = [ct.TensorType(name="x", shape=(1, 3, ct.RangeDim(8, 64, 16), 8))]
        model = ct.convert(traced, inputs=inputs, minimum_deployment_target=ct.target.iOS16, skip_model_load=True)
        model.save(str(path))
        del model
    return load(path)


@pytest.fixture(scope="session")
def mobilenet(network: Callable[..., Classifier]) -> Classifier:
    """A small MobileNetV3: depthwise convolutions, squeeze-and-excitation, hard swish."""
    return network("mobilenetv3_small_050", lambda: timm.create_model("mobilenetv3_small_050", num_classes=CLASSES))


@pytest.fixture(scope="session")
def quiet() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """The context in which coremltools is called."""
    return quietly
