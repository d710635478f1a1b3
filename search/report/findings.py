"""How is a diagnosis told?  Each finding with evidence, remedy and command; then what was checked, and what could not be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from coreml_pareto.search.diagnosis.finding import Check, Diagnosis, Evidence, Finding
from coreml_pareto.search.figures import significant, unsigned
from coreml_pareto.search.report.words import many

COLOURS: Final = {"severe": "bold red", "warning": "yellow", "notice": "cyan"}
STATES: Final = {"healthy": "nothing found", "found": "found", "unknown": "not checked"}
SHOWN: Final = 8
"""Trials that are named."""


def headline(found: Diagnosis) -> str:
    """`2 findings: 1 severe, 1 warning`, or that there is none, with how much was looked at."""
    unknown = sum(check.state == "unknown" for check in found.checks)
    rest = f"; {many(unknown, 'check')} could not be made" if unknown else ""
    if not found.findings:
        return f"Nothing found in {many(len(found.checks) - unknown, 'check')}{rest}."
    kinds = [(name, sum(one.severity == name for one in found.findings)) for name in COLOURS]
    told = ", ".join(f"{count} {name}" for name, count in kinds if count)
    return f"{many(len(found.findings), 'finding')}: {told}{rest}."


def figure(evidence: Evidence) -> str:
    """`drop 8.4 points (5.9 to 10.9; measured, paired, 95 %)`."""
    shown, unit = _number(evidence.value, evidence.unit), "" if evidence.unit == "1" else f" {evidence.unit}"
    if evidence.low is None or evidence.high is None:
        return f"{evidence.name} {shown}{unit} ({evidence.how})"
    ends = f"{_number(evidence.low, evidence.unit)} to {_number(evidence.high, evidence.unit)}"
    return f"{evidence.name} {shown}{unit} ({ends}; {evidence.how})"


def _number(value: float, unit: str) -> str:
    if unit in ("points", "%"):
        return unsigned(value)
    return f"{value:,.0f}" if float(value).is_integer() else significant(value)


def lines(finding: Finding) -> Iterator[str]:
    """What goes below a finding's own sentence."""
    if len(finding.trials) > 1:
        shown = ", ".join(map(str, finding.trials[:SHOWN]))
        yield f"trials {shown}{' …' if len(finding.trials) > SHOWN else ''}"
    for one in finding.evidence:
        yield figure(one)
    if finding.layers:
        yield f"layers: {'; '.join(finding.layers)}"
    yield finding.remedy


def shown(found: Diagnosis) -> Group:
    """For the screen."""
    parts = [Text(headline(found), style="bold")]
    for finding in found.findings:
        head = Text(f"\n{finding.severity}", style=COLOURS[finding.severity])
        head.append(f"  {finding.failure}: {finding.cause}", style="bold").append(
            f"  {finding.subject}", style="not bold"
        )
        parts += [head, Text(finding.what), *(Text(f"  {line}") for line in lines(finding))]
        parts.append(Text(f"  {finding.command}", style="cyan"))
    parts.append(Text("\nChecked", style="bold"))
    parts += [Text(line, style="dim" if state != "unknown" else "") for state, line in checked(found.checks)]
    return Group(*parts)


def checked(checks: Sequence[Check]) -> Iterator[tuple[str, str]]:
    """State and one line for each cause; the first of several subjects stands for all of them."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for check in checks:
        rows.setdefault((check.state, check.failure, check.cause), []).append(check.told)
    for (state, failure, cause), told in rows.items():
        more = f"; and {len(told) - 1} more alike" if len(told) > 1 else ""
        yield state, f"{STATES[state]}: {failure}, {cause}: {told[0]}{more}"


def as_json(found: Diagnosis) -> dict[str, Any]:
    """For machines."""
    return {"findings": [asdict(one) for one in found.findings], "checks": [asdict(one) for one in found.checks]}
