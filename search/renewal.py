"""A run goes on with other limits, objectives or another device: its record follows before anything is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coreml_pareto.search.config import Plan
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.measurements import kept_evidence, read_again
from coreml_pareto.search.prospects import require_possible
from coreml_pareto.search.reach import before_training
from coreml_pareto.search.record import DATABASE, PLAN, REQUEST, stored_plan, studies_in
from coreml_pareto.search.retelling import AGAIN, tell_again
from coreml_pareto.search.screen import Clock, Screen
from coreml_pareto.search.store import Shelf
from coreml_pareto.search.study import Study
from coreml_pareto.search.terms import differences, outcome_on_terms, terms_of, write_terms


def renew(
    plan: Plan, folder: Path, data: DataSet, screen: Screen, clock: Clock, shared: Shelf | None
) -> dict[str, Any]:
    """Make a run follow the plan's terms; return what changed, for the log, and nothing where they are its own already.

    Raises:
        NothingCanFit: nothing in the space can keep the new limits; the run is as it was.
    """
    told: dict[str, Any] = {}
    if plan.name in studies_in(folder / DATABASE):
        study = Study(folder, stored_plan(folder / PLAN), plan.space(len(data.classes)))
        if terms_of(study.plan) != terms_of(plan):
            told = _tell_again(study, plan, folder, data, screen, clock, shared)
    asked = json.loads((folder / REQUEST).read_text("utf-8"))
    for terms in (terms_of(stored_plan(folder / PLAN)), {name: asked.get(name) for name in terms_of(plan)}):
        if terms != terms_of(plan):
            write_terms(plan, folder)
    return told


def _tell_again(
    study: Study, plan: Plan, folder: Path, data: DataSet, screen: Screen, clock: Clock, shared: Shelf | None
) -> dict[str, Any]:
    before = study.plan
    changes = differences(before, plan)
    for change in changes:
        screen.say(f"The run goes on with other {change}")
    reachable = {"limits", "strict", "target"}
    if before_training(plan.bounds) and any(terms_of(before)[name] != terms_of(plan)[name] for name in reachable):
        require_possible(plan, folder, data, screen, clock, shared)
    screen.note("telling the trials again")
    found = kept_evidence(folder, plan.target.resolve())
    study.recover()
    kinds = tell_again(study, plan, lambda outcome: outcome_on_terms(outcome, before, plan, found))
    again = kinds.pop(AGAIN, 0)
    parts = [f"{count} {name}" for name, count in sorted(kinds.items())]
    parts += [f"{again} in line again"] if again else []
    screen.say(f"Told again: {', '.join(parts) or 'no trial'}.")
    read_again(study.run_of(study.results()))
    return {"changes": changes, "told": dict(kinds), "again": again}
