"""Three planted cases of each failure are found, nine healthy runs raise no alarm, and nothing is passed over in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.paired import compare
from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program import Program, load
from coreml_pareto.objectives.unpaired import Count
from coreml_pareto.search.diagnosis import case
from coreml_pareto.search.diagnosis.case import Case, Measured, Softness
from coreml_pareto.search.diagnosis.examine import Drop, diagnose, examine, examine_package, require_same_network
from coreml_pareto.search.diagnosis.finding import FAILURES, SEVERITIES
from coreml_pareto.search.diagnosis.measuring import measure
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.preparation import limited, read
from coreml_pareto.search.run import Run
from coreml_pareto.search.stages import train
from coreml_pareto.spaces.errors import UserError

TARGET = Target(find_device("iPhone 15 Pro"), 17)
MILD = Softness((0.4, 0.39, 0.41), (0.3, 0.28, 0.32), 512)
HARD = Softness((0.01, 0.009, 0.011), (0.004, 0.003, 0.005), 512)


def quantized(record: Any, scheme: str, lost: int) -> Case:
    whole = record.right(0.92)
    record.package("t", whole)
    record.package("t", record.disturbed(whole, lost, lost // 10), scheme, 3e5)
    return Case(record.run())


def distilled(record: Any, student: float, teacher: float, softness: Softness, **recipe: Any) -> Case:
    own = record.taught.model_copy(update=recipe)
    record.teacher(teacher)
    record.training("s", record.network, own, [student])
    record.package("s", record.right(student), recipe=own)
    return Case(record.run(), Measured(softness={"s": softness}))


def fitted(record: Any, training: float, validation: float) -> Case:
    record.training("t", record.network, record.plain, [validation])
    record.package("t", record.right(validation))
    return Case(record.run(), Measured(fits={"t": Count(round(512 * training), 512)}))


def real(run: Run) -> Case:
    plain = Case(run)
    assert plain.plan is not None
    return Case(run, measure(plain, limited(read(plain.plan), plain.plan)))


PLANTED: dict[str, tuple[str, str, Callable[[Any, Callable[[str], Any]], Case]]] = {
    "one bit, real": (FAILURES[0], "drop", lambda record, get: real(get("sound_and_ruined"))),
    "w8a8 that loses 6 points": (FAILURES[0], "drop", lambda record, get: quantized(record, "w8a8", 135)),
    "pruning that loses 12 points": (FAILURES[0], "drop", lambda record, get: quantized(record, "pruning-50", 270)),
    "a teacher of one epoch, real": (FAILURES[1], "weaker", lambda record, get: real(get("weakly_taught"))),
    "a teacher that is not heard": (
        FAILURES[1], "weights", lambda record, get: distilled(record, 0.9, 0.93, MILD, soft_weight=0.0),
    ),
    "soft labels that are labels": (
        FAILURES[1], "temperature", lambda record, get: distilled(record, 0.9, 0.93, HARD, temperature=1.0),
    ),
    "forty pictures, real": (FAILURES[2], "overfitting", lambda record, get: real(get("learned_by_heart"))),
    "one epoch, real": (FAILURES[2], "underfitting", lambda record, get: real(get("barely_trained"))),
    "learned by heart": (FAILURES[2], "overfitting", lambda record, get: fitted(record, 1.0, 0.75)),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_failure_is_found(name: str, record: Any, request: pytest.FixtureRequest) -> None:
    failure, cause, plant = PLANTED[name]
    found = examine(plant(record, request.getfixturevalue))
    matching = [one for one in found.findings if one.failure == failure and cause in one.cause]
    assert len(matching) == 1
    (finding,) = matching
    assert finding.evidence and finding.remedy and finding.command.startswith("coreml-pareto ")
    assert finding.trials and finding.severity in SEVERITIES
    assert any(check.state == "found" and check.cause == finding.cause for check in found.checks)


def healthy(record: Any, seed: int, package: Path) -> Case:
    """Three trainings, one of them taught, in three forms each: small losses, a better teacher, a sound fit."""
    random = np.random.default_rng(seed)
    record.teacher(0.95)
    fits, base = {}, 0.90 + 0.03 * random.random()
    for key, width, recipe in (("a", 0.5, record.plain), ("b", 0.5, record.taught), ("c", 0.75, record.plain)):
        network = record.network.model_copy(update={"width": width})
        whole = record.disturbed(record.right(base, seed), 40, int(random.integers(35, 55)), seed)
        record.training(key, network, recipe, [0.5, float(whole.mean())])
        fits[key] = Count(int(random.binomial(512, 0.96)), 512)
        for scheme, size in (("fp16", 1e6), ("int8/channel", 5e5), ("palette-6/tensor", 4e5)):
            lost, gained = (0, 0) if scheme == "fp16" else random.integers(20, 35, size=2)
            right = record.disturbed(whole, int(lost), int(gained), seed + 1)
            record.package(key, right, scheme, size * width, recipe=recipe, network=network, path=package)
    return Case(record.run(), Measured(fits=fits, softness={"b": MILD}))


@pytest.mark.parametrize("seed", range(8))
def test_a_healthy_run_raises_no_alarm(seed: int, record: Any, sound_and_ruined: Run) -> None:
    outcome = sound_and_ruined.results[0].outcome
    assert isinstance(outcome, Scored)
    found = examine(healthy(record, seed, outcome.package))
    assert found.findings == ()
    assert {check.failure for check in found.checks if check.state == "healthy"} == set(FAILURES)
    assert not [check for check in found.checks if check.state == "found"]


def test_a_healthy_real_search_raises_no_alarm(sound_and_ruined: Run) -> None:
    sound = tuple(r for r in sound_and_ruined.results if r.candidate.compression.scheme != "palette")
    assert len(sound) == 2
    found = examine(real(replace(sound_and_ruined, results=sound)))
    assert found.findings == ()
    states = {check.cause: check.state for check in found.checks}
    assert states.pop("all of them") == "unknown" and set(states.values()) == {"healthy"}  # no teacher in this run


def test_from_the_record_alone(sound_and_ruined: Run) -> None:
    (finding,) = diagnose(sound_and_ruined)
    assert finding.failure == FAILURES[0]
    assert examine(Case(sound_and_ruined, only=0)).findings == ()
    assert examine(Case(sound_and_ruined, only=finding.trials[0])).findings[0].trials == finding.trials


def test_a_run_without_packages(record: Any) -> None:
    found = examine(Case(record.run()))
    assert not found.findings and [check.state for check in found.checks] == ["unknown"] * 3
    assert {check.failure for check in found.checks} == set(FAILURES)


def test_a_glance_is_the_one_of_trainings() -> None:
    assert case.GLANCE == train.GLANCE  # written twice, so that records are read without torch


def test_findings_come_by_severity(record: Any) -> None:
    whole = record.right(0.92)
    record.package("t", whole, recipe=record.taught.model_copy(update={"soft_weight": 0.0}))
    taught = record.results[0].candidate.recipe
    record.package("t", record.disturbed(whole, 400, 0), "palette-2/tensor", recipe=taught)
    assert [one.severity for one in diagnose(record.run())] == ["severe", "warning"]


def test_two_networks_differ_by_more_than_a_compression() -> None:
    def program(metadata: dict[str, str]) -> Program:
        return cast("Program", SimpleNamespace(metadata=metadata, path=Path("x.mlpackage")))

    one, other = program({f"{PREFIX}network": "a"}), program({f"{PREFIX}network": "b"})
    with pytest.raises(UserError, match="same network uncompressed"):
        require_same_network(one, other)
    require_same_network(one, one)
    require_same_network(one, program({}))  # a package of another tool does not tell


def test_a_package_without_its_run(sound_and_ruined: Run) -> None:
    outcome = sound_and_ruined.results[0].outcome
    assert isinstance(outcome, Scored)
    program = load(outcome.package)
    found = examine_package(program, TARGET)
    assert not found.findings and {c.failure for c in found.checks if c.state == "unknown"} == set(FAILURES)
    whole, ruined = np.arange(500) < 450, np.arange(500) < 300
    bad = examine_package(program, TARGET, Drop(compare(whole, ruined), "fp16.mlpackage", "./my photos"))
    (finding,) = bad.findings
    assert finding.failure == FAILURES[0] and finding.severity == "severe" and "fp16.mlpackage" in finding.command
    assert finding.command.endswith(" --data './my photos'")
    same = examine_package(program, TARGET, Drop(compare(whole, whole), "fp16.mlpackage", "digits"))
    assert not same.findings
    silent = json.loads(program.metadata[f"{PREFIX}training"])
    silent["recipe"] |= {"teacher": "resnet18", "hard_weight": 1.0, "soft_weight": 0.0}
    unheard = replace(program, metadata={**program.metadata, f"{PREFIX}training": json.dumps(silent)})
    (finding,) = examine_package(unheard, TARGET).findings
    assert finding.failure == FAILURES[1] and finding.trials == ()
