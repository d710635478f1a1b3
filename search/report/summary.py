"""What a search ends with on the screen: the front, which axes say the same, and the one package to take."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from coreml_pareto.search.choose import Recommendation, front, recommend
from coreml_pareto.search.noise import shares
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report.doubts import doubted, doubts
from coreml_pareto.search.report.tables import best_panel, correlation_table, front_table
from coreml_pareto.search.report.words import conditions, ended, endings, refusal
from coreml_pareto.search.run import Run


def print_run(run: Run, console: Console) -> bool:
    """Print counts, the front, the correlation between its axes, the recommendation and where everything lies.

    Returns:
        Whether there is a package to recommend.
    """
    say = partial(console.print, markup=False, emoji=False, highlight=False)
    if not run.results:
        say("\n".join(endings(run)))
        return False
    answer, drawn = recommend(run), shares(run)
    if run.scored():
        say(ended(run))
    if results := front(run):
        say(front_table(results, run.limits, answer.chosen if isinstance(answer, Recommendation) else None, drawn))
        say(conditions(run, results), style="dim")
        for line in doubts(run, results, drawn):
            say(line)
        correlation = correlation_table(run.scored(), run.objectives)
        if correlation is not None:
            say(correlation)
    if isinstance(answer, Recommendation):
        outcome = answer.chosen.outcome
        package = outcome.package if isinstance(outcome, Scored) else Path()
        say(best_panel(doubted(answer, drawn), str(package.resolve()), run.limits))
    else:
        say("\n".join(refusal(run, answer)))
    say(f"coreml-pareto front {run.folder} · coreml-pareto best {run.folder}", style="dim")
    return isinstance(answer, Recommendation)
