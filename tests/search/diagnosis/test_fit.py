"""Networks that learn by heart, that do not learn, and sound ones: by counts whose truth is known, and real ones."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from coreml_pareto.objectives.unpaired import Count
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.diagnosis import fit
from coreml_pareto.search.diagnosis.case import Case, Measured
from coreml_pareto.search.diagnosis.examine import examine
from coreml_pareto.search.diagnosis.finding import Check, Finding
from coreml_pareto.search.diagnosis.fit import OVER, UNDER
from coreml_pareto.search.diagnosis.measuring import measure
from coreml_pareto.search.preparation import limited, read
from coreml_pareto.search.run import Run
from coreml_pareto.search.settings import settings_of


def checked(run: Run, fits: dict[str, Count]) -> tuple[dict[str, Finding], dict[str, Check]]:
    parts = list(fit.check(Case(run, Measured(fits=fits))))
    findings = {p.cause: p for p in parts if isinstance(p, Finding)}
    return findings, {p.cause: p for p in parts if isinstance(p, Check)}


def one(record: Any, validation: float, limits: dict[str, float] | None = None) -> Run:
    record.training("t", record.network, record.plain, [validation])
    record.package("t", record.right(validation))
    run: Run = record.run(limits)
    return run


@pytest.mark.parametrize(
    ("training", "validation", "severity"),
    [(0.97, 0.94, None), (0.99, 0.93, None), (1.0, 0.90, "warning"), (1.0, 0.7, "severe"), (0.90, 0.95, None)],
)
def test_overfitting(record: Any, training: float, validation: float, severity: str | None) -> None:
    """6 points ahead may be 5, which is tolerated; 10 may not."""
    findings, checks = checked(one(record, validation), {"t": Count(round(512 * training), 512)})
    assert (findings[OVER].severity if OVER in findings else None) == severity
    assert checks[OVER].state == ("healthy" if severity is None else "found") and UNDER not in findings
    if OVER in findings:
        assert "networks.width=[0.25, 0.5]" in shlex.split(findings[OVER].command)


@pytest.mark.parametrize(("training", "found"), [(0.75, True), (0.78, False), (0.82, False)])
def test_underfitting_where_nothing_better_is_known(record: Any, training: float, found: bool) -> None:
    findings, _ = checked(one(record, training), {"t": Count(round(512 * training), 512)})
    assert (UNDER in findings) == found
    if found:
        assert findings[UNDER].severity == "notice" and "80 %" in findings[UNDER].what


def test_underfitting_against_the_limit_of_the_study(record: Any) -> None:
    findings, _ = checked(one(record, 0.85, {"accuracy": 0.95}), {"t": Count(440, 512)})
    assert findings[UNDER].severity == "warning" or findings[UNDER].severity == "severe"
    assert "limit" in findings[UNDER].what and "95 %" in findings[UNDER].what


@pytest.mark.parametrize(("best", "severity"), [(0.99, "warning"), (0.9, None)])
def test_underfitting_against_another_network(record: Any, best: float, severity: str | None) -> None:
    record.training("t", record.network, record.plain, [0.85])
    record.package("t", record.right(0.85), size=1e5)
    wide = record.network.model_copy(update={"width": 1.0})
    record.training("w", wide, record.plain, [best])
    record.package("w", record.right(best), network=wide)
    findings, _ = checked(record.run(), {"t": Count(447, 512), "w": Count(511, 512)})
    assert (findings[UNDER].severity if UNDER in findings else None) == severity
    if severity is not None:
        assert findings[UNDER].trials == (0,) and "trial 1" in findings[UNDER].what


def test_a_network_without_a_width_is_replaced_by_a_narrow_one(record: Any) -> None:
    network = record.network.model_copy(update={"family": "timm", "backbone": "resnet18", "width": 1.0})
    record.training("t", network, record.plain, [0.7])
    record.package("t", record.right(0.7), network=network)
    findings, _ = checked(record.run(), {"t": Count(512, 512)})
    words = shlex.split(findings[OVER].command)
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    networks = list(load_plan(words[2], settings_of(settings)).space(10).networks())
    assert {one.backbone for one in networks} == {"mobilenetv3_small"} and min(one.width for one in networks) == 0.5


def test_the_best_of_many_was_lucky(record: Any) -> None:
    """9 points ahead on 300 images are shown of one other package, not of the best of two hundred."""

    def lacking(others: int) -> bool:
        record.results.clear()
        record.package("t", record.right(0.85, images=300), size=1e5)
        for number in range(others):
            recipe = record.plain.model_copy(update={"seed": number + 1})
            record.package(f"o{number}", record.right(0.96 if number == 0 else 0.8, images=300), recipe=recipe)
        case = Case(record.run(), Measured(fits={"t": Count(435, 512)}))
        return any(isinstance(part, Finding) and part.cause == UNDER for part in fit.check(case))

    record.training("t", record.network, record.plain, [0.85])
    assert lacking(1) and not lacking(200)


def test_what_is_better_but_not_much_is_not_denied(record: Any) -> None:
    record.training("t", record.network, record.plain, [0.7])
    record.package("t", record.right(0.7), size=1e5)
    record.package("w", record.right(0.72), recipe=record.plain.model_copy(update={"seed": 1}))
    findings, _ = checked(record.run(), {"t": Count(358, 512)})
    assert "nothing better" not in findings[UNDER].what and "much better, asked are 80 %" in findings[UNDER].what


def test_a_limit_is_told_as_it_was_given(record: Any) -> None:
    findings, _ = checked(one(record, 0.85, {"accuracy": 0.925}), {"t": Count(435, 512)})
    assert "limit is 92.5 %" in findings[UNDER].what


def test_several_are_told_once_the_worst_first(record: Any) -> None:
    fits = {}
    for number, share in enumerate((0.7, 0.3, 0.5)):
        network = record.network.model_copy(update={"width": 0.25 * (number + 1)})
        record.training(f"t{number}", network, record.plain, [share])
        record.package(f"t{number}", record.right(share), size=1e5 * (share + 1), network=network)
        fits[f"t{number}"] = Count(round(512 * share), 512)
    findings, _ = checked(record.run(), fits)
    assert set(findings[UNDER].trials) == {0, 1, 2} and findings[UNDER].trials[0] == 1
    assert "2 other trainings" in findings[UNDER].subject


def test_what_was_not_measured_is_said_so(record: Any) -> None:
    findings, checks = checked(one(record, 0.5), {})
    assert not findings and [check.state for check in checks.values()] == ["unknown"]


def test_a_compressed_package_is_judged_by_its_torch_network(record: Any) -> None:
    """A drop under one bit is no overfitting: the network itself has 93 %."""
    record.training("t", record.network, record.plain, [0.93])
    record.package("t", record.right(0.1), "palette-1/tensor")
    findings, checks = checked(record.run(), {"t": Count(490, 512)})
    assert not findings and checks[OVER].state == "healthy"


@pytest.mark.parametrize(("name", "cause"), [("learned_by_heart", OVER), ("barely_trained", UNDER)])
def test_real_trainings(name: str, cause: str, request: pytest.FixtureRequest) -> None:
    case = Case(request.getfixturevalue(name))
    assert case.plan is not None
    data = limited(read(case.plan), case.plan)
    found = examine(Case(case.run, measure(case, data)))
    finding = next(one for one in found.findings if one.cause == cause)
    words = shlex.split(finding.command)
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert settings and load_plan(words[2], settings_of(settings)).data == "digits"
    if cause == OVER:
        assert [one.name for one in finding.evidence][-1] == "parameters per training image"


def test_pictures_that_a_training_did_not_see_are_not_taken_for_its_own(barely_trained: Run) -> None:
    case = Case(barely_trained)
    assert case.plan is not None
    other = case.plan.model_copy(update={"splits": case.plan.splits.model_copy(update={"seed": 5})})
    assert not measure(case, read(other)).fits
