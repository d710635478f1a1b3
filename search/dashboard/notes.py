"""What do the dashboard's notes and attributes say of a study and its trials?  Markdown in which nothing is executed.

Names of studies, classes and teachers, and causes of failures, may contain anything: every punctuation mark of theirs
is escaped (CommonMark 0.31, section 2.4: a backslash before any ASCII punctuation makes it literal), lines are joined.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Any, Final

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.choose import Recommendation, front, recommend
from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.figures import SCALES, figure, interval
from coreml_pareto.search.outcome import Failed, Infeasible, Pruned, Scored, kind
from coreml_pareto.search.report.words import candidate_name, conditions, limit, limits, many
from coreml_pareto.search.rows import row
from coreml_pareto.search.run import Result, Run, broken

_PUNCTUATION: Final = re.compile(f"([{re.escape(string.punctuation)}])")
_LEFT_OUT: Final = frozenset(
    {"trial", "candidate", "package", "front_share", "test_reads", "trials_at_first_test", "trials"}
)
"""Of a row for machines: what the dashboard shows itself, what is only in notes, and facts of the whole run."""


def plain(text: object) -> str:
    """Any text as Markdown that shows just this text, on one line."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(str(text).split()))


def question(run: Run) -> dict[str, Any]:
    """What the study asks, as its attributes."""
    return {
        "objectives": ", ".join(row.name for row in run.objectives),
        "limits": limits(run.limits) + (" (worse ends)" if run.strict and run.limits else ""),
        **run.target.conditions,
        "classes": len(run.classes),
    }


def attributes_of(result: Result, run: Run) -> dict[str, Any]:
    """A trial's attributes: what was tried, how it ended, and each reading under the name that `--json` gives it."""
    what = {"model": candidate_name(result.candidate), "training": result.candidate.recipe.label}
    known = {name: value for name, value in row(result, run).items() if name not in _LEFT_OUT and value is not None}
    ended = {"outcome": kind(result.outcome), "seconds": round(result.seconds, 1)}
    readings = known if isinstance(result.outcome, Scored) else {}
    return what | ended | readings


def study_note(run: Run) -> str:
    """What this page is, the front with its packages, and whose figures they are."""
    return "\n".join([
        f"Read only: the record of `coreml-pareto`, {many(len(run.results), 'trial')}. Limits: {plain(limits(run.limits))}.",
        "",
        *_front_table(run),
    ])  # fmt: skip


def _front_table(run: Run) -> Iterator[str]:
    found = front(run)
    if not found:
        yield "No package keeps the limits."
        return
    answer = recommend(run)
    chosen = answer.chosen.trial if isinstance(answer, Recommendation) else None
    yield f"| front | model | {' | '.join(SCALES[axis.name].noun for axis in run.objectives)} | package |"
    yield f"|---|---|{'---|' * len(run.objectives)}---|"
    for result in found:
        star = " ★" if result.trial == chosen else ""
        cells = (_cell(axis.name, result.score.get(axis.reading)) for axis in run.objectives)
        name = plain(candidate_name(result.candidate))
        yield f"| {result.trial}{star} | {name} | {' | '.join(cells)} | {_link(result)} |"
    yield f"\n★ recommended, balanced. {plain(conditions(run, found))}."


def trial_note(result: Result, run: Run) -> str:
    """What was tried, how it ended and why, and each objective's reading with its interval."""
    candidate = result.candidate
    lines = [f"**{plain(candidate_name(candidate))}**", "", plain(candidate.recipe.label), "", _ending(result, run), ""]
    known = {name: result.score[axis.reading] for name, axis in OBJECTIVES.items() if axis.reading in result.score}
    if known:
        lines += ["| | | interval | |", "|---|---|---|---|"]
        lines += [_line(SCALES[name].noun, name, reading) for name, reading in known.items()]
    if result.test_top1 is not None:
        lines.append(_line("test top-1", "accuracy", result.test_top1))
    if result.mean_top1 is not None:
        lines.append(_line(f"top-1, mean of {len(result.repeated)} other seeds", "accuracy", result.mean_top1))
    if isinstance(result.outcome, Scored):
        lines += ["", _link(result)]
    return "\n".join(lines)


def _ending(result: Result, run: Run) -> str:
    match result.outcome:
        case Scored(score, _, _):
            over = [limit(name, run.limits[name]) for name in broken(score, run.limits, strict=run.strict)]
            return f"Breaks {plain(', '.join(over))}." if over else f"Scored after {spell_duration(result.seconds)}."
        case Infeasible(names, _):
            over = [limit(name, run.limits[name]) if name in run.limits else name for name in names]
            return f"Breaks {plain(', '.join(over))}, which is known without training: not trained."
        case Pruned(reason, _, _):
            return f"Stopped: {plain(reason)}"
        case Failed(stage, cause):
            return f"Failed in {plain(stage)}: {plain(cause)}"


def _cell(objective: str, reading: Reading | None) -> str:
    return "–" if reading is None else figure(objective, reading)


def _line(name: str, objective: str, reading: Reading) -> str:
    return f"| {name} | {figure(objective, reading)} | {interval(objective, reading)} | {reading.how} |"


def _link(result: Result) -> str:
    return f"[.mlpackage, zipped](/packages/{result.trial}.zip)"
