"""What a search ends with on the screen: the front, which axes say the same, and the one package to take."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.choose import Recommendation, front, recommend
from coreml_pareto.search.limits import spell_limit, spell_relaxed
from coreml_pareto.search.outcome import Failed, Infeasible, Scored
from coreml_pareto.search.report.tables import best_panel, correlation_table, front_table
from coreml_pareto.search.report.words import conditions, refusal
from coreml_pareto.search.run import Run


def print_run(run: Run, console: Console) -> bool:
    """Print counts, the front, the correlation between its axes, the recommendation and where everything lies.

    Returns:
        Whether there is a package to recommend.
    """
    console.print(counts(run), highlight=False)
    if not run.scored():
        console.print("\n".join(reached(run)), highlight=False)
        return False
    answer = recommend(run)
    results = front(run)
    if results:
        console.print(front_table(results, run.limits, answer.chosen if isinstance(answer, Recommendation) else None))
        console.print(conditions(run, results), style="dim", highlight=False)
        correlation = correlation_table(run.scored(), run.objectives)
        if correlation is not None:
            console.print(correlation)
    if isinstance(answer, Recommendation):
        outcome = answer.chosen.outcome
        package = outcome.package if isinstance(outcome, Scored) else Path()
        console.print(best_panel(answer, str(package.resolve()), run.limits))
    else:
        console.print("\n".join(refusal(answer)), highlight=False)
    console.print(f"coreml-pareto front {run.folder} · coreml-pareto best {run.folder}", style="dim", highlight=False)
    return isinstance(answer, Recommendation)


def reached(run: Run) -> list[str]:
    """Return, where no candidate was trained, the best that any of them reached on each limit."""
    lines = ["No candidate kept the limits, so none was trained and there is no package."]
    for name, bound in run.limits.items():
        row = OBJECTIVES[name]
        known = [r.outcome.score[row.reading].value for r in run.results
                 if isinstance(r.outcome, Infeasible) and row.reading in r.outcome.score]  # fmt: skip
        if known:
            lines.append(f"{name}: the smallest of {len(known)} candidates was {spell_relaxed(name, min(known))}, "
                         f"the limit is {spell_limit(name, bound)}.")  # fmt: skip
    return lines


def counts(run: Run) -> str:
    """Return one line: packages, trainings, and what else became of the trials."""
    scored = run.scored()
    trainings = {(r.candidate.network.digest, r.candidate.recipe.digest) for r in scored}
    over = sum(1 for result in run.results if isinstance(result.outcome, Infeasible))
    failed = sum(1 for result in run.results if isinstance(result.outcome, Failed))
    parts = [f"{len(scored)} packages from {len(trainings)} trained networks"]
    parts += [f"{over} candidates over a limit, not trained"] if over else []
    parts += [f"{failed} failed"] if failed else []
    return ", ".join(parts) + "."
