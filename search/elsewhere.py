"""What are the packages of a run worth on another device?  Read again from what was saved; nothing is trained.

What no device changes stays as it was recorded: accuracy, size, MACs. The rest is estimated anew from the package's
program; latencies are measured or corrected where measurements of that device were imported into the run. Of candidates
without a package only what no device changes is known there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.imported import Evidence, readings
from coreml_pareto.objectives.program import content_digest, costs, load
from coreml_pareto.objectives.reading import Reading, Score
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search.measurements import kept_evidence
from coreml_pareto.search.outcome import Failed, Outcome, Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.compression import minimum_os
from coreml_pareto.spaces.errors import UserError


@final
@dataclass(frozen=True)
class Elsewhere:
    """A run with the readings of another target.

    Attributes:
        run: all trials, those of `newer` and `gone` left out.
        newer: packages that need a newer system than the target's.
        gone: packages that are gone or damaged.
    """

    run: Run
    newer: tuple[Result, ...] = ()
    gone: tuple[Result, ...] = ()


def elsewhere(run: Run, target: Target) -> Elsewhere:
    """Return the run as it is on another target; as it was recorded where that is its own."""
    if target == run.target:
        return Elsewhere(run)
    found = kept_evidence(run.folder, target)
    kept: list[Result] = []
    newer: list[Result] = []
    gone: list[Result] = []
    for result in run.results:
        if result.score and minimum_os(result.candidate.compression) > target.os:
            newer.append(result)
            continue
        there = replace(result, outcome=outcome_on(result.outcome, target, found))
        (gone if result.score and not there.score else kept).append(there)
    return Elsewhere(replace(run, target=target, results=tuple(kept)), tuple(newer), tuple(gone))


def outcome_on(outcome: Outcome, target: Target, found: Evidence | None) -> Outcome:
    """Return an outcome with the readings of another target; without any where its package cannot be read."""
    if isinstance(outcome, Failed):
        return outcome
    score = anywhere(outcome.score)
    if not isinstance(outcome, Scored):
        return replace(outcome, score=score)
    there = _readings_on(outcome.package, target, found)
    return replace(outcome, score={**score, **there} if there else {})


def anywhere(score: Score) -> dict[str, Reading]:
    """Return the readings that no device changes."""
    return {name: reading for name, reading in score.items() if "device" not in reading.conditions}


def _readings_on(package: Path, target: Target, found: Evidence | None) -> Mapping[str, Reading]:
    """Return what the target makes of a package; nothing where it is gone or damaged."""
    try:
        program = load(package)
    except UserError:
        return {}
    there = {name: reading for name, reading in static_score(program, target).items() if "device" in reading.conditions}
    return there | (readings(content_digest(program), costs(program), found) if found else {})
