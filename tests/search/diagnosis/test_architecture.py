"""Starved last stages, too few features, and work off the Neural Engine: in packages that are converted here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import nn

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.explanation import explain
from coreml_pareto.objectives.latency import unit_milliseconds
from coreml_pareto.objectives.program import Program, costs, load
from coreml_pareto.search.data import load_data
from coreml_pareto.search.diagnosis import architecture
from coreml_pareto.search.diagnosis.architecture import CAPACITY, ENGINE, STARVED, Remedies, classifier, last_map
from coreml_pareto.search.diagnosis.finding import Check, Finding
from coreml_pareto.search.stages.convert import convert, save
from coreml_pareto.search.stages.package import Packager, randomised
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network

TARGET = Target(find_device("iPhone 15 Pro"), 17)
TRIES = Remedies("larger", "wider", "half", "look")
SMALL = Network(family="mobilenet", backbone="mobilenetv3_small", width=0.35, resolution=32, stem_stride=1, classes=10)

Write = Callable[..., Program]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """written(network): a package of it with random weights; `tail` changes the module before it is converted."""
    data, root = load_data("digits"), tmp_path_factory.mktemp("packages")
    made: dict[tuple[str, str, object], Program] = {}

    def write(network: Network, precision: str = "fp16", change: Callable[[nn.Module], None] | None = None) -> Program:
        if (network.digest, precision, change) in made:
            return made[network.digest, precision, change]
        names = tuple(f"class {number}" for number in range(network.classes))
        wrapping = replace(Packager(Store(root), data, {})._wrapping(network, None), classes=names)
        module = randomised(network)
        if change is not None:
            change(module)
        path: Path = root / f"{len(made)}.mlpackage"
        save(convert(module, wrapping, minimum_os=16, precision=precision), path)  # type: ignore[arg-type]
        return made.setdefault((network.digest, precision, change), load(path))

    return write


def checked(program: Program, target: Target = TARGET) -> tuple[dict[str, Finding], dict[str, Check]]:
    parts = list(architecture.check(program, target, "it", (1,), TRIES))
    findings = {p.cause: p for p in parts if isinstance(p, Finding)}
    return findings, {p.cause: p for p in parts if isinstance(p, Check)}


@pytest.mark.parametrize(
    "network",
    [
        SMALL,
        SMALL.model_copy(update={"resolution": 64, "stem_stride": 2}),
    ],
    ids=["32 pixels, stem 1", "64 pixels, stem 2"],
)
def test_sound_networks(written: Write, network: Network) -> None:
    findings, checks = checked(written(network))
    assert not findings
    assert {cause: check.state for cause, check in checks.items()} == dict.fromkeys(
        (STARVED, CAPACITY, ENGINE), "healthy"
    )


def test_an_input_too_small_for_the_strides(written: Write) -> None:
    """32 pixels through strides of 32 in all: one place; a 5x5 kernel there sees one tap of 25."""
    program = written(SMALL.model_copy(update={"stem_stride": 2}))
    findings, _ = checked(program)
    assert set(findings) == {STARVED} and last_map(program) == (1, 1)
    told = {one.name: one.value for one in findings[STARVED].evidence}
    assert told["last map"] == 1 and told["input"] == 32
    assert 80 < told["taps on padding, kernels on that map"] < 97
    assert findings[STARVED].command == "larger"


def test_taps_on_padding_are_counted(written: Write) -> None:
    """Against laying kernels of ones on maps of ones: what a zero-padded convolution of them sums up is the taps seen."""
    program = written(SMALL.model_copy(update={"stem_stride": 2}))
    every = seen = 0
    for operation in program.operations:
        if operation.kind != "conv" or operation.outputs[0][1].shape[2:] != (1, 1):
            continue
        source = operation.one("x")
        weight = operation.one("weight")
        shape = program.types[weight].shape if isinstance(weight, str) else weight.type.shape  # type: ignore[union-attr]
        if shape[2] == 1:
            continue
        ones = torch.ones(1, 1, *program.types[str(source)].shape[2:])
        summed = nn.functional.conv2d(ones, torch.ones(1, 1, *shape[2:]), stride=99, padding=shape[2] // 2)
        every, seen = every + shape[2] * shape[3], seen + int(summed[0, 0, 0, 0])
    assert every and architecture._taps_on_padding(program) == pytest.approx((every - seen) / every)


def laid_once(kernel: int, side: int, padding: int) -> Program:
    """64 features on a square map, a convolution into 100 classes whose kernel is laid on it once, and its scores."""
    kinds = {"map": (1, 64, side, side), "logits": (1, 100, 1, 1), "weight": (100, 64, kernel, kernel)}
    arguments = {"x": "map", "weight": "weight"}
    told = {"pad_type": "custom", "pad": [padding] * 4}
    conv = SimpleNamespace(
        kind="conv", one=arguments.get, outputs=(("logits", SimpleNamespace(shape=kinds["logits"])),),
        parameter=lambda name, default: told.get(name, default),
    )  # fmt: skip
    types = {name: SimpleNamespace(shape=shape) for name, shape in kinds.items()}
    program = SimpleNamespace(logits="logits", scores=None, producers={"logits": conv}, types=types)
    return cast("Program", program)


@pytest.mark.parametrize(("kernel", "side", "padding", "features"), [(1, 1, 0, 64), (4, 4, 0, 1024), (3, 1, 1, 64)])
def test_a_kernel_over_a_whole_map_reads_a_feature_at_each_place(
    kernel: int, side: int, padding: int, features: int
) -> None:
    assert classifier(laid_once(kernel, side, padding)) == (features, 100)


def test_padding_is_told_where_it_is_seen() -> None:
    assert (
        architecture._seeing(0.0) == ""
        and architecture._seeing(0.96) == ", and 96 % of the taps of its kernels lie on padding"
    )


def test_more_classes_than_features(written: Write) -> None:
    few = Network(family="squeezenet", backbone="squeezenet1_1", width=0.1, resolution=32, stem_stride=1, classes=200)
    program = written(few)
    features, classes = classifier(program) or (0, 0)
    assert classes == 200 and 0 < features < 100
    findings, _ = checked(program)
    assert set(findings) == {CAPACITY} and str(features) in findings[CAPACITY].what


def test_single_precision_runs_off_the_neural_engine(written: Write) -> None:
    program = written(SMALL, "fp32")
    findings, checks = checked(program)
    assert set(findings) == {ENGINE} and checks[ENGINE].state == "found" and "fp32" in findings[ENGINE].what
    assert findings[ENGINE].evidence[0].value == pytest.approx(explain(program, TARGET).ms)
    without = replace(TARGET, compute_units="CPU_ONLY")
    assert ENGINE not in checked(program, without)[0]  # asked for so


class Sorted(nn.Module):
    """Sorts its channels and takes them by the order: what the Neural Engine is reported to hand over."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, places = torch.topk(x.flatten(1), 10)
        return values + torch.gather(x.flatten(1), 1, places)


@pytest.fixture
def sorting(written: Write) -> Program:
    """A small network that ends in `Sorted`."""

    def change(module: nn.Module) -> None:
        module.classifier = nn.Sequential(module.classifier, Sorted())  # type: ignore[assignment]

    return written(SMALL, change=change)


def test_operations_that_leave_the_neural_engine(sorting: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = replace(priors.FALLBACK, value=0.1, low=0.09, high=0.11)  # less than the CPU takes for all
    monkeypatch.setattr(priors, "FALLBACK", cheap)
    findings, _ = checked(sorting)
    share = findings[ENGINE].evidence[1]
    assert findings[ENGINE].severity == "warning" and len(findings[ENGINE].layers) == 2
    assert share.low is not None and share.high is not None and 10 < share.low < share.value < share.high < 100
    added = findings[ENGINE].evidence[0].value
    assert share.value == pytest.approx(100 * added / explain(sorting, TARGET).ms)


def test_operations_for_which_the_whole_program_leaves(sorting: Program) -> None:
    findings, checks = checked(sorting)
    found = findings[ENGINE]
    assert checks[ENGINE].state == "found" and found.severity == "notice" and len(found.layers) == 2
    here, instead = found.evidence
    cpu = unit_milliseconds(costs(sorting), replace(TARGET, compute_units="CPU_ONLY"), "CPU")
    assert (here.value, here.low, here.high) == cpu and instead.value < here.value
    assert (
        "2 operations off the Neural Engine" in found.what and "whole program is taken to run on the CPU" in found.what
    )
