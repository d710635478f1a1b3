"""Teachers without a voice, at a useless temperature, weaker than their students, or in the way."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.unpaired import Count, gap
from coreml_pareto.search.config import dump_plan, load_plan
from coreml_pareto.search.diagnosis import distillation
from coreml_pareto.search.diagnosis.case import Case, Measured, Softness
from coreml_pareto.search.diagnosis.distillation import TEMPERATURE, VOICE, WEAKER, WORSE
from coreml_pareto.search.diagnosis.examine import diagnose
from coreml_pareto.search.diagnosis.finding import Check, Finding
from coreml_pareto.search.diagnosis.measuring import measure, soften
from coreml_pareto.search.preparation import limited, read
from coreml_pareto.search.record import PLAN
from coreml_pareto.search.run import Run
from coreml_pareto.search.settings import settings_of
from coreml_pareto.search.stages.trained import Trained


def checked(run: Run, **how: Any) -> tuple[dict[str, Finding], dict[str, Check]]:
    parts = list(distillation.check(Case(run, **how)))
    findings = {p.cause: p for p in parts if isinstance(p, Finding)}
    return findings, {p.cause: p for p in parts if isinstance(p, Check)}


def taught(record: Any, student: float, teacher: float, **recipe: Any) -> Run:
    """A student and its teacher by their top-1, on the same images."""
    own = record.taught.model_copy(update=recipe)
    record.teacher(teacher)
    record.training("s", record.network, own, [0.2, student])
    record.package("s", record.right(student), recipe=own)
    run: Run = record.run()
    return run


def test_a_sound_distillation(record: Any) -> None:
    run = taught(record, 0.90, 0.93)
    soft = Softness((0.4, 0.39, 0.41), (0.3, 0.28, 0.32), 512)
    findings, checks = checked(run, measured=Measured(softness={"s": soft}))
    assert not findings
    states = {cause: check.state for cause, check in checks.items()}
    assert states == {VOICE: "healthy", TEMPERATURE: "healthy", WEAKER: "healthy", WORSE: "unknown"}


@pytest.mark.parametrize(
    ("weights", "severity"),
    [
        ({"soft_weight": 0.0}, "warning"),
        ({"soft_weight": 0.02, "hard_weight": 1.0}, "notice"),
        ({"soft_weight": 0.2, "hard_weight": 1.0}, None),
        ({"soft_weight": 0.0, "feature_weight": 0.1}, None),  # taught by feature maps alone (FitNets)
        ({"soft_weight": 1.0, "hard_weight": 0.0}, None),
    ],
)
def test_a_teacher_without_a_voice(record: Any, weights: dict[str, float], severity: str | None) -> None:
    findings, checks = checked(taught(record, 0.90, 0.93, **weights))
    assert (findings[VOICE].severity if VOICE in findings else None) == severity
    assert checks[VOICE].state == ("healthy" if severity is None else "found")


@pytest.mark.parametrize(
    ("entropy", "beside", "found"),
    [
        ((0.01, 0.009, 0.011), (0.004, 0.003, 0.005), "one-hot"),
        ((0.01, 0.009, 0.011), (0.009, 0.007, 0.011), None),  # the interval holds the bound
        ((0.98, 0.97, 0.99), (0.88, 0.87, 0.89), "uniform"),
        ((0.96, 0.94, 0.98), (0.80, 0.79, 0.81), None),
    ],
)
def test_temperature(record: Any, entropy: Any, beside: Any, found: str | None) -> None:
    run = taught(record, 0.90, 0.93)
    findings, checks = checked(run, measured=Measured(softness={"s": Softness(entropy, beside, 512)}))
    assert checks[TEMPERATURE].state == ("healthy" if found is None else "found")
    assert (found is None) == (TEMPERATURE not in findings)
    if found is not None:
        assert found in findings[TEMPERATURE].what and "T = 4" in findings[TEMPERATURE].what


def test_a_temperature_that_was_not_measured_is_said_so(record: Any) -> None:
    assert checked(taught(record, 0.90, 0.93))[1][TEMPERATURE].state == "unknown"


@pytest.mark.parametrize(("student", "teacher", "found"), [(0.90, 0.80, True), (0.90, 0.88, False), (0.8, 0.9, False)])
def test_a_weaker_teacher(record: Any, student: float, teacher: float, found: bool) -> None:
    findings, checks = checked(taught(record, student, teacher))
    assert (WEAKER in findings) == found and checks[WEAKER].state == ("found" if found else "healthy")
    ahead = gap(Count(round(512 * student), 512), Count(round(512 * teacher), 512))
    assert (ahead.low > 0) == found
    if found:
        evidence = findings[WEAKER].evidence[0]
        assert (evidence.value, evidence.low, evidence.high) == pytest.approx(
            (100 * ahead.value, 100 * ahead.low, 100 * ahead.high)
        )
        assert "distillation.teacher_epochs=60" in shlex.split(findings[WEAKER].command)


def test_a_teacher_that_is_gone_is_said_so(record: Any) -> None:
    record.training("s", record.network, record.taught, [0.9])
    record.package("s", record.right(0.9), recipe=record.taught)
    findings, checks = checked(record.run())
    assert not findings and checks[WEAKER].state == "unknown"


@pytest.mark.parametrize(("lost", "state"), [(40, "healthy"), (160, "found")])
def test_worse_than_without(record: Any, lost: int, state: str) -> None:
    """2 points less may be the seeds, 8 points are told."""
    whole = record.right(0.9)
    record.teacher(0.95)
    for key, recipe, found in (("p", record.plain, whole), ("s", record.taught, record.disturbed(whole, lost, 0))):
        record.training(key, record.network, recipe, [found.mean()])
        record.package(key, found, recipe=recipe)
    findings, checks = checked(record.run())
    assert checks[WORSE].state == state and (WORSE in findings) == (state == "found")
    if WORSE in findings:
        assert findings[WORSE].trials == (1,) and "trial 0" in findings[WORSE].what


def test_only_trainings_that_are_otherwise_alike_are_compared(record: Any) -> None:
    record.training("s", record.network, record.taught, [0.5])
    record.package("s", record.right(0.5), recipe=record.taught)
    record.package("p", record.right(0.9), recipe=record.plain.model_copy(update={"epochs": 30}))
    findings, checks = checked(record.run())
    assert WORSE not in findings and checks[WORSE].state == "unknown"


def one_of_two(record: Any, lost: int, first: str, second: str, parents: tuple[str | None, str | None]) -> Run:
    """A network alone and one that was taught, in some forms each, by whose weights they began with."""
    whole = record.right(0.9)
    for key, recipe, found, forms, parent in (
        ("p", record.plain, whole, first, parents[0]),
        ("s", record.taught, record.disturbed(whole, lost, 0), second, parents[1]),
    ):
        for form in forms.split():
            record.package(key, found, form, recipe=recipe)
            record.results[-1] = replace(record.results[-1], parent=parent)
    run: Run = record.run()
    return run


@pytest.mark.parametrize(
    ("parents", "state"),
    [((None, None), "found"), (("x", "x"), "found"), ((None, "p"), "found"), (("s", None), "unknown"), (("x", None), "unknown")],
)  # fmt: skip
def test_what_went_on_from_the_student_is_no_comparison(record: Any, parents: Any, state: str) -> None:
    """The network alone may have begun with the student's weights: of course it is better."""
    findings, checks = checked(one_of_two(record, 160, "fp16", "fp16", parents))
    assert checks[WORSE].state == state and (WORSE in findings) == (state == "found")


def test_a_twin_is_looked_for_in_every_form(record: Any) -> None:
    findings, _ = checked(one_of_two(record, 160, "fp16", "int8/channel fp16", (None, None)))
    assert findings[WORSE].trials == (2, 1)


@pytest.mark.parametrize(("data", "state"), [("d", "found"), ("d-0123", "found"), ("e", "unknown")])
def test_a_checkpoint_is_compared_on_the_same_pictures(record: Any, tmp_path: Path, data: str, state: str) -> None:
    own = record.taught.model_copy(update={"teacher": str(tmp_path / "mine")})
    record.training("s", record.network, own, [0.9])
    record.package("s", record.right(0.9), recipe=own)
    plain = json.loads((record.folder / "store" / "train" / "s" / "record.json").read_text())
    (tmp_path / "mine").mkdir()
    weak = {**plain, "data": data, "history": [{"top1": 0.7}]}
    (tmp_path / "mine" / "record.json").write_text(json.dumps(weak))
    findings, checks = checked(record.run())
    assert checks[WEAKER].state == state and (WEAKER in findings) == (state == "found")
    if state == "found":
        assert "teacher_epochs" not in findings[WEAKER].command  # it is trained already


def test_a_student_of_the_teacher_s_form_is_not_taken_for_it(record: Any) -> None:
    record.teacher(0.95)
    path = record.folder / "store" / "train" / "teacher" / "record.json"
    heir = json.loads(path.read_text()) | {"parent": "s", "history": [{"top1": 0.5}]}
    (path.parent.parent / "heir").mkdir()
    (path.parent.parent / "heir" / "record.json").write_text(json.dumps(heir))  # comes first by name
    record.training("s", record.network, record.taught, [0.9])
    record.package("s", record.right(0.9), recipe=record.taught)
    findings, checks = checked(record.run())
    assert WEAKER not in findings and checks[WEAKER].state == "healthy"


@pytest.mark.parametrize(
    ("temperature", "hot", "setting"),
    [
        (1.0, True, "distillation.temperature=[3, 5, 8]"), (8.0, True, "distillation.temperature=[10]"),
        (10.0, True, "distillation.feature_weight=[0.1, 1.0]"), (4.0, False, "distillation.temperature=[1, 2, 3]"),
        (2.0, False, "distillation.temperature=[1]"), (1.0, False, "distillation.teachers=[none]"),
    ],
)  # fmt: skip
def test_other_temperatures_lie_on_the_right_side(record: Any, temperature: float, hot: bool, setting: str) -> None:
    soft = Softness((0.01, 0.009, 0.011), (0.004, 0.003, 0.005), 512)
    flat = Softness((0.98, 0.97, 0.99), (0.88, 0.87, 0.89), 512)
    run = taught(record, 0.90, 0.93, temperature=temperature)
    findings, _ = checked(run, measured=Measured(softness={"s": soft if hot else flat}))
    words = shlex.split(findings[TEMPERATURE].command)
    assert words[-1] == setting and load_plan(words[2], settings_of([setting]))


def test_a_run_whose_study_machines_share_is_searched_again_under_another_name(record: Any) -> None:
    record.plan = load_plan(
        None, {**record.plan.model_dump(mode="json"), "store": "/shared", "storage": "postgresql://a@host/b"}
    )
    (record.folder / PLAN).write_text(dump_plan(record.plan))
    words = shlex.split(Case(record.run()).search("wider", "networks.width=[1]"))
    assert load_plan(words[2], settings_of([words[-1]])).name == "birds-wider"


def test_a_run_without_teachers(record: Any) -> None:
    record.package("p", record.right(0.9))
    findings, checks = checked(record.run())
    assert not findings and [check.state for check in checks.values()] == ["unknown"]


def test_a_weak_teacher_is_found_in_a_real_search(weakly_taught: Run) -> None:
    found = {one.cause: one for one in diagnose(weakly_taught)}
    assert WEAKER in found
    words = shlex.split(found[WEAKER].command)
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    plan = load_plan(words[2], settings_of(settings))  # the command asks a legal question
    assert plan.distillation.teacher_epochs == 3 and plan.distillation.teachers == ("none", "squeezenet1_1")


def test_a_teacher_is_measured_at_its_temperature(weakly_taught: Run) -> None:
    case = Case(weakly_taught)
    assert case.plan is not None
    data = limited(read(case.plan), case.plan)
    measured = measure(case, data)
    (key,) = measured.softness
    found = measured.softness[key]
    teacher = case.teacher_of(weakly_taught.results[0])
    assert teacher is not None and found.images == 512
    trained = Trained.of(weakly_taught.folder / "store" / "train" / teacher.key)
    sample = data.train.subset(data.train.sample(512, seed=0))
    softer, hardest = soften(trained, sample, 32, 10), soften(trained, sample, 32, 1e-7)
    assert softer.entropy[0] > found.entropy[0] > hardest.entropy[0]
    assert softer.entropy[0] == pytest.approx(1, abs=0.03)
    assert hardest.beside[0] == pytest.approx(0, abs=0.01)
    assert measured.fits[key].images == 512 and measured.training_images == len(data.train)
