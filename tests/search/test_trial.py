"""A candidate's straight line: probe, teacher, training, package, score; each failure named by its stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from coreml_pareto.objectives.accuracy import evaluate
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.reading import Score
from coreml_pareto.search.data import load_data
from coreml_pareto.search.outcome import Failed, Infeasible, OutOfTime, Pruned, Scored, Stopped
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.train import Step, Trainer, preprocessing_of
from coreml_pareto.search.store import Store
from coreml_pareto.search.trial import Laboratory
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe
from coreml_pareto.spaces.compression import parse
from coreml_pareto.spaces.errors import UserError

NETWORK = Network(family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=32, classes=10, stem_stride=1)
RECIPE = Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.01, batch_size=32)
CANDIDATE = Candidate(network=NETWORK, recipe=RECIPE, compression=Compression())
TAUGHT = RECIPE.model_copy(update={"teacher": "big", "temperature": 4.0, "hard_weight": 0.5, "soft_weight": 0.5})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def _laboratory(store: Store, limits: Mapping[str, float] | None = None) -> Laboratory:
    data = load_data("digits", limit=300)
    teacher = NETWORK.model_copy(update={"width": 0.5, "resolution": 48})
    return Laboratory(
        store=store, data=data, trainer=Trainer(store, data, "false", "cpu"), packager=Packager(store, data, {"seed": 0}),
        target=Target(find_device("iPhone 15 Pro"), 17, "ALL"), limits=limits or {}, strict=False,
        teach=lambda name: (teacher, RECIPE), announce=_silent,
    )  # fmt: skip


def _silent(*_: object) -> None:
    pass


class Witness:
    """Keeps what it is told; raises `stop` at the first step or package whose stage is `when`."""

    def __init__(self, stop: Exception | None = None, when: str = "training") -> None:
        self.stop, self.when = stop, when
        self.notes: list[str] = []
        self.steps: list[Step] = []
        self.packages: list[Score] = []
        self.stages: list[tuple[str, float | None]] = []

    def note(self, doing: str) -> None:
        self.notes.append(doing)

    def stage(self, name: str, seconds: float | None) -> None:
        self.stages.append((name, seconds))

    def step(self, step: Step) -> None:
        self.steps.append(step)
        if self.stop and step.stage == self.when:
            raise self.stop

    def packaged(self, known: Score) -> None:
        self.packages.append(known)
        if self.stop and self.when == "package":
            raise self.stop


def test_the_score_is_that_of_the_package_on_disk(store: Store) -> None:
    laboratory = _laboratory(store)
    witness = Witness()
    outcome = laboratory.evaluate(CANDIDATE, witness)
    assert isinstance(outcome, Scored)
    (known,) = witness.packages
    assert known == {name: reading for name, reading in outcome.score.items() if name not in ("top1", "top5")}
    files = [path for path in outcome.package.rglob("*") if path.is_file()]
    assert outcome.score["size_bytes"].value == sum(path.stat().st_size for path in files)
    batches = laboratory.data.validation.batches(preprocessing_of(NETWORK), 7)
    assert evaluate(load(outcome.package), batches).score["top1"].value == outcome.score["top1"].value
    assert laboratory.data.test_openings == []


def test_a_repeated_candidate_costs_no_training(store: Store) -> None:
    _laboratory(store).evaluate(CANDIDATE, Witness())
    witness = Witness()
    assert isinstance(_laboratory(store).evaluate(CANDIDATE, witness), Scored)
    assert witness.steps == []


def test_a_limit_that_cannot_be_kept_ends_the_candidate_untrained(tmp_path: Path) -> None:
    witness = Witness()
    outcome = _laboratory(Store(tmp_path), {"size": 1000.0}).evaluate(CANDIDATE, witness)
    assert isinstance(outcome, Infeasible)
    assert outcome.limits == ("size",) and "top1" not in outcome.score
    assert witness.steps == []


def test_a_target_that_no_form_can_meet_ends_the_candidate_untrained(tmp_path: Path) -> None:
    witness = Witness()
    candidate = CANDIDATE.model_copy(update={"compression": parse("mixed-4KB")})
    outcome = _laboratory(Store(tmp_path)).evaluate(candidate, witness)
    assert isinstance(outcome, Failed) and outcome.stage == "probe"
    assert "mixed-4KB must leave room for the smallest forms of all layers" in outcome.cause
    assert witness.steps == []


def test_accuracy_limits_need_no_probe(store: Store) -> None:
    assert _laboratory(store, {"accuracy": 0.9}).probe(CANDIDATE) == {}


def test_a_teacher_is_trained_once_at_its_own_size(store: Store) -> None:
    witness = Witness()
    candidate = CANDIDATE.model_copy(update={"recipe": TAUGHT})
    assert isinstance(_laboratory(store).evaluate(candidate, witness), Scored)
    assert witness.notes[0].startswith("teacher squeezenet1_1×0.5 @48")
    stages = [step.stage for step in witness.steps]
    assert stages == sorted(stages) and set(stages) == {"teacher", "training"}
    again = Witness()
    assert _laboratory(store).teacher(TAUGHT, again) is not None
    assert again.steps == []


def test_a_finished_training_can_teach(store: Store) -> None:
    laboratory = _laboratory(store)
    taught = laboratory.trainer.train(NETWORK, RECIPE, _silent)
    teacher = laboratory.teacher(TAUGHT.model_copy(update={"teacher": str(taught.folder)}), Witness())
    assert teacher is not None and teacher.network == NETWORK
    with pytest.raises(UserError, match=r"folder with weights.pt and record.json"):
        laboratory.teacher(TAUGHT.model_copy(update={"teacher": "runs/none"}), Witness())


@pytest.mark.parametrize(
    ("broken", "stage"),
    [
        ("coreml_pareto.search.stages.train.Training._epoch", "training"),
        ("coreml_pareto.search.stages.package.convert", "package"),
        ("coreml_pareto.search.trial.evaluate", "score"),
    ],
)
def test_failures_name_their_stage_and_cause(
    broken: str, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("out of order")

    monkeypatch.setattr(broken, fail)
    outcome = _laboratory(Store(tmp_path)).evaluate(CANDIDATE, Witness())
    assert outcome == Failed(stage, "ValueError: out of order")


def test_a_refusal_of_one_candidate_does_not_end_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError("the executor knows no operation 'gru'")

    monkeypatch.setattr("coreml_pareto.search.trial.evaluate", refuse)
    outcome = _laboratory(Store(tmp_path)).evaluate(CANDIDATE, Witness())
    assert outcome == Failed("score", "the executor knows no operation 'gru'")


def test_the_end_of_time_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(OutOfTime):
        _laboratory(Store(tmp_path)).evaluate(CANDIDATE, Witness(OutOfTime()))


@pytest.mark.parametrize("when", ["training", "package"])
def test_what_is_stopped_ends_as_it_was_stopped_and_goes_on_when_it_may(when: str, tmp_path: Path) -> None:
    """Two epochs, stopped after the first one, which is told again: the second is all that is left to do."""
    pruned = Pruned("it cannot win", {}, (0.1, 0.2))
    candidate = CANDIDATE.model_copy(update={"recipe": RECIPE.model_copy(update={"epochs": 2})})
    laboratory = _laboratory(Store(tmp_path))
    first = Witness(Stopped(pruned), when)
    if when == "training":
        first.step = lambda step: first.steps.append(step) or _raise(first.stop, step.done == 1)  # type: ignore[method-assign]
    assert laboratory.evaluate(candidate, first) == pruned
    assert not list((tmp_path / "accuracy").glob("*"))
    second = Witness()
    assert isinstance(laboratory.evaluate(candidate, second), Scored)
    assert all(step.done > 1 for step in second.steps[1:]) and (len(second.steps) > 1) == (when == "training")
    assert [step.done for step in second.steps[:1]] == [1] * (when == "training")


def _raise(error: Exception | None, when: bool) -> None:
    if error and when:
        raise error


def test_a_network_begins_with_the_weights_of_its_parent(store: Store, tmp_path: Path) -> None:
    """Its package says so; a parent that is gone from the store is done without, and nothing says otherwise."""
    laboratory = _laboratory(store)
    parent = laboratory.trainer.train(NETWORK, RECIPE, _silent)
    larger = CANDIDATE.model_copy(update={"network": NETWORK.model_copy(update={"width": 0.5})})
    outcome = laboratory.evaluate(larger, Witness(), parent.key)
    assert isinstance(outcome, Scored)
    assert outcome.provenance["parent"] == parent.key
    assert outcome.provenance["initial_weights"].startswith("inherited-")
    assert len(outcome.provenance["curve"].split()) == 1
    orphan = laboratory.evaluate(larger, Witness(), "0123456789abcdef")
    assert isinstance(orphan, Scored) and "parent" not in orphan.provenance
    assert orphan.provenance["initial_weights"] == "random"
    assert orphan.provenance["training"] != outcome.provenance["training"]


def test_what_a_network_can_yield_is_known_before_it_is_trained(store: Store) -> None:
    """Nothing is worse than in the trained package, and little is better; what breaks a limit is left out."""
    laboratory = _laboratory(store)
    forms = [parse("fp16"), parse("int8/channel"), parse("palette-4/tensor"), parse("pruning-50"), parse("w8a8")]
    potential = list(laboratory.potential(NETWORK, forms))
    for known, form in zip(potential, forms, strict=True):
        outcome = laboratory.evaluate(CANDIDATE.model_copy(update={"compression": form}), Witness())
        assert isinstance(outcome, Scored) and "top1" not in known
        for name in ("size_bytes", "latency_ms", "memory_bytes", "energy_mj", "macs"):
            most, value = outcome.score[name].value, known[name].value
            assert value <= most * (1 + 2e-3), (name, form)
            if form.scheme != "w8a8":  # whose text is longer, and whose memory is not foreseen
                assert value >= 0.8 * most, (name, form)
    whole, small, *_ = potential
    limited = _laboratory(store, {"size": whole["size_bytes"].value - 1})
    assert list(limited.potential(NETWORK, forms[:2])) == [small]


@pytest.mark.parametrize("text", ["w8a8", "palette-2/tensor"])
def test_what_a_network_does_not_admit_ends_the_candidate_untrained(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W8A8 of a network that branches; fine-tuning of weights that the conversion changes."""
    monkeypatch.setattr("coreml_pareto.search.stages.recover.fold_scales", lambda module, example: module)
    backbone, told = {
        "w8a8": ("mobilevit_xxs", "that of mobilevit_xxs does: take weights alone (int8/channel) for it"),
        "palette-2/tensor": ("convnext_atto", "the conversion of convnext_atto changes the weights"),
    }[text]
    witness = Witness()
    candidate = Candidate(
        network=Network(family="timm", backbone=backbone, resolution=64, classes=10), recipe=RECIPE,
        compression=parse(text).model_copy(update={"fine_tune_epochs": 1}),
    )  # fmt: skip
    outcome = _laboratory(Store(tmp_path)).evaluate(candidate, witness)
    assert isinstance(outcome, Failed) and outcome.stage == "probe"
    assert told in outcome.cause
    assert witness.steps == []


def test_every_stage_is_told_when_it_begins_and_ends(tmp_path: Path) -> None:
    witness = Witness()
    told = witness.stages
    laboratory = _laboratory(Store(tmp_path))
    assert isinstance(laboratory.evaluate(CANDIDATE, witness), Scored)
    assert [name for name, seconds in told if seconds is None] == ["probe", "teacher", "training", "package", "score"]
    assert [name for name, _ in told[::2]] == [name for name, _ in told[1::2]]
    assert all(seconds is not None and seconds >= 0 for _, seconds in told[1::2])
    told.clear()
    over = _laboratory(Store(tmp_path), {"size": 1000.0})
    over.evaluate(CANDIDATE, witness)
    assert [(name, seconds is None) for name, seconds in told] == [("probe", True), ("probe", False)]
