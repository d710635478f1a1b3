"""How does an outcome stand in a trial?  As values for the sampler, and as user attributes that are read back."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, assert_never

from optuna.trial import FrozenTrial, TrialState

from coreml_pareto.objectives.catalogue import Objective
from coreml_pareto.objectives.reading import Reading, score_from_dict, score_to_dict
from coreml_pareto.search.outcome import Failed, Infeasible, Outcome, Pruned, Scored
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.candidate import Candidate

LOST, AGAIN = "lost", "again"
"""Why a trial was lost with its machine; and of which trial another one is the next attempt."""
MACHINE_STAGE = "machine"
"""Where a trial fails whose machine was lost."""


def value_of(outcome: Scored | Infeasible | Pruned, row: Objective) -> float:
    """Return the value of an objective; the worst infinity for what is not known.

    What is stopped early is told with the top-1 that its training had reached, by which it is dominated.
    """
    if row.reading in outcome.score:
        return outcome.score[row.reading].value
    if isinstance(outcome, Pruned) and outcome.curve and row.name == "accuracy":
        return outcome.curve[-1]
    return math.inf if row.direction == "minimize" else -math.inf


def attributes_of(outcome: Outcome, folder: Path) -> dict[str, Any]:
    """Return an outcome as user attributes; paths are relative to the run folder, which may move."""
    match outcome:
        case Scored(score, package, provenance):
            place = os.path.relpath(package, folder)
            return {
                "outcome": "scored",
                "score": score_to_dict(score),
                "package": place,
                "provenance": dict(provenance),
            }
        case Infeasible(limits, score):
            return {"outcome": "infeasible", "limits": list(limits), "score": score_to_dict(score)}
        case Pruned(reason, score, curve):
            known = {"reason": reason, "score": score_to_dict(score), "curve": list(curve)}
            return {"outcome": "pruned"} | known
        case Failed(stage, cause):
            return {"outcome": "failed", "stage": stage, "cause": cause}
        case _:
            assert_never(outcome)


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial was lost with its machine; one that was told at the same moment was not."""
    return trial.state == TrialState.FAIL and LOST in trial.user_attrs


def result_of(trial: FrozenTrial, folder: Path, test: Reading | None, repeated: Mapping[int, Reading]) -> Result:
    """Return a told trial as a result; one that was lost has failed, whatever else was half told of it."""
    attributes = trial.user_attrs
    return Result(
        trial=trial.number,
        candidate=Candidate.model_validate(attributes["candidate"]),
        outcome=Failed(MACHINE_STAGE, attributes[LOST]) if is_lost(trial) else outcome_in(attributes, folder),
        test_top1=test,
        seconds=float(attributes.get("seconds", 0.0)),
        parent=attributes.get("parent"),
        repeated=repeated,
    )


def outcome_in(attributes: Mapping[str, Any], folder: Path) -> Outcome:
    """Return how a trial with these user attributes ended."""
    score = score_from_dict(attributes.get("score", {}))
    match attributes["outcome"]:
        case "scored":
            return Scored(score, folder / attributes["package"], attributes["provenance"])
        case "infeasible":
            return Infeasible(tuple(attributes["limits"]), score)
        case "pruned":
            return Pruned(attributes["reason"], score, tuple(attributes["curve"]))
        case _:
            return Failed(attributes["stage"], attributes["cause"])


def once(results: Iterable[Result]) -> Iterator[Result]:
    """Yield each scored candidate once: a machine that was slow, and taken for dead, tells what another one made again."""
    scored = set[str]()
    for result in results:
        if isinstance(result.outcome, Scored):
            if result.candidate.digest in scored:
                continue
            scored.add(result.candidate.digest)
        yield result
