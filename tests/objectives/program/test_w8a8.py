"""Quantised activations: the package against the fake-quantised torch network that coremltools calibrated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import pytest
import torch
from coremltools.optimize.torch.quantization import LinearQuantizer, LinearQuantizerConfig, ModuleLinearQuantizerConfig

from coreml_pareto.objectives.program import Executor, Program, costs, liveness, load
from coreml_pareto.search.inspection import inspect


@pytest.fixture(scope="module")
def quantised(small: Any, images: torch.Tensor, quiet: Any) -> torch.nn.Module:
    """`small` with int8 weights and activations, calibrated on the images."""
    settings = {"quantization_scheme": "symmetric", "milestones": [0, 0, 100, 100]}
    config = LinearQuantizerConfig(global_config=ModuleLinearQuantizerConfig(**settings))
    x = images.permute(0, 3, 1, 2).float() * (1 / 255)
    with quiet():
        quantizer = LinearQuantizer(small, config)
        model = quantizer.prepare(example_inputs=(x[:1],)).eval()
        quantizer.step()
        with torch.no_grad():
            model(x)
        return quantizer.finalize().eval()


@pytest.fixture(scope="module")
def programs(quantised: torch.nn.Module, quiet: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    """The network converted by `torch.jit.trace`, computing in fp32 and in fp16."""
    folder, found = tmp_path_factory.mktemp("w8a8"), {}
    for name, precision in (("fp32", ct.precision.FLOAT32), ("fp16", ct.precision.FLOAT16)):
        found[name] = load(convert(quantised, quiet, folder / f"{name}.mlpackage", precision))
    return found


def convert(network: torch.nn.Module, quiet: Any, path: Path, precision: Any) -> Path:
    with quiet():
        model = ct.convert(
            torch.jit.trace(network, torch.rand(1, 3, 48, 48)),
            inputs=[ct.ImageType(name="image", shape=(1, 3, 48, 48), scale=1 / 255)],
            classifier_config=ct.ClassifierConfig([str(i) for i in range(10)]),
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=precision,
            skip_model_load=True,
        )
        model.save(str(path))
        del model
    return path


def centred(probabilities: torch.Tensor) -> torch.Tensor:
    logs = probabilities.clamp_min(1e-30).log()
    return logs - logs.mean(1, keepdim=True)


def test_agrees_with_the_fake_quantised_network(
    quantised: torch.nn.Module, programs: Any, small: Any, images: torch.Tensor
) -> None:
    with torch.inference_mode():
        x = images.permute(0, 3, 1, 2).float() * (1 / 255)
        fake, plain = centred(quantised(x)), centred(small(x))
    first, second = fake.topk(2, 1)[0].T
    for precision, typical, worst in (("fp32", 1e-5, 0.05), ("fp16", 0.05, 0.3)):
        # A value on a rounding threshold may fall either way, and an fp16 package rounds the calibrated scales too:
        # the typical image shows the arithmetic, the worst one what a step in the first layers can do.
        program = programs[precision]
        got = Executor(program).run(images, [program.logits])
        logits = got[program.logits]
        errors = (logits - logits.mean(1, keepdim=True) - fake).norm(dim=1) / fake.norm(dim=1)
        assert errors.median() < typical
        assert errors.max() < worst
        clear = first - second > 0.15 * fake.std(1)
        assert clear.float().mean() > 0.4
        assert torch.equal(got["classLabel"][clear], fake.argmax(1)[clear])
        if precision == "fp32":  # quantisation must have done something, or the comparison says nothing
            assert ((plain - fake).norm(dim=1) / fake.norm(dim=1)).median() > 1000 * errors.median()


def test_activations_are_integers(programs: dict[str, Program], images: torch.Tensor) -> None:
    program = programs["fp16"]
    names = [o.outputs[0][0] for o in program.operations if o.kind == "quantize"]
    assert len(names) >= 5
    fetched = Executor(program).run(images[:2], names)
    for name in names:
        assert fetched[name].dtype in (torch.int8, torch.uint8)
        assert program.types[name].bits == 8


def test_costs_are_marked(programs: dict[str, Program]) -> None:
    rows = costs(programs["fp16"])
    heavy = [row for row in rows if row.macs]
    assert [row.group for row in heavy] == ["dense", "depthwise", "dense", "dense", "matrix"]
    assert {row.precision for row in heavy} == {"w8a8"}
    assert {row.precision for row in rows if not row.macs} <= {"fp16", "fp32"}
    assert {weight.scheme for weight in programs["fp16"].weights} == {"int8", "fp16"}
    for row in rows:
        if row.kind == "quantize":
            assert row.read_bytes == 2 * row.written_bytes  # fp16 in, int8 out
    assert liveness(programs["fp16"]).peak_bytes > 0


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_layers_are_spelled_as_a_study_writes_them(precision: str, programs: dict[str, Program]) -> None:
    """int8 weights under int8 activations; the record, which would say so, is that of other packages."""
    found = inspect(programs[precision])
    assert {row.applied for row in found.rows if row.layer} == {"w8a8"}
    assert all(row.bits_per_weight < 12 for row in found.rows if row.layer)
