"""What does a report say?  Everything that HTML, PDF, slides and Markdown tell, gathered once, so that all tell the same.

A writer formats and draws; it computes nothing. What could not be had (pictures on another machine, a package that is
gone) stands as a sentence in `missing`, never as an empty figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.objectives.devices.schemes import Use
from coreml_pareto.objectives.reading import Reading, Score
from coreml_pareto.search.choose import BALANCED, Recommendation, RunnerUp
from coreml_pareto.search.diagnosis.finding import Diagnosis
from coreml_pareto.search.gap import Gap
from coreml_pareto.search.inspection import Inspection
from coreml_pareto.search.noise import Shares
from coreml_pareto.search.outcome import Infeasible, kind
from coreml_pareto.search.relaxation import NothingFits, fits
from coreml_pareto.search.report.importance import Importances
from coreml_pareto.search.report.limitations import Limitation
from coreml_pareto.search.report.pictures import Pictures
from coreml_pareto.search.report.volume import Growth
from coreml_pareto.search.run import Result, Run

ANCHORS: Final[Mapping[str, str]] = {
    "most accurate": "accuracy", "fastest": "latency", "smallest": "size", "least energy": "energy", BALANCED: BALANCED,
}  # fmt: skip
"""The five packages that stand side by side in every report: what they are called, and the priority that finds them."""


@final
@dataclass(frozen=True)
class Anchor:
    """A package that is best in one respect: `choose.recommend` with this priority, and its reason."""

    name: str
    priority: str
    result: Result
    reason: str


@final
@dataclass(frozen=True)
class Facts:
    """A run as it is told to a client.

    Attributes:
        run: all results; study, target, limits, classes.
        title: of the report; may hold any character.
        client: for whom; None where nobody is named; may hold any character.
        date: of the report, ISO 8601.
        answer: the recommended package with its reason and up to two runners-up, or why none keeps the limits.
        front: packages within the limits that nothing beats, by trial.
        shares: of drawn fronts by trial, 0 to 1 (`noise.shares`); empty where the record has no images.
        anchors: at most one for each name of `ANCHORS`, in that order; none where no package keeps the limits.
        importances: of the knobs, by objective; scored trials only.
        growth: hypervolume over time; None before the first package within the limits.
        gap: validation minus test over the front; None where the test was not read.
        correlations: Spearman's rho between the run's objectives over its packages (m x m), None below three packages.
        inspection: of the recommended package's weights; None where the package is not at hand.
        uses: what is published of its forms of compression on devices.
        pictures: what the recommended package answers on photographs; None where they are not at hand.
        conditions: whose figures these are, one sentence each.
        diagnosis: the playbook's three failures: what was found, and what each check rests on.
        limitations: what may not be concluded from this run.
        missing: what could not be shown and why, one sentence each.
    """

    run: Run
    title: str
    client: str | None
    date: str
    answer: Recommendation | NothingFits
    front: tuple[Result, ...]
    shares: Shares
    anchors: tuple[Anchor, ...]
    importances: Importances
    growth: Growth | None
    gap: Gap | None
    correlations: tuple[tuple[float, ...], ...] | None
    inspection: Inspection | None
    uses: tuple[Use, ...]
    pictures: Pictures | None
    conditions: tuple[str, ...]
    diagnosis: Diagnosis
    limitations: tuple[Limitation, ...]
    missing: tuple[str, ...]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The axes that some package has a reading on, those of the run first, then the other ones of the catalogue."""
        rows = dict.fromkeys([*self.run.objectives, *OBJECTIVES.values()])
        return tuple(row for row in rows if any(row.reading in result.score for result in self.scored))

    @cached_property
    def scored(self) -> tuple[Result, ...]:
        """Every trial that ended with a package, by trial."""
        return self.run.scored()

    @cached_property
    def dominated(self) -> tuple[Result, ...]:
        """Packages that keep the limits and that another one beats (or that were tried twice)."""
        on = {result.trial for result in self.front}
        return tuple(result for result in self.scored if result.trial not in on and self.keeps(result))

    @cached_property
    def over(self) -> tuple[Result, ...]:
        """Packages that break a limit."""
        return tuple(result for result in self.scored if not self.keeps(result))

    @cached_property
    def refused(self) -> tuple[Result, ...]:
        """Candidates that break a limit for certain and were not trained: `outcome.score` has what is known of them."""
        return tuple(result for result in self.run.results if isinstance(result.outcome, Infeasible))

    def keeps(self, result: Result) -> bool:
        """Whether a package keeps the run's limits."""
        return fits(result, self.run.limits, strict=self.run.strict)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Trials by how they ended: scored, infeasible, pruned, failed; each is there."""
        found = Counter(kind(result.outcome) for result in self.run.results)
        return {name: found[name] for name in ("scored", "infeasible", "pruned", "failed")}

    @property
    def chosen(self) -> Result | None:
        """The recommended package; None where nothing keeps the limits."""
        return self.answer.chosen if isinstance(self.answer, Recommendation) else None

    @property
    def reason(self) -> str:
        """Why this one, in a sentence; empty where there is none."""
        return self.answer.reason if isinstance(self.answer, Recommendation) else ""

    @property
    def runners_up(self) -> tuple[RunnerUp, ...]:
        """Up to two other packages, and what taking them instead would gain and cost."""
        return self.answer.runners_up if isinstance(self.answer, Recommendation) else ()

    @property
    def score(self) -> Score:
        """The readings of the recommended package; empty where there is none."""
        return self.chosen.score if self.chosen is not None else {}

    def share(self, result: Result) -> float | None:
        """In which share of drawn fronts a package is; None where that is not known."""
        return self.shares.get(result.trial)


def known(results: Sequence[Result], row: Objective) -> list[tuple[Result, Reading]]:
    """The results that have a reading on an axis, refused candidates included, each with it."""
    found = []
    for result in results:
        score = result.outcome.score if isinstance(result.outcome, Infeasible) else result.score
        if row.reading in score:
            found.append((result, score[row.reading]))
    return found
