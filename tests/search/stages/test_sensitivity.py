"""What one layer's compression does, against packages in which that layer alone is compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coreml_pareto.objectives.program import Executor, content_digest, load
from coreml_pareto.search.stages import sensitivity as module
from coreml_pareto.search.stages.compress import compress, decided, heavy_weights
from coreml_pareto.search.stages.sensitivity import Calibration, legal_forms, sensitivity
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.compression import minimum_os, parse

NAMES = ("mobilenetv3_small", "efficientnet_lite0", "squeezenet1_1")
FORMS = tuple(map(parse, ("int8/channel", "palette-2/tensor", "pruning-50")))


@pytest.fixture(params=NAMES)
def measured(request: pytest.FixtureRequest, packages: Any) -> Any:
    """Name of the network, its fp16 package, and the effects of three forms on it."""
    source = packages.saved(packages.converted(request.param, 16))
    return request.param, source, packages.sensitivity(request.param, source, FORMS)


def test_an_effect_is_that_of_a_package_with_this_layer_alone(measured: Any, packages: Any, tmp_path: Path) -> None:
    name, source, found = measured
    images, targets = packages.images(name).numpy(), packages.calibration(name).targets
    exact = packages.logits(load(source), packages.images(name)).double()
    exact = exact - exact.mean(1, keepdim=True)
    for effect in found.effects[:: max(1, len(found.effects) // 6)]:
        plan = {effect.layer: parse(effect.applied)}
        (layer,) = [
            row for row in compress(source, tmp_path / "one.mlpackage", parse("mixed-4"), plan=plan) if row.applied
        ]
        program = load(tmp_path / "one.mlpackage")
        changed = packages.logits(program, packages.images(name)).double()
        changed = changed - changed.mean(1, keepdim=True)
        ratio = 10 * np.log10(float(exact.square().sum() / (changed - exact).square().sum()))
        assert effect.logits_db == pytest.approx(ratio, abs=0.05)
        assert effect.weight_db == pytest.approx(layer.snr_db)
        assert effect.top1 == float(np.mean(changed.argmax(1).numpy() == targets))
        known = torch.softmax(exact, 1)
        divergence = (known * (known.log() - torch.log_softmax(changed, 1))).sum(1).mean()
        assert effect.divergence == pytest.approx(float(divergence), rel=0.02, abs=1e-9)
        row = next(weight for weight in program.weights if weight.name == effect.layer)
        assert effect.bits == pytest.approx(row.bits_per_weight, rel=0.02)
    assert found.images == len(images)


def test_every_layer_that_gets_smaller_is_there_for_every_form(measured: Any) -> None:
    _, source, found = measured
    weights = heavy_weights(load(source))
    expected = [
        (layer.name, layer.asked) for form in FORMS for layer in decided(weights, form) if layer.applied is not None
    ]
    assert sorted((effect.layer, effect.compression) for effect in found.effects) == sorted(expected)
    order = list(weights)
    assert [order.index(effect.layer) for effect in found.effects] == sorted(
        order.index(e.layer) for e in found.effects
    )


def test_portions_change_nothing(measured: Any, packages: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name, source, found = measured
    monkeypatch.setattr(module, "KEPT", 1)  # one image at a time
    again = sensitivity(Store(tmp_path), source, packages.calibration(name), FORMS[1:2])
    rows = [effect for effect in found.effects if effect.compression == "palette-2/tensor"]
    for one, other in zip(rows, again.effects, strict=True):
        assert one.logits_db == pytest.approx(other.logits_db, abs=0.01)
        assert (one.layer, one.top1) == (other.layer, other.top1)


def test_what_was_measured_is_paid_once(measured: Any, packages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, source, found = measured
    monkeypatch.setattr(module, "measure", lambda *arguments: pytest.fail("measured again"))
    assert packages.sensitivity(name, source, FORMS) == found
    newer = packages.saved(packages.converted(name, 18))  # the same network for another system
    assert packages.sensitivity(name, newer, FORMS) == found


def test_other_numbers_have_another_name(packages: Any, tmp_path: Path) -> None:
    """One weight, or one attribute of an operation."""
    source = packages.saved(packages.converted("squeezenet1_1", 16))
    program = load(source)
    compress(source, tmp_path / "x.mlpackage", parse("int8/channel"))
    probe = packages.saved(packages.converted("squeezenet1_1", 16, probe=True))
    names = {content_digest(load(path)) for path in (source, probe, tmp_path / "x.mlpackage")}
    assert len(names) == 3 and content_digest(program) in names


def test_other_images_are_measured_anew(packages: Any, tmp_path: Path) -> None:
    source = packages.saved(packages.converted("squeezenet1_1", 16))
    images = packages.draw(48, 6, seed=9).numpy()
    calibration = Calibration(images, np.arange(6), "other")
    found = sensitivity(Store(tmp_path), source, calibration, FORMS[:1])
    assert found.images == 6
    assert found.effects != packages.sensitivity("squeezenet1_1", source, FORMS[:1]).effects


@pytest.mark.parametrize("oldest", [16, 17, 18])
def test_legal_forms_are_those_that_the_system_loads(oldest: int) -> None:
    forms = legal_forms(oldest)
    assert all(minimum_os(form) <= oldest for form in forms)
    assert {form.scheme for form in forms} == {"int8", "palette", "pruning"} | (
        {"int4", "joint"} if oldest >= 18 else set()
    )


def test_only_what_follows_from_a_change_is_computed_again(packages: Any) -> None:
    """The last layer's change leaves all values before it alone, bit by bit."""
    program = load(packages.saved(packages.converted("mobilenetv3_small", 16)))
    executor, images = Executor(program), packages.images("mobilenetv3_small")
    weights = heavy_weights(program)
    last = list(weights)[-1]
    name = str(program.logits)
    plain = executor.run(images, [name])[name]
    same, doubled, other = executor.vary(
        images, [(last, weights[last]), (last, 2 * weights[last]), (next(iter(weights)), 0 * weights[next(iter(weights))])],
        name,
    )  # fmt: skip
    assert torch.equal(same, plain)
    assert not torch.equal(other, plain)
    bias = executor.run(images, [name])[name]
    assert torch.equal(bias, plain)  # nothing was overwritten
    assert not torch.equal(doubled, plain)
