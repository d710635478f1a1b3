"""How does a trained network become a package that an iOS developer drops into Xcode?

`torch.export` → coremltools' ML program, with everything that the app needs inside: an RGB image input of pixels
0..255, the per-channel normalisation, the softmax, the class labels, and what Xcode shows next to the model.

`ImageType` has one scale for all three channels, networks normalise each channel by its own mean and deviation; so
the normalisation is part of the program: pixel · 1/(255·deviation) + (−mean/deviation), one `mul` and one `add`.
"""

from __future__ import annotations

import copy
import json
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.program.quiet import coremltools as ct
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.stages.rewrite import slim
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.families import normalisation

INPUT = "image"
_DEBUG_MAP = "executorch_debug_handle_mapping.json"
_OWN_METADATA = "com.github.apple.coremltools."


@final
@dataclass(frozen=True)
class Wrapping:
    """What surrounds the weights in a package: classes, pre-processing, and what Xcode shows.

    Nothing here may depend on the training's results: a probe from random weights has the trained package's bytes.

    Attributes:
        network: gives the input's resolution and the normalisation.
        classes: the labels in the order of the logits.
        preprocessing: how a picture becomes the square of pixels; written in words and as metadata.
        metadata: provenance, added to the user-defined metadata as it is.
        description: one line about the model; the pre-processing rule is added to it.
    """

    network: Network
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    metadata: Mapping[str, str]
    description: str
    author: str = "coreml-pareto"
    license: str = "see the data and the weights that it was trained with"
    version: str = "1.0"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the input tensor: [1, 3, resolution, resolution]."""
        return (1, 3, self.network.resolution, self.network.resolution)


class Classifier(nn.Module):
    """A network between its two ends: pixels 0..255 [1, 3, side, side] to class probabilities [1, classes]."""

    scale: Tensor
    bias: Tensor

    def __init__(self, module: nn.Module, network: Network) -> None:
        super().__init__()
        mean, deviation = (torch.tensor(values).reshape(1, 3, 1, 1) for values in normalisation(network))
        self.network = module
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("bias", -mean / deviation)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return what the network expects of pixels 0..255."""
        return pixels * self.scale + self.bias

    def logits(self, pixels: Tensor) -> Tensor:
        """Return what the softmax reads."""
        found: Tensor = self.network(self.normalise(pixels))
        return found

    def forward(self, image: Tensor) -> Tensor:
        """Return class probabilities."""
        return torch.softmax(self.logits(image), -1)


def convert(module: nn.Module, wrapping: Wrapping, *, minimum_os: int, precision: Literal["fp16", "fp32"]) -> Any:
    """Convert a trained network to an ML program for iOS `minimum_os` and newer; the module is not changed.

    Returns:
        coremltools' `MLModel`, not loaded into Core ML; its temporary files go when it goes.
    """
    classifier, example = Classifier(on_cpu(module), wrapping.network).eval(), torch.zeros(wrapping.shape)
    with quiet():
        exported = torch.export.export(classifier, (example,)).run_decompositions({})
    try:
        return to_program(exported, wrapping, minimum_os=minimum_os, precision=precision)
    except NotImplementedError:  # coremltools lacks some of torch.export's operations (`alias`), not of the tracer's
        with quiet():
            traced = torch.jit.trace(classifier, example)  # type: ignore[no-untyped-call]
        return to_program(traced, wrapping, minimum_os=minimum_os, precision=precision)


def on_cpu(module: nn.Module) -> nn.Module:
    """A copy in fp32 on the CPU, in evaluation mode."""
    return copy.deepcopy(module).cpu().float().eval()


def to_program(graph: Any, wrapping: Wrapping, *, minimum_os: int, precision: str, passes: Any = None) -> Any:
    """Convert an exported or traced `Classifier` and write what Xcode shows."""
    with quiet():
        model = ct.convert(
            graph,
            inputs=[ct.ImageType(name=INPUT, shape=wrapping.shape, color_layout=ct.colorlayout.RGB)],
            classifier_config=ct.ClassifierConfig(list(wrapping.classes)),
            convert_to="mlprogram",
            minimum_deployment_target=ct.target[f"iOS{minimum_os}"],
            compute_precision={"fp16": ct.precision.FLOAT16, "fp32": ct.precision.FLOAT32}[precision],
            pass_pipeline=passes,
            skip_model_load=True,
        )
        _describe(model, wrapping)
    return temporary(model)


def temporary(model: Any) -> Any:
    """Delete a model's temporary package when the model goes; coremltools would keep it until the process ends."""
    weakref.finalize(model, shutil.rmtree, model.package_path, ignore_errors=True)
    return model


def save(model: Any, folder: Path) -> None:
    """Save a package as `folder`, shorten its text, and read it back.

    torch.export leaves a map for ExecuTorch's debugger of up to 100 KB, which no app reads; the manifest does not
    list it, so it is left out.
    """
    shutil.rmtree(folder, ignore_errors=True)  # what a killed attempt left
    with quiet():
        model.save(str(folder))
    (folder / _DEBUG_MAP).unlink(missing_ok=True)
    _check_manifest(folder)
    slim(folder)
    load(folder)


def _describe(model: Any, wrapping: Wrapping) -> None:
    rule = wrapping.preprocessing
    side = wrapping.network.resolution
    model.author, model.license, model.version = wrapping.author, wrapping.license, wrapping.version
    model.short_description = f"{wrapping.description.rstrip('. ')}. {rule.describe()}"
    model.input_description[INPUT] = f"RGB, {side}x{side} pixels; the normalisation is part of the model."
    model.output_description["classLabel"] = f"The most probable of {len(wrapping.classes)} classes."
    model.output_description[model.get_spec().description.predictedProbabilitiesName] = "Probability of each class."
    # The date of the conversion is dropped: the same network gives the same package on any day.
    model.user_defined_metadata.pop(f"{_OWN_METADATA}conversion_date", None)
    for key, text in {**wrapping.metadata, **rule.to_metadata()}.items():
        model.user_defined_metadata[key] = text


def _check_manifest(folder: Path) -> None:
    """Every file that the manifest lists must be there, and every file there must be listed."""
    items = json.loads((folder / "Manifest.json").read_text())["itemInfoEntries"].values()
    listed = [folder / "Data" / item["path"] for item in items]
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "Manifest.json"]
    stray = [path for path in files if not any(path == item or item in path.parents for item in listed)]
    missing = [path for path in listed if not path.exists()]
    if stray or missing:
        raise RuntimeError(f"{folder} and its manifest disagree: not listed {stray}, missing {missing}.")
