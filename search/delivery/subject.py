"""What is handed over?  One package of a run with its record, its pictures, and what it answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from coreml_pareto.objectives.preprocessing import PREFIX, Preprocessing
from coreml_pareto.objectives.program import Program, content_digest, load, require_finite
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.choose import Recommendation, recommend
from coreml_pareto.search.config import Plan
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.delivery.answers import Answers, answers
from coreml_pareto.search.delivery.kit import existing
from coreml_pareto.search.evaluation import labels_of, load_pictures, match_labels, preprocessing_for, splitting_of
from coreml_pareto.search.outcome import Scored, kind
from coreml_pareto.search.record import PLAN, stored_plan
from coreml_pareto.search.relaxation import NothingFits
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.errors import UserError

OFF: Final = 0.005
"""By so much the top-1 found now may differ from the one on record: other processors round sums in another order."""


@final
@dataclass(frozen=True)
class Choice:
    """A package of a run and why this one, in a sentence; `recommendation` where it is the recommended one."""

    result: Result
    reason: str
    recommendation: Recommendation | None = None

    @property
    def package(self) -> Path:
        """Its folder in the store."""
        return _scored(self.result).package


@final
@dataclass(frozen=True, eq=False)
class Subject:
    """Everything that the papers, the Swift package and the tests of a hand-over are written from.

    Attributes:
        run, plan: the search, and what was asked of it.
        choice: the package and why this one.
        program, digest: the package as it is read, and the name of its content.
        rule: how pictures become its input.
        data: the run's pictures.
        answers: to the validation pictures, which the package was chosen by.
        client: for whom; may hold any character.
    """

    run: Run
    plan: Plan
    choice: Choice
    program: Program
    digest: str
    rule: Preprocessing
    data: DataSet
    answers: Answers
    client: str | None

    @property
    def result(self) -> Result:
        """The trial that made the package."""
        return self.choice.result

    @property
    def scored(self) -> Scored:
        """How it ended: readings and provenance."""
        return _scored(self.result)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class labels in the package's order."""
        return self.program.labels or ()

    @property
    def oldest(self) -> int:
        """The oldest iOS release that the Swift package and the model run on: 16, or what the model needs."""
        return max(16, int(self.program.minimum_os.removeprefix("iOS")))

    @property
    def top1(self) -> Reading:
        """Of the test split where it was read, by which the search chose nothing; else of validation."""
        return self.result.test_top1 or self.result.score["top1"]

    @property
    def top1_split(self) -> str:
        """Of which split `top1` is."""
        return "validation" if self.result.test_top1 is None else "test"


def choose(run: Run, trial: int | None) -> Choice | NothingFits:
    """The package of a trial, or the recommended one.

    Raises:
        UserError: no such trial, one without a package, or a run without trials.
    """
    if trial is None:
        answer = recommend(run)
        return Choice(answer.chosen, answer.reason, answer) if isinstance(answer, Recommendation) else answer
    found = next((result for result in run.results if result.trial == trial), None)
    if found is None or not isinstance(found.outcome, Scored):
        ended = "does not exist" if found is None else f"ended {kind(found.outcome)}, without a package"
        raise UserError(
            f"TRIAL is one with a package; trial {trial} of {run.folder} {ended}; "
            f"`coreml-pareto front {run.folder}` lists some, or leave TRIAL out for the recommended one"
        )
    return Choice(found, f"Trial {trial} was asked for.")


def open_subject(run: Run, choice: Choice, *, data: str | None = None, client: str | None = None) -> Subject:
    """Read the package and the pictures, and let the package answer the validation pictures.

    Args:
        data: where the run's pictures are now, if not where its study says.

    Raises:
        UserError: the package or the pictures are gone, are others, or do not answer as on record.
    """
    plan = stored_plan(run.folder / PLAN)
    program = load(existing(choice.package))
    require_finite(program)
    rule, _ = preprocessing_for(program)
    if not isinstance(rule, Preprocessing):
        raise UserError(f"a hand-over needs a square input; {program.path.name} takes {rule[0]}x{rule[1]} pixels")
    pictures = _pictures(data or plan.data, program)
    order = match_labels(labels_of(program, None), pictures.classes)
    found = answers(program, pictures.validation, rule, order)
    _require_as_recorded(found, choice.result)
    # A terminal that does not speak UTF-8 hands over bytes that no file of text can hold.
    named = None if client is None else client.encode(errors="replace").decode()
    return Subject(run, plan, choice, program, content_digest(program), rule, pictures, found, named)


def _pictures(source: str | None, program: Program) -> DataSet:
    if source is None:
        raise UserError("samples and thresholds need the run's pictures; its study names none; give --data")
    try:
        pictures = load_pictures(source, splitting_of(program, None))
    except UserError as error:
        raise UserError(
            f"samples and thresholds need the run's pictures: {error} (--data names another place)"
        ) from error
    known = program.metadata.get(f"{PREFIX}data", "").split("-")[0]
    if known != pictures.digest:
        raise UserError(
            f"samples and thresholds need the very pictures of the run; {source} holds others (digest "
            f"{pictures.digest[:16]}, the package was made with {known[:16] or 'none on record'}); give --data"
        )
    return pictures


def _require_as_recorded(found: Answers, result: Result) -> None:
    recorded = result.score.get("top1")
    now = float(found.right.mean())
    if recorded is None or abs(now - recorded.value) > OFF:
        said = "no top-1" if recorded is None else f"{100 * recorded.value:.2f} %"
        raise UserError(
            f"a package is delivered that answers as on record; trial {result.trial} has {said} on record and "
            f"{100 * now:.2f} % now; the package or the record was changed: search again"
        )


def _scored(result: Result) -> Scored:
    if not isinstance(result.outcome, Scored):
        raise TypeError(f"trial {result.trial} has no package")
    return result.outcome
