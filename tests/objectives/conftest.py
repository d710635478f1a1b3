"""Synthetic operation tables, and one small network saved as real packages."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coreml_pareto.objectives.devices import ComputeUnits, Target, find_device
from coreml_pareto.objectives.program import Cost

CLASSES = 7
SIDE = 16


@pytest.fixture
def target() -> Callable[..., Target]:
    """Target by device name; iPhone 15 Pro, iOS 17, ALL unless named."""

    def make(device: str = "iPhone 15 Pro", os: int = 17, compute_units: ComputeUnits = "ALL") -> Target:
        return Target(find_device(device), os, compute_units)

    return make


@pytest.fixture
def row() -> Callable[..., Cost]:
    """One convolution's row; fp16 weights stored as such unless said otherwise."""

    def make(**changes: Any) -> Cost:
        plain: dict[str, Any] = {
            "name": "conv",
            "kind": "conv",
            "group": "dense",
            "precision": "fp16",
            "macs": 0,
            "weight_elements": 0,
            "read_bytes": 0,
            "written_bytes": 0,
        }
        full = 2 * changes.get("weight_elements", 0)
        return Cost(**(plain | {"weight_bytes": full} | changes))

    return make


class Net(torch.nn.Module):
    """Dense, depthwise and pointwise convolution, global pooling, classifier; takes pixels / 255."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = torch.nn.Conv2d(8, 64, 1)
        self.head = torch.nn.Linear(64, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.stem(image - 0.5))))
        x = torch.relu(self.pointwise(x)).mean((2, 3))
        return torch.softmax(8 * self.head(x), -1)


MACS = {"stem": 8 * 8 * 8 * 27, "depthwise": 8 * 8 * 8 * 9, "pointwise": 8 * 8 * 64 * 8, "head": 64 * CLASSES}


@pytest.fixture(scope="session")
def net() -> Net:
    """The network behind the packages, with seeded weights."""
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="session")
def images() -> np.ndarray[Any, Any]:
    """Coloured noise of varying mean, so that the network does not always answer the same."""
    random = np.random.default_rng(0)
    tint = random.integers(0, 256, (40, 1, 1, 3))
    return np.clip(tint + random.normal(0, 60, (40, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def packages(net: Net, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as fp16, fp32 and weight-only int8 package, from real conversions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and coremltools
        return _convert(net, tmp_path_factory.mktemp("packages"))


def _convert(net: Net, folder: Path) -> dict[str, Path]:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    exported = torch.export.export(net, (torch.rand(1, 3, SIDE, SIDE),)).run_decompositions({})
    models = {}
    for name, precision in (("fp16", ct.precision.FLOAT16), ("fp32", ct.precision.FLOAT32)):
        models[name] = ct.convert(
            exported,
            inputs=[
                ct.ImageType(name="image", shape=(1, 3, SIDE, SIDE), scale=1 / 255.0, color_layout=ct.colorlayout.RGB)
            ],
            classifier_config=ct.ClassifierConfig([f"class {i}" for i in range(CLASSES)]),
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=precision,
            skip_model_load=True,
        )
    config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=32)
    models["int8"] = cto.linear_quantize_weights(models["fp16"], cto.OptimizationConfig(config))
    paths = {name: folder / f"{name}.mlpackage" for name in models}
    for name, model in models.items():
        model.save(str(paths[name]))
    return paths
