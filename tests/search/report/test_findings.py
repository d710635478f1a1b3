"""What is said of a diagnosis: findings with all they carry, and what could not be checked."""

from __future__ import annotations

import io
import json

from rich.console import Console

from coreml_pareto.search.diagnosis.finding import Check, Diagnosis, Evidence, Finding
from coreml_pareto.search.report.findings import as_json, checked, figure, headline, lines, shown

NASTY = "<script> [/bold] שלום 🦜"
FINDING = Finding(
    failure="excessive quantization",
    cause="drop",
    severity="severe",
    subject=f"trial 3, {NASTY}",
    trials=tuple(range(12)),
    what="It costs 8.0 points.",
    evidence=(
        Evidence("drop", 8.0, "points", "measured, 95 %", 6.5, 9.5),
        Evidence("images", 2000, "1", "exact"),
    ),
    remedy="Take another.",
    command=f"coreml-pareto compare '{NASTY}:1' '{NASTY}:2'",
    layers=("conv_1: 9 dB", "conv_2: 10 dB"),
)
HEALTHY = Check("architecture mismatch", "overfitting", "healthy", "4 trainings")
UNKNOWN = Check("improper distillation", "temperature", "unknown", "no pictures")


def test_a_figure_has_its_interval_and_origin() -> None:
    assert figure(FINDING.evidence[0]) == "drop 8.0 points (6.5 to 9.5; measured, 95 %)"
    assert figure(FINDING.evidence[1]) == "images 2,000 (exact)"
    assert figure(Evidence("gap", -0.04, "points", "x", -1.2, 0.3)) == "gap 0.0 points (−1.2 to 0.3; x)"
    assert figure(Evidence("time", 0.1234, "ms", "estimated, 80 %", 0.05, 2.0)).startswith(
        "time 0.123 ms (0.0500 to 2;"
    )


def test_everything_that_a_finding_carries_is_on_the_screen() -> None:
    console = Console(file=io.StringIO(), width=200, highlight=False, markup=False, emoji=False)
    console.print(shown(Diagnosis((FINDING,), (HEALTHY, UNKNOWN))))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in (
        FINDING.subject, FINDING.what, FINDING.remedy, FINDING.command, *FINDING.layers, "severe", "not checked",
        "nothing found", "no pictures", "1 finding: 1 severe; 1 check could not be made.",
    ):  # fmt: skip
        assert part in text
    assert next(lines(FINDING)) == "trials 0, 1, 2, 3, 4, 5, 6, 7 …"


def test_nothing_found_says_how_much_was_looked_at() -> None:
    assert headline(Diagnosis((), (HEALTHY, UNKNOWN))) == "Nothing found in 1 check; 1 check could not be made."
    assert headline(Diagnosis((), (HEALTHY, HEALTHY))) == "Nothing found in 2 checks."


def test_checks_of_several_subjects_are_one_line() -> None:
    rows = list(checked((HEALTHY, HEALTHY, UNKNOWN)))
    assert [state for state, _ in rows] == ["healthy", "unknown"] and rows[0][1].endswith(
        "4 trainings; and 1 more alike"
    )


def test_json_has_all_of_it() -> None:
    told = json.loads(json.dumps(as_json(Diagnosis((FINDING,), (HEALTHY, UNKNOWN)))))
    assert told["findings"][0]["evidence"][0] == {
        "name": "drop", "value": 8.0, "unit": "points", "how": "measured, 95 %", "low": 6.5, "high": 9.5,
    }  # fmt: skip
    assert [check["state"] for check in told["checks"]] == ["healthy", "unknown"]
