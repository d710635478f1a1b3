"""On which terms is a run decided, and may they change?  Objectives, limits and device: no training reads them.

What is refused, what the gate stops and what the sampler learns follow from the terms, so a run that goes on with others
tells its trials again (`retelling.py`): scored ones by their readings on the new target, refused ones again only where
they are known to break the new limits. The others stand in line at their old place. A run's other questions (networks,
trainings, compressions, data) decide what is made; they do not change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coreml_pareto.search.config import Plan, dump_plan
from coreml_pareto.search.outcome import Failed, Infeasible, Outcome, Pruned, Scored
from coreml_pareto.search.record import PLAN, REQUEST
from coreml_pareto.search.run import broken
from coreml_pareto.search.store import write_atomically

if TYPE_CHECKING:
    from coreml_pareto.objectives.imported import Evidence

TERMS: Final = ("objectives", "limits", "strict", "target")
"""The sections of a plan that another session of the same run may change."""


def terms_of(plan: Plan) -> dict[str, Any]:
    """Return the terms as plain values."""
    return plan.model_dump(mode="json", include=set(TERMS))


def with_terms(plan: Plan, terms: Mapping[str, Any]) -> Plan:
    """Return a plan on other terms."""
    return plan if terms == terms_of(plan) else Plan.model_validate({**plan.model_dump(mode="json"), **terms})


def write_terms(plan: Plan, folder: Path) -> None:
    """Make the files of a run say its terms, too; a kill in between is made good by the next session."""
    asked = json.loads((folder / REQUEST).read_text("utf-8"))
    write_atomically(folder / PLAN, dump_plan(plan))
    write_atomically(folder / REQUEST, json.dumps({**asked, **terms_of(plan)}, indent=1))


def differences(before: Plan, after: Plan) -> list[str]:
    """Return what changed, for people: `limits: size ≤ 1MB -> size ≤ 2MB`."""
    from coreml_pareto.search.report.words import limits

    def spelt(plan: Plan) -> dict[str, str]:
        return {
            "objectives": ", ".join(plan.objectives),
            "limits": limits(plan.bounds) + (" (worse ends)" if plan.strict and plan.bounds else ""),
            "target": " / ".join(plan.target.resolve().conditions.values()),
        }

    old, new = spelt(before), spelt(after)
    return [f"{name}: {old[name]} -> {new[name]}" for name in old if old[name] != new[name]]


def outcome_on_terms(outcome: Outcome, before: Plan, after: Plan, found: Evidence | None) -> Outcome | None:
    """Return what an outcome is on other terms; None where its candidate has to be asked again.

    Args:
        outcome: as it was told.
        before: the plan that it was told by.
        after: the plan with the new terms.
        found: what was measured on the new target.
    """
    if isinstance(outcome, Failed):
        return outcome
    if after.target != before.target:
        from coreml_pareto.search.elsewhere import outcome_on

        outcome = outcome_on(outcome, after.target.resolve(), found)
    match outcome:
        case Scored(score, _, _):
            return outcome if score else None  # its package is gone: made again, if its training is there at no cost
        case Infeasible(_, score):
            over = broken(score, after.bounds, strict=after.strict)
            return replace(outcome, limits=over) if over else None
        case Pruned(_, _, curve):
            return outcome if len(curve) > 1 else None  # a training is taken up by the gate; a package cost none
        case _:
            return outcome


def study_after(first: str, current: str) -> str:
    """Return the name of the study that follows another of the same run: `birds`, `birds #2`, `birds #3`."""
    return f"{first} #{1 + int(current.rpartition('#')[2])}" if current != first else f"{first} #2"
