"""From a run to the facts of its report: what is in the record is read, what needs packages and pictures is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date as calendar

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.devices.schemes import Use, uses_of
from coreml_pareto.objectives.program import Program, load
from coreml_pareto.search.choose import BALANCED, Recommendation, front, recommend
from coreml_pareto.search.diagnosis.case import Case
from coreml_pareto.search.diagnosis.examine import examine
from coreml_pareto.search.gap import gap
from coreml_pareto.search.inspection import Inspection, inspect
from coreml_pareto.search.noise import shares
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report.correlation import correlation
from coreml_pareto.search.report.doubts import doubted
from coreml_pareto.search.report.facts import ANCHORS, Anchor, Facts
from coreml_pareto.search.report.importance import importances
from coreml_pareto.search.report.limitations import limitations
from coreml_pareto.search.report.pictures import Pictures
from coreml_pareto.search.report.viewing import view
from coreml_pareto.search.report.volume import growth
from coreml_pareto.search.report.words import EXACT, counted, origins
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.storage.packages import bring
from coreml_pareto.spaces.compression import minimum_os
from coreml_pareto.spaces.errors import UserError


def gather(run: Run, *, title: str | None = None, client: str | None = None, date: str | None = None) -> Facts:
    """Everything that a report tells of a run.

    Reading the pictures takes as long as evaluating one package; all else follows from the record. Where the test split
    is looked at again after more trials, the run's record says so afterwards.

    Args:
        run: with at least one trial.
        title: of the report; the study and its device without one.
        client: for whom.
        date: ISO 8601; today without one.

    Raises:
        UserError: a run without a trial.
    """
    drawn, answer = shares(run), recommend(run)
    if isinstance(answer, Recommendation):
        answer = doubted(answer, drawn)
    chosen = answer.chosen if isinstance(answer, Recommendation) else None
    found, correlations = front(run), correlation(run.scored(), run.objectives)
    found_gap = gap(found)
    missing: list[str] = []
    program = None if chosen is None else _program(chosen, missing)
    inspection = None if program is None else _inspection(program, missing)
    pictures = None if chosen is None or program is None else _pictures(run, chosen, program, missing)
    told = [result.score for result in found or run.scored()]  # charts show what breaks limits as well
    return Facts(
        run=run,
        title=title or f"{run.study} for {run.target.device.name}",
        client=client,
        date=date or calendar.today().isoformat(),
        answer=answer,
        front=found,
        shares=drawn,
        anchors=tuple(_anchors(run)),
        importances=importances(run),
        growth=growth(run),
        gap=found_gap,
        correlations=None if correlations is None else tuple(tuple(map(float, line)) for line in correlations.rho),
        inspection=inspection,
        uses=() if inspection is None or chosen is None else _uses(inspection, chosen),
        pictures=pictures,
        conditions=tuple([*origins(run.target, told), *counted(told), EXACT]),
        diagnosis=examine(Case(run)),
        limitations=tuple(limitations(run, answer, drawn, found_gap, correlations, pictures)),
        missing=tuple(missing),
    )


def _anchors(run: Run) -> Iterator[Anchor]:
    """The best package by each priority that some package has a reading for."""
    for name, priority in ANCHORS.items():
        answer = recommend(run, priority=priority)
        if isinstance(answer, Recommendation) and (
            priority == BALANCED or OBJECTIVES[priority].reading in answer.chosen.score
        ):
            yield Anchor(name, priority, answer.chosen, answer.reason)


def _program(chosen: Result, missing: list[str]) -> Program | None:
    """The recommended package, fetched if it must be; None and a sentence where it cannot be read."""
    assert isinstance(chosen.outcome, Scored)
    bring([chosen])
    try:
        return load(chosen.outcome.package)
    except UserError as error:
        missing.append(f"Neither what compression did nor photographs are shown: {error}")
        return None


def _inspection(program: Program, missing: list[str]) -> Inspection | None:
    try:
        return inspect(program)
    except UserError as error:
        missing.append(f"What compression did is not shown: {error}")
        return None


def _pictures(run: Run, chosen: Result, program: Program, missing: list[str]) -> Pictures | None:
    try:
        return view(run, chosen, program)
    except (UserError, OSError) as error:
        missing.append(f"No photographs: {error}")
        return None


def _uses(inspection: Inspection, chosen: Result) -> tuple[Use, ...]:
    """What is published of the forms in which its layers are stored."""
    forms = {row.applied for row in inspection.rows if row.layer}
    return uses_of(forms, minimum_os(chosen.candidate.compression))
