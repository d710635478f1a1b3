"""What is trained under a compression is what the package holds; it goes on after a kill, and regains accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from coreml_pareto.objectives.program import Constant, load
from coreml_pareto.objectives.program.constexpr import decode
from coreml_pareto.objectives.program.record import heavy_weights
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.search.stages import train
from coreml_pareto.search.stages.compress import Plan, compress, decided, forms_of, kept, signal_to_noise
from coreml_pareto.search.stages.convert import convert, save
from coreml_pareto.search.stages.folding import fold_batch_norm
from coreml_pareto.search.stages.projections import projection
from coreml_pareto.search.stages.recover import (
    SIZE,
    Relative,
    folded,
    plan_for,
    put_under,
    recover,
    renamed,
    settle,
    tuner,
    weights_in_order,
)
from coreml_pareto.search.stages.train import Step, Trainer, glance, normalisers, preprocessing_of
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Compression, Network, Recipe
from coreml_pareto.spaces.compression import every_compression, minimum_os, parse, spell
from coreml_pareto.spaces.families import build

NETWORK = Network(family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=32, classes=10, stem_stride=1)
LEARNER = Network(
    family="mobilenet", backbone="mobilenetv3_small", width=0.35, resolution=32, classes=10, stem_stride=1
)
RECIPE = Recipe(epochs=6, learning_rate=6e-3, weight_decay=0.01, batch_size=32, seed=1)
EVERY = tuple(row for row in every_compression() if row.scheme not in ("fp32", "fp16", "mixed", "w8a8"))


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load_data("digits", limit=400)


def _silent(step: Step) -> None:
    pass


def _asked(text: str, epochs: int = 2) -> Compression:
    return parse(text).model_copy(update={"fine_tune_epochs": epochs})


def _untrained(folder: Path, network: Network = NETWORK) -> Trained:
    """Random weights in the store: only their form matters."""
    torch.manual_seed(1)
    torch.save(build(network).state_dict(), folder / "weights.pt")
    (folder / "record.json").write_text('{"initial_weights": "random"}')
    return Trained("untrained", network, RECIPE, folder)


def _moved(module: nn.Module, plan: Plan) -> None:
    """What a training leaves: every weight a little elsewhere, the forms where they follow it to."""
    follow = put_under(module, plan)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for step in (0.5, 1.0):
            for parameter in module.parameters():
                parameter.mul_(1 + 0.2 * torch.randn(parameter.shape, generator=generator))
            follow(step)
    settle(module, plan)


def _folded(packages: Any, name: str) -> nn.Module:
    side = packages.network(name).resolution
    return fold_batch_norm(packages.module(name), torch.rand(2, 3, side, side))


def _held(path: Path) -> list[np.ndarray[Any, Any]]:
    """The weights of a package as they are at load, in program order."""
    program = load(path)
    found = {name: reader.one("weight") for name, reader in heavy_weights(program).items()}
    return [value.value if isinstance(value, Constant) else decode(program, name) for name, value in found.items()]


def _package(packages: Any, name: str, module: nn.Module, compression: Compression, folder: Path) -> Path:
    save(
        convert(module, packages.wrapping(name), minimum_os=minimum_os(compression), precision="fp16"),
        folder / "fp16.mlpackage",
    )
    compress(folder / "fp16.mlpackage", folder / "small.mlpackage", compression)
    return folder / "small.mlpackage"


@pytest.mark.parametrize("asked", EVERY, ids=spell)
def test_what_was_settled_is_stored_as_it_is(packages: Any, asked: Compression) -> None:
    module = _folded(packages, "mobilenetv3_small")
    plan = plan_for(module, 64, asked)
    assert plan
    before = {name: weight.clone() for name, weight in weights_in_order(module, 64).items()}
    _moved(module, plan)
    weights = {name: weight.half().numpy() for name, weight in weights_in_order(module, 64).items()}
    layers = decided(weights, asked)
    assert {layer.name: layer.applied for layer in layers if layer.applied} == {
        n: spell(form) for n, form in plan.items()
    }
    for name, form in forms_of(weights, layers).items():
        if asked.bits == 8 and asked.mode == "asymmetric":  # some scales move by an fp16 step: see `settle`
            assert signal_to_noise(weights[name], form.decoded()) > 58, name
        else:
            assert np.array_equal(form.decoded(), weights[name]), name
        assert signal_to_noise(before[name].numpy(), weights[name]) > 2 or asked.bits < 3 or asked.sparsity, name
        if asked.sparsity:
            assert np.array_equal(kept(weights[name], plan[name]), weights[name] != 0), name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mobilenetv3_small", "int4/block-32/asymmetric"),
        ("mobilenetv3_small", "pruning-50+palette-4"),
        ("squeezenet1_1", "int8/tensor"),
        ("squeezenet1_1", "palette-2"),
    ],
)
def test_the_package_holds_what_was_settled(packages: Any, name: str, text: str, tmp_path: Path) -> None:
    module, side = _folded(packages, name), packages.network(name).resolution
    _moved(module, plan_for(module, side, parse(text)))
    held = _held(_package(packages, name, module, parse(text), tmp_path))
    weights = list(weights_in_order(module, side).values())
    assert len(held) == len(weights)
    for got, expected in zip(held, weights, strict=True):
        assert np.array_equal(got, expected.half().numpy())


def test_weights_are_in_program_order(packages: Any, tmp_path: Path) -> None:
    name = "efficientnetv2_b0"
    module = _folded(packages, name)
    save(convert(module, packages.wrapping(name), minimum_os=16, precision="fp16"), tmp_path / "a.mlpackage")
    weights = weights_in_order(module, packages.network(name).resolution).values()
    for got, weight in zip(_held(tmp_path / "a.mlpackage"), weights, strict=True):
        assert np.array_equal(got, weight.half().numpy())


def test_gradients_pass_the_storing_unchanged() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 16) * torch.logspace(-3, 1, 8)[:, None]
    relative = Relative(weight, projection(weight, parse("palette-2")))
    original = relative.right_inverse(weight).requires_grad_()
    torch.testing.assert_close(original.square().mean(1).sqrt(), torch.full((8,), SIZE))
    stored, gradient = relative(original), torch.randn(8, 16)
    assert len(stored.unique()) == 4
    stored.backward(gradient)
    torch.testing.assert_close(original.grad, gradient * weight.square().mean(1, keepdim=True).sqrt() / SIZE)


def _top1(module: nn.Module, data: DataSet) -> float:
    return glance(module, data.validation, preprocessing_of(LEARNER), *normalisers(LEARNER, torch.device("cpu")))


def test_a_pruned_network_regains_most_of_its_loss(tmp_path: Path) -> None:
    trainer = Trainer(Store(tmp_path), load_data("digits", limit=800), "false", "cpu")
    trained, asked = trainer.train(LEARNER, RECIPE, _silent), _asked("pruning-60", 3)
    lossy = folded(trained)
    settle(lossy, plan_for(lossy, 32, asked))
    whole, pruned = trained.record["glance_top1"], _top1(lossy, trainer.data)
    recovered = recover(trainer, trained, asked, _silent)
    top1 = recovered.record["glance_top1"]
    assert pruned < whole - 0.2
    assert whole - top1 < (whole - pruned) / 4
    module = recovered.module()  # as another process would open it
    assert _top1(module, trainer.data) == top1
    assert not module.training and not any(map(parametrize.is_parametrized, module.modules()))
    assert recovered.record["source"] == trained.key != recovered.key
    assert recovered.record["recipe"]["epochs"] == 3 and recovered.recipe == RECIPE


class _Killed(Exception):
    pass


def test_a_killed_recovery_goes_on_and_ends_as_an_uninterrupted_one(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, asked = _untrained(tmp_path), _asked("pruning-50+palette-4", 3)
    whole = recover(Trainer(Store(tmp_path / "a"), data, "false", "cpu"), start, asked, _silent)
    trainer = Trainer(Store(tmp_path / "b"), data, "false", "cpu")

    def kill_within_third(step: Step) -> None:
        if step.done > 2:
            raise _Killed

    monkeypatch.setattr(train, "PULSE", 0.0)
    with pytest.raises(_Killed):
        recover(trainer, start, asked, kill_within_third)
    seen: list[float] = []
    resumed = recover(trainer, start, asked, lambda step: seen.append(step.done))
    assert seen[0] == 2 < seen[1] < seen[-1] == 3 and resumed.key == whole.key
    expected = whole.module().state_dict()
    for name, tensor in resumed.module().state_dict().items():
        torch.testing.assert_close(tensor, expected[name], msg=name)
    recover(trainer, start, asked, lambda step: pytest.fail("repeated"))
    assert sorted(file.name for file in resumed.folder.iterdir()) == ["manifest.json", "record.json", "weights.pt"]


def test_a_plan_is_translated_by_the_order_of_the_weights() -> None:
    plan = {"b": parse("palette-4")}
    assert renamed(plan, ["a", "b", "c"], ["x", "y", "z"]) == {"y": parse("palette-4")}
    with pytest.raises(ValueError, match="longer"):
        renamed(plan, ["a", "b"], ["x", "y", "z"])


def test_a_plan_gives_each_layer_its_own_form(data: DataSet, tmp_path: Path) -> None:
    trainer, start = Trainer(Store(tmp_path / "store"), data, "false", "cpu"), _untrained(tmp_path)
    names = [name for name, weight in weights_in_order(folded(start), 32).items() if weight.numel() > 1500]
    plan = {names[1]: parse("palette-1"), names[2]: parse("pruning-50")}
    mixed = recover(trainer, start, _asked("mixed-4", 1), _silent, plan=plan)
    weights = weights_in_order(mixed.module(), 32)
    assert len(weights[names[1]].unique()) == 2
    assert float((weights[names[2]] == 0).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert len(weights[names[3]].unique()) > 200
    assert mixed.record["plan"] == {names[1]: "palette-1/tensor", names[2]: "pruning-50"}
    assert recover(trainer, start, _asked("mixed-4", 1), _silent, plan={}).key != mixed.key


def test_a_prepared_network_is_trained_in_place(data: DataSet, tmp_path: Path) -> None:
    """Feature maps are left out where a network shows none; a recipe of nothing else falls back to the labels."""
    start, teacher = _untrained(tmp_path), _untrained(tmp_path)
    changes = {"teacher": "t", "hard_weight": 0.0, "soft_weight": 0.0, "feature_weight": 1.0}
    start = Trained("s", NETWORK, RECIPE.model_copy(update=changes), tmp_path)
    module = nn.Sequential(folded(start))
    before, network = {name: t.clone() for name, t in module.state_dict().items()}, module[0]
    losses: list[float] = []
    work = tmp_path / "work"
    work.mkdir()
    trainer = Trainer(Store(tmp_path / "store"), data, "false", "cpu")
    tuner(trainer, start, 2, lambda step: losses.append(step.loss), teacher, work)(module)
    after = module.state_dict()
    assert module[0] is network and not module.training and not list(work.iterdir())
    assert set(after) == set(before) and not torch.equal(after["0.features.0.weight"], before["0.features.0.weight"])
    assert losses[-1] < losses[0]


def test_the_maps_of_a_folded_network_are_compared(data: DataSet, tmp_path: Path) -> None:
    maps = {"teacher": "t", "hard_weight": 0.0, "soft_weight": 0.0, "feature_weight": 1.0}
    student = Network(family="mobilenet", backbone="mobilenetv3_small", width=0.35, resolution=32, classes=10)
    (tmp_path / "teacher").mkdir()
    teacher = _untrained(tmp_path / "teacher", student.model_copy(update={"width": 0.5}))
    start = _untrained(tmp_path, student)
    start = Trained("s", student, RECIPE.model_copy(update=maps), start.folder)
    losses: list[float] = []
    trainer = Trainer(Store(tmp_path / "store"), data, "false", "cpu")
    recover(trainer, start, _asked("palette-4", 1), lambda step: losses.append(step.loss), teacher)
    assert 0 < losses[-1] <= 4
