"""A package of fine-tuned weights holds what was trained; mixed precision keeps its plan; a probe needs none of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.program.constexpr import decode
from coreml_pareto.objectives.program.loader import read_spec
from coreml_pareto.objectives.program.record import read_record
from coreml_pareto.search.data import load_data
from coreml_pareto.search.inspection import inspect
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.recover import Tuning, recover, weights_in_order
from coreml_pareto.search.stages.train import Trainer
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Compression, Network, Recipe
from coreml_pareto.spaces.compression import parse
from coreml_pareto.spaces.errors import UserError

NETWORK = Network(family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=32, classes=10, stem_stride=1)
RECIPE = Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.01, batch_size=32)


class Bench:
    """A trained network, its packager, and how often a training step was told."""

    def __init__(self, folder: Path) -> None:
        self.store, data = Store(folder), load_data("digits", limit=300)
        self.trainer, self.packager = Trainer(self.store, data, "false", "cpu"), Packager(self.store, data, {"seed": 0})
        self.steps: list[Any] = []
        self.tuning = Tuning(self.trainer, self.steps.append)

    @property
    def trained(self) -> Trained:
        return self.trainer.train(NETWORK, RECIPE, lambda step: None)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("store"))


def tuned(text: str) -> Compression:
    return parse(text).model_copy(update={"fine_tune_epochs": 1})


@pytest.mark.parametrize("text", ["palette-2/tensor", "pruning-50", "int4/block-32"])
def test_a_fine_tuned_package_holds_what_was_trained(bench: Bench, text: str) -> None:
    package = bench.packager.package(bench.trained, tuned(text), bench.tuning)
    recovered = recover(bench.trainer, bench.trained, tuned(text), lambda step: None)
    trained = weights_in_order(recovered.module(), NETWORK.resolution)
    record, note = read_record(load(package))
    assert record is not None and note == "" and record.asked == text
    program = load(package)
    for (name, row), weight in zip(record.layers.items(), trained.values(), strict=True):
        if row.applied:
            np.testing.assert_array_equal(decode(program, name).astype(np.float32), weight.numpy())
            assert row.snr_db is not None and row.snr_db > 60  # nothing is lost by storing
    assert json.loads(program.metadata[f"{PREFIX}training"])["fine_tune_epochs"] == 1


@pytest.mark.parametrize("text", ["mixed-3", "mixed-3/group-16"])
def test_mixed_precision_keeps_its_plan_when_it_is_fine_tuned(bench: Bench, text: str) -> None:
    plain = bench.packager.package(bench.trained, parse(text))
    package = bench.packager.package(bench.trained, tuned(text), bench.tuning)
    before, after = (read_record(load(path))[0] for path in (plain, package))
    assert before is not None and after is not None
    assert [row.applied for row in before.layers.values()] == [row.applied for row in after.layers.values()]
    assert all(row.snr_db is None or row.snr_db > 60 for row in after.layers.values())
    assert inspect(load(package)).warning == ""
    assert inspect(load(plain)).bits_per_weight == pytest.approx(inspect(load(package)).bits_per_weight, rel=1e-3)


def test_w8a8_is_fine_tuned_with_its_ranges(bench: Bench) -> None:
    bench.steps.clear()
    package = bench.packager.package(bench.trained, tuned("w8a8"), bench.tuning)
    assert bench.steps and bench.steps[-1].done == 1
    assert package != bench.packager.package(bench.trained, parse("w8a8"))
    assert {file.name for file in package.parent.iterdir()} == {"manifest.json", "model.mlpackage"}
    facts = json.loads(load(package).metadata[f"{PREFIX}training"])
    assert (facts["fine_tune_epochs"], facts["calibration"], facts["calibration_images"]) == (1, "min-max", 128)
    assert len(load(package).metadata[f"{PREFIX}training"]) == 512  # as a probe's


def test_a_fine_tuning_is_paid_once(bench: Bench) -> None:
    bench.packager.package(bench.trained, tuned("palette-2/tensor"), bench.tuning)
    bench.steps.clear()
    bench.packager.package(bench.trained, tuned("palette-2/tensor"), bench.tuning)
    assert bench.steps == []


@pytest.mark.parametrize("text", ["mixed-3", "palette-2/tensor"])
def test_a_conversion_that_changes_trained_weights_is_refused(
    bench: Bench, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a layer scale does, which coremltools merges into the weight before it, or a dead network, whose weights are one."""
    forward = nn.Conv2d.forward
    scales = torch.linspace(0.5, 1.5, 1000)

    def scaled(self: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        return forward(self, x) * scales[: self.out_channels].reshape(1, -1, 1, 1)

    monkeypatch.setattr(nn.Conv2d, "forward", scaled)
    monkeypatch.setattr("coreml_pareto.search.stages.recover._PLAIN", (scaled, nn.Linear.forward))
    other = tuned(text).model_copy(update={"fine_tune_epochs": 2})
    with pytest.raises(
        RuntimeError, match=r"the conversion of squeezenet1_1×0.25 .* take 0 fine_tune_epochs for this network"
    ):
        bench.packager.package(bench.trained, other, bench.tuning)


def test_nothing_is_fine_tuned_with_nothing(bench: Bench) -> None:
    with pytest.raises(ValueError, match="pruning-50, fine-tuned 1 epoch is fine-tuned, and nobody says with what"):
        bench.packager.package(bench.trained, tuned("pruning-50"))


@pytest.mark.parametrize("text", ["palette-2/tensor", "mixed-3/group-16", "w8a8"])
def test_a_probe_is_not_fine_tuned(bench: Bench, text: str) -> None:
    assert bench.packager.probe(NETWORK, tuned(text)) == bench.packager.probe(NETWORK, parse(text))


SCALED = Network(family="timm", backbone="convnext_atto", resolution=32, classes=10)


@pytest.mark.parametrize("text", ["palette-2/tensor", "mixed-3"])
def test_scaled_weights_are_fine_tuned_as_they_are_stored(bench: Bench, text: str) -> None:
    """ConvNeXt's layer scale is merged into the weight before it; so it is before the training."""
    trained = bench.trainer.train(SCALED, RECIPE, lambda step: None)
    package = bench.packager.package(trained, tuned(text), bench.tuning)
    record, note = read_record(load(package))
    assert record is not None and note == ""
    noise = [row.snr_db for row in record.layers.values() if row.applied and row.snr_db is not None]
    assert len(noise) > 20 and min(noise) > 60


def test_what_the_conversion_would_change_is_refused_and_looked_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the folding of scales there is such a network."""
    other = SCALED.model_copy(update={"backbone": "convnext_femto"})
    bench.packager.require_possible(SCALED, tuned("palette-2/tensor"))
    monkeypatch.setattr("coreml_pareto.search.stages.recover.fold_scales", lambda module, example: module)
    bench.packager.require_possible(other, parse("palette-2/tensor"))  # nothing is trained under it
    told = r"the conversion of convnext_femto changes .* \(12 weights are changed, stages.0.blocks.0.mlp.fc2 for one.* take 0 "
    with pytest.raises(UserError, match=told):
        bench.packager.require_possible(other, tuned("palette-2/tensor"))
    monkeypatch.setattr("coreml_pareto.search.stages.package.convert", lambda *_, **__: pytest.fail("looked again"))
    bench.packager.require_possible(SCALED.model_copy(update={"resolution": 48}), tuned("palette-4/tensor"))
    with pytest.raises(UserError, match=told):
        bench.packager.require_possible(other, tuned("mixed-3"))


def test_a_conversion_is_read_once_for_palettes_that_follow_each_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> tuple[Any, Path]:
        read.append(path)
        return read_spec(path)

    monkeypatch.setattr("coreml_pareto.search.stages.rewrite.read_spec", counted)
    network = NETWORK.model_copy(update={"resolution": 48})
    for text in ("palette-8", "palette-6", "palette-1"):
        bench.packager.probe(network, parse(text))
    sources = [path for path in read if ".work" not in path.parts]
    assert len(sources) == 1 and sources[0].parent.parent.name == "convert"
