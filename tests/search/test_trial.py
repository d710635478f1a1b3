"""A candidate's straight line: probe, teacher, training, package, score; each failure named by its stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from coreml_pareto.objectives.accuracy import evaluate
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.program import load
from coreml_pareto.search.data import load_data
from coreml_pareto.search.outcome import Failed, Infeasible, OutOfTime, Scored
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


def test_the_score_is_that_of_the_package_on_disk(store: Store) -> None:
    laboratory = _laboratory(store)
    outcome = laboratory.evaluate(CANDIDATE, _silent, _silent)
    assert isinstance(outcome, Scored)
    files = [path for path in outcome.package.rglob("*") if path.is_file()]
    assert outcome.score["size_bytes"].value == sum(path.stat().st_size for path in files)
    batches = laboratory.data.validation.batches(preprocessing_of(NETWORK), 7)
    assert evaluate(load(outcome.package), batches).score["top1"].value == outcome.score["top1"].value
    assert laboratory.data.test_openings == []


def test_a_repeated_candidate_costs_no_training(store: Store) -> None:
    _laboratory(store).evaluate(CANDIDATE, _silent, _silent)
    steps: list[Step] = []
    assert isinstance(_laboratory(store).evaluate(CANDIDATE, steps.append, _silent), Scored)
    assert steps == []


def test_a_limit_that_cannot_be_kept_ends_the_candidate_untrained(tmp_path: Path) -> None:
    steps: list[Step] = []
    outcome = _laboratory(Store(tmp_path), {"size": 1000.0}).evaluate(CANDIDATE, steps.append, _silent)
    assert isinstance(outcome, Infeasible)
    assert outcome.limits == ("size",) and "top1" not in outcome.score
    assert steps == []


def test_a_target_that_no_form_can_meet_ends_the_candidate_untrained(tmp_path: Path) -> None:
    steps: list[Step] = []
    candidate = CANDIDATE.model_copy(update={"compression": parse("mixed-4KB")})
    outcome = _laboratory(Store(tmp_path)).evaluate(candidate, steps.append, _silent)
    assert isinstance(outcome, Failed) and outcome.stage == "probe"
    assert "mixed-4KB must leave room for the smallest forms of all layers" in outcome.cause
    assert steps == []


def test_accuracy_limits_need_no_probe(store: Store) -> None:
    assert _laboratory(store, {"accuracy": 0.9}).probe(CANDIDATE) == {}


def test_a_teacher_is_trained_once_at_its_own_size(store: Store) -> None:
    notes: list[str] = []
    candidate = CANDIDATE.model_copy(update={"recipe": TAUGHT})
    assert isinstance(_laboratory(store).evaluate(candidate, _silent, notes.append), Scored)
    assert notes[0].startswith("teacher squeezenet1_1×0.5 @48")
    steps: list[Step] = []
    assert _laboratory(store).teacher(TAUGHT, steps.append, _silent) is not None
    assert steps == []


def test_a_finished_training_can_teach(store: Store) -> None:
    laboratory = _laboratory(store)
    taught = laboratory.trainer.train(NETWORK, RECIPE, _silent)
    teacher = laboratory.teacher(TAUGHT.model_copy(update={"teacher": str(taught.folder)}), _silent, _silent)
    assert teacher is not None and teacher.network == NETWORK
    with pytest.raises(UserError, match=r"folder with weights.pt and record.json"):
        laboratory.teacher(TAUGHT.model_copy(update={"teacher": "runs/none"}), _silent, _silent)


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
    outcome = _laboratory(Store(tmp_path)).evaluate(CANDIDATE, _silent, _silent)
    assert outcome == Failed(stage, "ValueError: out of order")


def test_a_refusal_of_one_candidate_does_not_end_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError("the executor knows no operation 'gru'")

    monkeypatch.setattr("coreml_pareto.search.trial.evaluate", refuse)
    outcome = _laboratory(Store(tmp_path)).evaluate(CANDIDATE, _silent, _silent)
    assert outcome == Failed("score", "the executor knows no operation 'gru'")


def test_the_end_of_time_is_no_failure(tmp_path: Path) -> None:
    def over(step: Step) -> None:
        raise OutOfTime

    with pytest.raises(OutOfTime):
        _laboratory(Store(tmp_path)).evaluate(CANDIDATE, over, _silent)
