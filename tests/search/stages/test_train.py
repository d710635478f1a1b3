"""Trainings learn, go on after a kill with the same numbers, and name what stops them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.search.data import DataSet, Split, load_data
from coreml_pareto.search.stages import train
from coreml_pareto.search.stages.device import check_device
from coreml_pareto.search.stages.train import (
    Step,
    Trainer,
    Training,
    TrainingError,
    glance,
    normalisers,
    preprocessing_of,
    teach,
)
from coreml_pareto.search.stages.trained import Trained, open_checkpoint
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network, Recipe
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import build
from coreml_pareto.spaces.weights import Initial, initialise

NETWORK = Network(family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=32, classes=10, stem_stride=1)
RECIPE = Recipe(epochs=3, learning_rate=1e-3, weight_decay=0.01, batch_size=32, seed=1)
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load_data("digits", limit=400)


def _silent(step: Step) -> None:
    pass


class _Killed(Exception):
    pass


def _weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.module().state_dict()


def test_a_killed_training_goes_on_and_ends_as_an_uninterrupted_one(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer(Store(tmp_path / "a"), data, "false", "cpu").train(NETWORK, RECIPE, _silent)
    trainer = Trainer(Store(tmp_path / "b"), data, "false", "cpu")

    def kill_within_third(step: Step) -> None:
        if step.done > 2:
            raise _Killed

    monkeypatch.setattr(train, "PULSE", 0.0)
    with pytest.raises(_Killed):
        trainer.train(NETWORK, RECIPE, kill_within_third)
    seen: list[float] = []
    resumed = trainer.train(NETWORK, RECIPE, lambda step: seen.append(step.done))
    assert seen[0] == 2 < seen[1] < seen[-1] == 3 and sorted(set(seen)) == seen
    assert resumed.key == whole.key
    for name, tensor in _weights(whole).items():
        torch.testing.assert_close(_weights(resumed)[name], tensor, msg=name)


def test_a_training_tells_the_epoch_that_it_goes_on_from_so_that_a_verdict_missed_is_taken(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill comes after a checkpoint, before its verdict; at the end there is nothing to stop."""
    trainer, told = Trainer(Store(tmp_path), data, "false", "cpu"), list[Step]()
    monkeypatch.setattr(train, "PULSE", 1e9)

    def until(epoch: int) -> None:
        def tell(step: Step) -> None:
            told.append(step)
            if step.done == epoch:
                raise _Killed

        trainer.train(NETWORK, RECIPE, tell)

    for epoch in (2, 2, 3):
        with pytest.raises(_Killed):
            until(epoch)
    assert [step.done for step in told] == [1, 2, 2, 2, 3]
    kept = [step for step in told if step.done == 2]
    assert len({(step.loss, step.curve) for step in kept}) == 1 and len(kept[0].curve) == 2
    assert all(step.seconds_left > 0 for step in kept)
    trained = trainer.train(NETWORK, RECIPE, lambda step: pytest.fail("told at its end"))
    assert [row["epoch"] for row in trained.record["history"]] == [1, 2, 3]


def test_a_training_leaves_denormal_numbers_to_others(data: DataSet, tmp_path: Path) -> None:
    Trainer(Store(tmp_path), data, "false", "cpu").train(NETWORK, RECIPE.model_copy(update={"epochs": 1}), _silent)
    assert float(torch.tensor(1e-38) / 8) > 0


def test_a_finished_training_is_not_repeated(data: DataSet, tmp_path: Path) -> None:
    trainer = Trainer(Store(tmp_path), data, "false", "cpu")
    first = trainer.train(NETWORK, RECIPE, _silent)
    steps: list[Step] = []
    again = trainer.train(NETWORK, RECIPE, steps.append)
    assert (first.key, first.folder, steps) == (again.key, again.folder, [])
    assert first.record["initial_weights"] == "random"
    assert [row["epoch"] for row in first.record["history"]] == [1, 2, 3]
    assert (tuple(first.record["classes"]), first.record["data"]) == (data.classes, data.digest)
    assert open_checkpoint(first.folder, data.classes).network == NETWORK


def test_progress_is_told_within_an_epoch_and_after_it(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "PULSE", 0.0)
    steps: list[Step] = []
    trained = Trainer(Store(tmp_path), data, "false", "cpu").train(NETWORK, RECIPE, steps.append)
    batches = len(data.train) // RECIPE.batch_size
    assert [step.done for step in steps] == pytest.approx([n / batches for n in range(1, 3 * batches + 1)])
    history = trained.record["history"]
    assert [steps[epoch * batches - 1].loss for epoch in (1, 2, 3)] == [row["loss"] for row in history]
    assert [step.top1 for step in steps[: batches - 1]] == [None] * (batches - 1)
    assert steps[-1].top1 == trained.record["glance_top1"]
    assert steps[-1].seconds_left == 0 < steps[0].seconds_left


def test_every_step_is_told_and_a_network_for_inference_stays_in_evaluation_mode(data: DataSet, tmp_path: Path) -> None:
    module, modes, done = build(NETWORK), [], []
    module.register_forward_pre_hook(lambda part, inputs: modes.append(part.training))
    trainer, recipe = Trainer(Store(tmp_path), data, "false", "cpu"), RECIPE.model_copy(update={"epochs": 2})
    training = Training(
        trainer, NETWORK, recipe, module, None, tmp_path, 0, _silent, inference=True, follow=done.append
    )
    training.run()
    steps = 2 * (len(data.train) // RECIPE.batch_size)
    assert done == pytest.approx([step / steps for step in range(1, steps + 1)])
    assert len(modes) > steps and not any(modes)


def test_keys_follow_what_a_training_reads(data: DataSet, tmp_path: Path) -> None:
    trainer = Trainer(Store(tmp_path), data)
    base = trainer.key(NETWORK, RECIPE, "random", None)
    others = [
        trainer.key(NETWORK.model_copy(update={"width": 0.5}), RECIPE, "random", None),
        trainer.key(NETWORK, RECIPE.model_copy(update={"seed": 2}), "random", None),
        trainer.key(NETWORK, RECIPE, "imagenet-0", None),
        trainer.key(NETWORK, RECIPE, "random", Trained("t", NETWORK, RECIPE, tmp_path)),
        Trainer(Store(tmp_path), dataclasses.replace(data, digest="other")).key(NETWORK, RECIPE, "random", None),
    ]
    assert len({base, *others}) == 6


def test_a_loss_that_is_no_number_ends_with_its_cause(data: DataSet, tmp_path: Path) -> None:
    wild = RECIPE.model_copy(update={"learning_rate": 1e30, "gradient_clip": 1e30})
    with pytest.raises(TrainingError, match=r"loss of squeezenet1_1.* became (nan|inf) in epoch"):
        Trainer(Store(tmp_path), data, "false", "cpu").train(NETWORK, wild, _silent)


def test_a_student_learns_from_its_teacher(data: DataSet, tmp_path: Path) -> None:
    """With the teacher's soft labels alone (hard weight 0) the student moves towards the teacher's answers."""
    trainer = Trainer(Store(tmp_path), data, "false", "cpu")
    teacher = trainer.train(NETWORK, RECIPE, _silent)
    recipe = RECIPE.model_copy(
        update={"teacher": "teacher", "temperature": 2.0, "hard_weight": 0.0, "soft_weight": 1.0, "feature_weight": 0.1}
    )
    losses: list[float] = []
    student = trainer.train(NETWORK, recipe, lambda step: losses.append(step.loss), teacher)
    assert losses[-1] < losses[0]
    assert set(_weights(student)) == set(_weights(teacher))  # the adapters were dropped


def _untrained(network: Network, folder: Path) -> Trained:
    """A teacher whose weights are random: only its form matters."""
    torch.manual_seed(1)
    torch.save(build(network).state_dict(), folder / "weights.pt")
    return Trained("untrained", network, RECIPE, folder)


MAPS_ALONE = RECIPE.model_copy(
    update={"epochs": 1, "teacher": "t", "hard_weight": 0.0, "soft_weight": 0.0, "feature_weight": 1.0}
)


def test_the_maps_of_a_transformer_teach(data: DataSet, tmp_path: Path) -> None:
    teacher = _untrained(Network(family="timm", backbone="vit_tiny_patch16_224", resolution=32, classes=10), tmp_path)
    student = Network(family="mobilenet", backbone="mobilenetv3_small", width=0.35, resolution=64, classes=10)
    few = dataclasses.replace(data, train=data.train.subset(np.arange(64)))
    losses: list[float] = []
    Trainer(Store(tmp_path / "store"), few, "false", "cpu").train(
        student, MAPS_ALONE, lambda step: losses.append(step.loss), teacher
    )
    assert 0 < losses[-1] <= 4


def test_networks_without_a_common_map_are_refused_before_the_first_epoch(data: DataSet, tmp_path: Path) -> None:
    teacher = _untrained(Network(family="timm", backbone="gmlp_ti16_224", resolution=32, classes=10), tmp_path)
    steps: list[Step] = []
    with pytest.raises(TrainingError, match=r"squeezenet1_1.* and its teacher gmlp_ti16_224.* share no feature maps"):
        Trainer(Store(tmp_path / "store"), data, "false", "cpu").train(NETWORK, MAPS_ALONE, steps.append, teacher)
    assert not steps


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_student_learns_from_its_teacher_on_a_gpu(data: DataSet, tmp_path: Path) -> None:
    """Under autocast the student's maps come in half precision, the teacher's do not."""
    teacher = _untrained(NETWORK.model_copy(update={"width": 0.5}), tmp_path)
    student = Network(family="mobilenet", backbone="mobilenetv3_small", width=0.35, resolution=32, classes=10)
    recipe = MAPS_ALONE.model_copy(update={"hard_weight": 1.0, "soft_weight": 1.0})
    few = dataclasses.replace(data, train=data.train.subset(np.arange(64)))
    trained = Trainer(Store(tmp_path / "store"), few, "false", "cuda").train(student, recipe, _silent, teacher)
    assert trained.record["device"] == "cuda"
    assert all(tensor.isfinite().all() for tensor in _weights(trained).values())


def test_the_teacher_sees_its_own_resolution(data: DataSet) -> None:
    seen: list[tuple[int, ...]] = []

    class Watcher(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(images.shape))
            return torch.zeros(len(images), 10)

    teach(Watcher(), NETWORK.model_copy(update={"resolution": 64}), torch.rand(2, 3, 32, 32))
    assert seen == [(2, 3, 64, 64)]


def test_a_glance_counts_right_answers(data: DataSet) -> None:
    class Always(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[torch.full((len(images),), 3)]

    mean, std = normalisers(NETWORK, torch.device("cpu"))
    share = glance(Always(), data.validation, preprocessing_of(NETWORK), mean, std)
    assert share == pytest.approx(float((data.validation.targets == 3).mean()))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The folder of a training, as a run leaves it (never trained: only its form matters)."""
    torch.manual_seed(1)
    torch.save(build(NETWORK).state_dict(), tmp_path / "weights.pt")
    record = {"network": NETWORK.model_dump(), "recipe": RECIPE.model_dump(), "classes": DIGITS, "data": "0123"}
    (tmp_path / "record.json").write_text(json.dumps(record))
    return tmp_path


def test_a_checkpoint_opens_with_its_weights(checkpoint: Path) -> None:
    opened = open_checkpoint(checkpoint, DIGITS)
    assert (opened.network, opened.recipe) == (NETWORK, RECIPE)
    saved = torch.load(checkpoint / "weights.pt", weights_only=True)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in _weights(opened).items())


def test_a_checkpoint_may_be_written_from_the_home_folder(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    assert open_checkpoint(Path("~", checkpoint.name), DIGITS).folder == checkpoint


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04junk", b"junk", b"\x80\x02junk", b"\x80\x05", bytes(4096)])
def test_a_broken_weights_file_is_no_checkpoint(content: bytes, checkpoint: Path) -> None:
    (checkpoint / "weights.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"a folder with weights\.pt and record\.json, .* is none \(\w+\)"):
        open_checkpoint(checkpoint, DIGITS)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_weights_file_cut_off_is_no_checkpoint(kept: float, checkpoint: Path) -> None:
    whole = (checkpoint / "weights.pt").read_bytes()
    (checkpoint / "weights.pt").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UserError, match="is none"):
        open_checkpoint(checkpoint, DIGITS)


@pytest.mark.parametrize(
    "state", [[1, 2], {"a": torch.zeros(2)}, build(NETWORK.model_copy(update={"width": 0.5})).state_dict()]
)
def test_weights_of_something_else_are_no_checkpoint(state: object, checkpoint: Path) -> None:
    torch.save(state, checkpoint / "weights.pt")
    with pytest.raises(UserError, match="is none"):
        open_checkpoint(checkpoint, DIGITS)


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"network": {}, "recipe": {}}'])
def test_a_broken_record_is_no_checkpoint(record: str, checkpoint: Path) -> None:
    (checkpoint / "record.json").write_text(record)
    with pytest.raises(UserError, match="is none"):
        open_checkpoint(checkpoint, DIGITS)


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing is none \(FileNotFoundError\)"):
        open_checkpoint(tmp_path / "missing", DIGITS)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("0", "1", "2"), "only in the teacher: '3', '4', '5', '6', '7' and 2 more; {folder} is"),
        (
            (*DIGITS[:8], "eight", "nine"),
            "only in the data: 'eight', 'nine'; only in the teacher: '8', '9'; {folder} is",
        ),
        (DIGITS[::-1], "the teacher has them as '0', '1', '2', '3', '4' and 5 more; {folder} is"),
    ],
    ids=["fewer", "other names", "another order"],
)
def test_a_checkpoint_for_other_classes_is_refused(classes: tuple[str, ...], said: str, checkpoint: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_checkpoint(checkpoint, classes)
    assert said.format(folder=checkpoint) in str(caught.value)


def test_of_a_checkpoint_without_names_only_their_number_is_known(checkpoint: Path) -> None:
    record = json.loads((checkpoint / "record.json").read_text())
    del record["classes"]
    (checkpoint / "record.json").write_text(json.dumps(record))
    assert open_checkpoint(checkpoint, tuple("abcdefghij")).network == NETWORK
    with pytest.raises(UserError, match="the teacher knows 10, the data has 3"):
        open_checkpoint(checkpoint, tuple("abc"))


def test_a_teacher_is_looked_at_with_the_pictures_at_hand(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reached on its own pictures is no word about others; on the same ones it was looked at already."""
    recipe = RECIPE.model_copy(update={"epochs": 1})
    trained = Trainer(Store(tmp_path), data, "false", "cpu").train(NETWORK, recipe, _silent)
    other = load_data("digits", limit=400, seed=7)

    def look(
        module: torch.nn.Module, split: Split, rule: Preprocessing, mean: torch.Tensor, std: torch.Tensor
    ) -> float:
        assert not module.training and rule == preprocessing_of(NETWORK)
        assert split is other.validation
        return 0.25

    monkeypatch.setattr(train, "glance", look)
    assert Trainer(Store(tmp_path), other, "false", "cpu").top1(trained) == 0.25
    assert Trainer(Store(tmp_path), data, "false", "cpu").top1(trained) == trained.record["glance_top1"]


@pytest.mark.parametrize("wish", ["cuda", "mps"])
def test_a_device_is_refused_exactly_where_torch_has_none(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there and wish == "cuda")  # noqa: B023
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there and wish == "mps")  # noqa: B023
        check_device("auto")
        check_device("cpu")
        if there:
            check_device(wish)
        else:
            with pytest.raises(UserError, match=rf"torch finds here \(auto, cpu\); got '{wish}': set it to auto"):
                check_device(wish)


@pytest.mark.parametrize(("width", "weights"), [(0.25, "inherited-"), (0.35, "imagenet-abc")])
def test_weights_of_more_pictures_are_kept_where_the_parent_has_another_width(
    width: float, weights: str, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known(network: Network, policy: str, seed: int) -> Initial:
        return dataclasses.replace(initialise(network, "false", seed), weights="imagenet-abc")

    trainer, short = Trainer(Store(tmp_path), data, "false", "cpu"), RECIPE.model_copy(update={"epochs": 1})
    parent = trainer.train(NETWORK, short, _silent)
    monkeypatch.setattr("coreml_pareto.search.stages.train.initialise", known)
    child = trainer.train(NETWORK.model_copy(update={"width": width, "resolution": 48}), short, _silent, parent=parent)
    assert child.record["initial_weights"].startswith(weights)
    assert child.record["parent"] == (parent.key if weights == "inherited-" else None)
