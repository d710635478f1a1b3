"""`coreml-pareto best`: one package, why, and what the next ones would cost or gain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from coreml_pareto.search.choose import Recommendation
    from coreml_pareto.search.noise import Shares
    from coreml_pareto.search.relaxation import Limits
    from coreml_pareto.search.run import Run

_PRIORITY = (
    "accuracy, latency, size, memory, energy, or balanced: the smallest augmented Chebyshev distance to the ideal, "
    "costs by ratio and top-1 by the odds of its error, each scaled to the front's range, a factor of two at least."
)


def best_command(
    run: options.RunFolder,
    priority: Annotated[str, typer.Option(metavar="NAME", help=_PRIORITY)] = "balanced",
    storage: options.Storage = None,
    as_json: options.Json = False,
    device: options.OtherDevice = None,
    os: options.OtherRelease = None,
    compute_units: options.OtherUnits = None,
    max_size: options.MaxSize = None,
    max_latency: options.MaxLatency = None,
    max_memory: options.MaxMemory = None,
    max_energy: options.MaxEnergy = None,
    min_top1: options.MinTop1 = None,
    strict: options.Strict = False,
) -> None:
    """Recommend one package of a search within limits, the reason, two runners-up, and what each method gave on this run.

    Limits replace the study's own, one by one; for another device the saved packages are read again. When nothing
    fits: exit code 3, the nearest candidate per limit, and how little would have to give way; where nothing was
    trained, as far as it is known without.

    Examples: `coreml-pareto best runs/quickstart --max-size 500KB --priority accuracy`,
    `coreml-pareto best runs/quickstart --device "iPhone 12" --compute-units CPU_ONLY`
    """
    from coreml_pareto.search.choose import Recommendation, check_priority, recommend
    from coreml_pareto.search.commands.again import decide_again
    from coreml_pareto.search.noise import shares
    from coreml_pareto.search.report.words import refusal
    from coreml_pareto.search.storage.packages import bring
    from coreml_pareto.search.study import load_run

    check_priority(priority)
    given = options.limits_of(
        max_size=max_size,
        max_latency=max_latency,
        max_memory=max_memory,
        max_energy=max_energy,
        min_top1=min_top1,
    )
    own = load_run(run)
    limits = {**own.limits, **given}
    record, notes = decide_again(own, limits, device, os, compute_units, strict=strict)
    options.print_notes(notes, as_json=as_json)
    answer = recommend(record, limits, priority, strict)
    if not isinstance(answer, Recommendation):
        if as_json:
            options.print_json([])
        typer.echo("\n".join(refusal(record, answer)), err=True)
        raise typer.Exit(options.NOTHING_FITS)
    drawn = shares(record, answer.objectives, limits, strict)
    bring([answer.chosen, *(other.result for other in answer.runners_up)])
    if as_json:
        _print_rows(record, answer, drawn)
    else:
        _show(record, answer, limits, drawn)


def _print_rows(run: Run, answer: Recommendation, drawn: Shares) -> None:
    """The chosen package with the reason and what each method gave, then the runners-up with what they would change."""
    from coreml_pareto.search.methods import methods
    from coreml_pareto.search.report.explained import as_data, trade_offs
    from coreml_pareto.search.rows import rows

    chosen, *others = rows([answer.chosen, *(other.result for other in answer.runners_up)], run, drawn)
    chosen |= {"priority": answer.priority, "reason": answer.reason, "methods": as_data(methods(run))}
    told = [line | {"instead": trade_offs(other)} for line, other in zip(others, answer.runners_up, strict=True)]
    options.print_json([chosen, *told])


def _show(run: Run, answer: Recommendation, limits: Limits, drawn: Shares) -> None:
    from coreml_pareto.search.methods import methods
    from coreml_pareto.search.report.doubts import doubted, tested
    from coreml_pareto.search.report.explained import explained
    from coreml_pareto.search.report.tables import best_panel
    from coreml_pareto.search.report.words import conditions
    from coreml_pareto.search.rows import row

    screen = options.console(markup=False)
    screen.print(best_panel(doubted(answer, drawn), row(answer.chosen, run)["package"], limits))
    screen.print(conditions(run, [answer.chosen]), style="dim")
    if (picture := explained(methods(run), answer.chosen, answer.priority)) is not None:
        screen.print(picture)
    if line := tested(run):
        screen.print(line)
