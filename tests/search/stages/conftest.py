"""Networks as training leaves them, and their packages, each converted once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.objectives.program import Executor, Program, load
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.stages.compress import Layer, Plan, compress, heavy_weights
from coreml_pareto.search.stages.convert import Classifier, Wrapping, convert, save
from coreml_pareto.search.stages.mixed import assumed_options, forms_for, measured_options, write_within
from coreml_pareto.search.stages.package import randomised
from coreml_pareto.search.stages.sensitivity import Calibration, Sensitivity, sensitivity
from coreml_pareto.search.stages.w8a8 import convert_w8a8
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Compression, Network
from coreml_pareto.spaces.compression import minimum_os, spell
from coreml_pareto.spaces.families import build, training_defaults

CLASSES = 10
NETWORKS = {
    "mobilenetv3_small": Network(
        family="mobilenet", backbone="mobilenetv3_small", width=0.5, resolution=64, classes=CLASSES
    ),
    "mobilenetv1": Network(
        family="mobilenet", backbone="mobilenetv1", width=0.5, resolution=32, stem_stride=1, classes=CLASSES
    ),
    "efficientnet_lite0": Network(
        family="efficientnet", backbone="efficientnet_lite0", width=0.5, resolution=32, stem_stride=1, classes=CLASSES
    ),
    "efficientnet_b0": Network(
        family="efficientnet", backbone="efficientnet_b0", width=0.25, resolution=32, stem_stride=1, classes=CLASSES
    ),
    "efficientnetv2_b0": Network(  # pads as TensorFlow does (SAME): more on one side than on the other
        family="efficientnet", backbone="efficientnetv2_b0", width=0.25, depth=0.5, resolution=32, stem_stride=1,
        classes=CLASSES,
    ),
    "squeezenet1_1": Network(family="squeezenet", backbone="squeezenet1_1", width=0.5, resolution=48, classes=CLASSES),
}  # fmt: skip


def draw(side: int, count: int = 24, seed: int = 0) -> torch.Tensor:
    """Images uint8 [count, side, side, 3]: image i shows the coarse pattern of class i % CLASSES under noise."""
    patterns = torch.rand(CLASSES, 3, 4, 4, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    smooth = nn.functional.interpolate(patterns[torch.arange(count) % CLASSES], side, mode="bilinear")
    light = 0.8 + 0.4 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.rand(smooth.shape, generator=generator) - 0.5
    mixed = (light * smooth + 0.2 * noise).clamp(0, 1)
    return (255 * mixed).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def pixels(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float()


def trained(network: Network, steps: int = 60) -> nn.Module:
    """A network after a few gradient steps: it tells the classes apart, and no bias or statistic is zero or one."""
    torch.manual_seed(0)
    module = build(network)
    settings = training_defaults(network.family)
    rate = settings.learning_rate * (1 if network.family == "squeezenet" else 2.5)  # few steps, easy classes
    optimiser = torch.optim.AdamW(module.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    normalise = Classifier(nn.Identity(), network).normalise
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.3
    for step in range(steps):
        x, y = normalise(pixels(draw(network.resolution, 40, seed=step + 1))), torch.arange(40) % CLASSES
        loss = nn.functional.cross_entropy(module.train()(x), y)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), settings.gradient_clip)
        optimiser.step()
        schedule.step()
    return module.eval()


def logits(program: Program, images: torch.Tensor) -> torch.Tensor:
    """Centred logits [n, classes] of a package, run by the executor."""
    assert program.logits is not None
    found = Executor(program).run(images, [program.logits])[program.logits]
    return found - found.mean(1, keepdim=True)


def torch_logits(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
    with quiet(), torch.no_grad():
        found = classifier.logits(pixels(images))
    return found - found.mean(1, keepdim=True)


def errors(got: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Relative error per image."""
    return (got - expected).norm(dim=1) / expected.norm(dim=1)


def package_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@dataclass(frozen=True)
class Compressed:
    """A compressed package and the record of its layers."""

    model: Path
    layers: tuple[Layer, ...]


class Packages:
    """Modules, conversions and packages of the session, each made when it is first asked for."""

    draw, logits, torch_logits = staticmethod(draw), staticmethod(logits), staticmethod(torch_logits)
    errors, package_bytes, randomised = staticmethod(errors), staticmethod(package_bytes), staticmethod(randomised)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: dict[tuple[Any, ...], Any] = {}

    def once(self, *key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def network(self, name: str) -> Network:
        return NETWORKS[name]

    def images(self, name: str) -> torch.Tensor:
        return self.once("images", name, make=lambda: draw(NETWORKS[name].resolution))

    def module(self, name: str, *, probe: bool = False) -> nn.Module:
        """Trained for a moment, or random as the search's probes are."""
        return self.once("module", name, probe, make=lambda: (randomised if probe else trained)(NETWORKS[name]))

    def wrapping(self, name: str) -> Wrapping:
        network = NETWORKS[name]
        return Wrapping(
            network=network,
            classes=tuple(f"class {i}" for i in range(network.classes)),
            preprocessing=Preprocessing(resolution=network.resolution),
            metadata={"com.coreml-pareto.trial": "7"},
            description=f"{network.label} on ten classes",
        )

    def converted(self, name: str, oldest: int, precision: Any = "fp16", *, probe: bool = False) -> Any:
        return self.once(
            "converted", name, oldest, precision, probe,
            make=lambda: convert(
                self.module(name, probe=probe), self.wrapping(name), minimum_os=oldest, precision=precision
            ),
        )  # fmt: skip

    def compressed(self, name: str, compression: Compression, *, probe: bool = False) -> Compressed:
        """A probe has other weights, too."""

        def make() -> Compressed:
            precision = "fp32" if compression.scheme == "fp32" else "fp16"
            source = self.saved(self.converted(name, self.oldest(name, compression), precision, probe=probe))
            target = self.folder / f"{name}-{spell(compression).replace('/', '-')}-{probe}.mlpackage"
            if compression.scheme == "mixed":
                return self._mixed(name, source, target, compression, probe=probe)
            return Compressed(target, compress(source, target, compression, probe=probe))

        return self.once("compressed", name, compression, probe, make=make)

    def _mixed(self, name: str, source: Path, target: Path, compression: Compression, *, probe: bool) -> Compressed:
        found: list[tuple[Layer, ...]] = []

        def write(plan: Plan) -> Path:
            found.append(compress(source, target, compression, plan=plan, probe=probe))
            return target

        weights = heavy_weights(load(source))
        effects = [] if probe else self.sensitivity(name, source, forms_for(compression)).effects
        options = assumed_options(weights, compression) if probe else measured_options(weights, effects)
        write_within(compression, weights, options, source, write)
        return Compressed(target, found[-1])

    def calibration(self, name: str) -> Calibration:
        """The network's images with their classes."""
        images = self.images(name).numpy()
        return Calibration(images, np.arange(len(images)) % CLASSES, f"drawn {name}")

    def sensitivity(self, name: str, source: Path, compressions: Sequence[Compression]) -> Sensitivity:
        """Of a package of this network, each compression measured once."""
        return sensitivity(Store(self.folder / "store"), source, self.calibration(name), compressions)

    def oldest(self, name: str, compression: Compression) -> int:
        """The OS that a package is shipped for, as `Packager` does; each network is converted once for each."""
        return minimum_os(compression)

    def w8a8(self, name: str, *, probe: bool = False) -> tuple[Any, Classifier]:
        """Model and fake-quantised reference; a probe has other weights and fewer images."""
        images = draw(NETWORKS[name].resolution, 8, seed=5) if probe else self.images(name)
        return self.once(
            "w8a8", name, probe,
            make=lambda: convert_w8a8(self.module(name, probe=probe), images, self.wrapping(name), probe=probe),
        )  # fmt: skip

    def saved(self, model: Any) -> Path:
        """A package on disk; what lies there already is taken as it is."""
        if isinstance(model, Path):
            return model

        def make() -> Path:
            path = self.folder / f"{len(list(self.folder.iterdir()))}.mlpackage"
            save(model, path)
            return path

        return self.once("saved", model, make=make)

    def program(self, model: Any) -> Program:
        return load(self.saved(model))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packages]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Packages(tmp_path_factory.mktemp("packages"))
    torch.set_num_threads(threads)
