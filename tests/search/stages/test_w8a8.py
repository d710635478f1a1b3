"""int8 weights and activations: the package against the fake-quantised network, for all families."""

from __future__ import annotations

from typing import Any

import coremltools as ct
import pytest
import torch

from coreml_pareto.objectives.program import bits_per_weight
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.stages import w8a8
from coreml_pareto.search.stages.convert import Classifier, to_program

NAMES = ["mobilenetv3_small", "mobilenetv1", "efficientnet_lite0", "efficientnetv2_b0", "squeezenet1_1"]


@pytest.mark.parametrize("name", NAMES)
def test_another_draw_of_the_same_noise(packages: Any, name: str) -> None:
    """In fp16 the scales are rounded, values on a threshold fall either way, and later layers pass that on."""
    model, reference = packages.w8a8(name)
    images = packages.images(name)
    plain = packages.torch_logits(Classifier(packages.module(name), packages.network(name)).eval(), images)
    quantised, got = packages.torch_logits(reference, images), packages.logits(packages.program(model), images)
    price, error = (packages.errors(found, plain).median() for found in (quantised, got))
    assert 0.005 < price < 1
    assert error < 1.3 * price + 0.02
    first, second = plain.topk(2, 1)[0].T
    clear = first - second > 2 * price * plain.norm(dim=1)
    assert (got.argmax(1) == plain.argmax(1))[clear].float().mean() >= 0.9
    assert clear.float().mean() > 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_package_answers_as_the_fake_quantised_network(packages: Any, name: str) -> None:
    """Directly, without the float network between: logits no further apart than quantising moved them, the same answers.

    Tolerances: 1.5 times the price of quantising plus 0.02 and at most 0.25, relative, in the median; the same first
    class wherever it leads by more than the price, and on nine images of ten in all.
    """
    model, reference = packages.w8a8(name)
    images = packages.images(name)
    plain = packages.torch_logits(Classifier(packages.module(name), packages.network(name)).eval(), images)
    quantised, got = packages.torch_logits(reference, images), packages.logits(packages.program(model), images)
    price, error = packages.errors(quantised, plain).median(), packages.errors(got, quantised).median()
    assert error < min(0.25, 1.5 * price + 0.02)
    first, second = quantised.topk(2, 1)[0].T
    clear = first - second > price * quantised.norm(dim=1)
    assert clear.float().mean() > 0.6
    same = got.argmax(1) == quantised.argmax(1)
    assert same[clear].all() and same.float().mean() >= 0.9


@pytest.mark.parametrize("name", ["mobilenetv3_small", "efficientnet_lite0", "efficientnetv2_b0", "squeezenet1_1"])
def test_exactly_the_fake_quantised_network_in_fp32(packages: Any, name: str) -> None:
    """Without fp16 nothing is left to differ: the same graph, converted at full precision, is the same function."""
    _, reference = packages.w8a8(name)
    wrapping, images = packages.wrapping(name), packages.images(name)
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(reference, torch.zeros(wrapping.shape), check_trace=False)
    expected = packages.torch_logits(reference, images)
    model = to_program(traced, wrapping, minimum_os=17, precision="fp32", passes=w8a8._passes())
    errors = packages.errors(packages.logits(packages.program(model), images), expected)
    assert errors.median() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_has_the_bytes_of_the_trained_package(packages: Any, name: str) -> None:
    sizes = [packages.package_bytes(packages.saved(packages.w8a8(name, probe=probe)[0])) for probe in (False, True)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_activations_are_integers(packages: Any, name: str) -> None:
    program = packages.program(packages.w8a8(name)[0])
    assert program.minimum_os == "iOS17"
    assert {weight.scheme for weight in program.weights} <= {"int8", "fp16"}
    assert all(weight.scheme == "int8" for weight in program.weights if len(weight.shape) > 1)
    assert 8 < bits_per_weight(program) < 9
    kinds = [operation.kind for operation in program.operations]
    assert kinds.count("quantize") >= kinds.count("conv") / 2
    assert program.metadata["com.coreml-pareto.trial"] == "7"
    assert program.labels == tuple(f"class {i}" for i in range(10))


def test_a_wrong_package_is_refused(packages: Any) -> None:
    model, reference = packages.w8a8("squeezenet1_1")
    images = packages.images("squeezenet1_1")
    plain = Classifier(packages.module("squeezenet1_1"), packages.network("squeezenet1_1")).eval()
    w8a8.check(model, reference, plain, images)
    other, _ = packages.w8a8("squeezenet1_1", probe=True)
    with pytest.raises(RuntimeError, match="conversion went wrong"):
        w8a8.check(other, reference, plain, images)


def test_the_defective_pass_is_left_out() -> None:
    assert "common::int_op_canonicalization" in ct.PassPipeline.DEFAULT.passes
    assert "common::int_op_canonicalization" not in w8a8._passes().passes
    assert "common::int_op_canonicalization" in ct.PassPipeline.DEFAULT.passes
