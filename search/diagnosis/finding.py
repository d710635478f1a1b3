"""What is a diagnosis made of?  Findings with their evidence, and what was looked at, healthy or not to be told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, final

from scipy.stats import norm

Failure = Literal["excessive quantization", "improper distillation", "architecture mismatch"]
"""The playbook's three."""

Severity = Literal["severe", "warning", "notice"]
"""severe: a large loss is shown. warning: a loss is shown. notice: a fact that is known to cost in other cases, its price
here not measured."""

State = Literal["healthy", "found", "unknown"]
"""How a check ended."""

FAILURES: tuple[Failure, ...] = ("excessive quantization", "improper distillation", "architecture mismatch")
SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "notice")


@final
@dataclass(frozen=True)
class Evidence:
    """One number, its interval and how it was obtained: `95 %: …`, exact, estimated.

    `unit` is points (of 100), share, ms, 1 or pixels; low and high are None where the number is exact.
    """

    name: str
    value: float
    unit: str
    how: str
    low: float | None = None
    high: float | None = None


@final
@dataclass(frozen=True)
class Finding:
    """A failure that is shown: its interval excludes what is healthy.

    Attributes:
        cause: which of the failure's causes, in a few words.
        subject: the package or training it is of, for people.
        trials: those that show it, the worst first; empty of a package that is no trial.
        what: one sentence.
        layers: the layers that cause it, the worst first, where that is known.
        remedy: one sentence.
        command: what tries it.
    """

    failure: Failure
    cause: str
    severity: Severity
    subject: str
    trials: tuple[int, ...]
    what: str
    evidence: tuple[Evidence, ...]
    remedy: str
    command: str
    layers: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Check:
    """What was looked at: `healthy`, `found`, or `unknown`, and in a sentence on what that rests, or what is missing."""

    failure: Failure
    cause: str
    state: State
    told: str


@final
@dataclass(frozen=True)
class Diagnosis:
    """Findings, the most severe first, and every check, so that nothing is passed over in silence."""

    findings: tuple[Finding, ...]
    checks: tuple[Check, ...]


def gathered(parts: Iterable[Finding | Check]) -> Diagnosis:
    """Sort what the checks gave."""
    told = list(parts)
    findings = [one for one in told if isinstance(one, Finding)]
    findings.sort(key=lambda one: (SEVERITIES.index(one.severity), FAILURES.index(one.failure)))
    return Diagnosis(tuple(findings), tuple(one for one in told if isinstance(one, Check)))


def quantile(comparisons: int) -> float:
    """The normal quantile at which so many two-sided intervals all hold at 95 % (Bonferroni)."""
    return float(norm.isf(0.025 / max(1, comparisons)))
