"""Whoever looks at the test split after a search says so in its record first (`tested.py`)."""

from __future__ import annotations

from contextlib import nullcontext

import sqlalchemy.exc

from coreml_pareto.search.record import PLAN, stored_plan
from coreml_pareto.search.run import Run
from coreml_pareto.search.storage.opening import opened
from coreml_pareto.search.study import Study
from coreml_pareto.search.tested import LOOKS, looked
from coreml_pareto.spaces.errors import UserError


def record_look(run: Run) -> None:
    """Keep that the test split is read now; nothing is written where no trial has ended since it was read before.

    Raises:
        UserError: the record cannot be written.
    """
    if run.looks and run.looks[-1].trials == len(run.results):
        return
    plan = stored_plan(run.folder / PLAN)
    try:
        with nullcontext() if plan.storage is None else opened(plan.storage) as storage:
            study = Study(run.folder, plan, plan.space(classes=2), storage=storage)
            study.note(LOOKS, looked(study.facts(), len(run.results)))
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise UserError(f"{run.folder} cannot be written: {error}") from error
