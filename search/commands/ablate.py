"""`coreml-pareto ablate`: what each method contributed to a recipe, one at a time and left out, with intervals over seeds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from coreml_pareto.search.ablating import Forecast, Workshop
    from coreml_pareto.search.ablation import Ablation, Design
    from coreml_pareto.search.config import Plan
    from coreml_pareto.search.screen import Screen
    from coreml_pareto.spaces.candidate import Candidate

_WHAT = "Folder of a search, or a study file or preset."
_TRIAL = "A trial of the run with a package. [the recommended one]"
_SEEDS = "With how many seeds each candidate is trained; an interval needs two."
_PLOT = "FILE.html (self-contained) or FILE.png."


def ablate_command(
    what: Annotated[str, typer.Argument(metavar="RUN|STUDY", help=_WHAT)],
    trial: Annotated[int | None, typer.Argument(metavar="[TRIAL]", min=0, help=_TRIAL)] = None,
    seeds: Annotated[int, typer.Option(min=1, help=_SEEDS)] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Begin without asking.")] = False,
    as_json: options.Json = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help=_PLOT)] = None,
    data: Annotated[str | None, typer.Option(help="Pictures, where a STUDY does not name them.")] = None,
    storage: options.Storage = None,
) -> None:
    """Apply one method at a time, from a plain baseline to a trial's recipe, and measure each step on every axis.

    The baseline is the family's first network at width 1 and the study's largest input, without teacher, in half
    precision. Methods in this order: architecture, distillation, quantization, pruning, resolution; then each one is
    left out of the full recipe. How long it takes is said before; what is in the run's store is not made again, and
    the same command goes on after a stop. A STUDY stands for all that it offers at once: its first backbone at the
    smallest width and input, its first teacher, its strongest compression.

    Examples: `coreml-pareto ablate runs/quickstart 12 --plot waterfall.html`, `coreml-pareto ablate quickstart --seeds 2`
    """
    from coreml_pareto.search.ablating import forecast, open_workshop, require_possible, seeds_of
    from coreml_pareto.search.ablation import design, most_compressed
    from coreml_pareto.search.report.charts import check_path
    from coreml_pareto.search.screen import Screen

    if plot is not None:
        check_path(plot)
    plan, folder, full = _asked(what, trial, data)
    console = options.console()
    if as_json:
        console.stderr = True
    with Screen(console) as screen:
        workshop = open_workshop(plan, folder, screen)
        found = design(full or most_compressed(workshop.space), workshop.space)
        require_possible(workshop, found.candidates)
        chosen = seeds_of(found.full, seeds)
        ahead = forecast(workshop, found.candidates, chosen)
        screen.say(_announced(found, ahead, seeds))
    asks = not yes and ahead.packages and sys.stdin.isatty()
    if asks and not typer.confirm("Begin?", default=True, err=True):
        raise typer.Exit
    with Screen(console) as screen:
        result = _made(workshop, found, chosen, screen)
    _show(result, plan.name, plot, as_json=as_json)


def _asked(what: str, trial: int | None, data: str | None) -> tuple[Plan, Path, Candidate | None]:
    """The plan, the run folder, and the recipe; None for a study's own."""
    from coreml_pareto.search.config import load_plan
    from coreml_pareto.search.record import begun, no_run, requested_plan

    if not begun(Path(what)):
        if trial is not None or Path(what).is_dir():
            raise no_run(Path(what))
        plan = load_plan(what, {} if data is None else {"data": data})
        return plan, Path("runs") / plan.name, None
    return requested_plan(Path(what), {}), Path(what), _recipe(Path(what), trial)


def _recipe(folder: Path, trial: int | None) -> Candidate:
    """The candidate of a trial with a package, or of the recommended one."""
    from coreml_pareto.search.choose import Recommendation, recommend
    from coreml_pareto.search.study import load_run
    from coreml_pareto.spaces.errors import UserError

    run = load_run(folder)
    if trial is None:
        answer = recommend(run)
        if not isinstance(answer, Recommendation):
            raise UserError(f"No package of {folder} keeps its limits, so none is recommended; name a TRIAL.")
        return answer.chosen.candidate
    found = next((result for result in run.scored() if result.trial == trial), None)
    if found is None:
        raise UserError(
            f"An ablation takes a recipe whose package is there; trial {trial} of {folder} has none; "
            f"`coreml-pareto front {folder}` lists trials that have."
        )
    return found.candidate


def _announced(found: Design, ahead: Forecast, seeds: int) -> str:
    """What is to be done and how long it takes, before it begins."""
    from coreml_pareto.search.duration import spell_duration
    from coreml_pareto.search.report.words import candidate_name, many

    first = f", {many(ahead.teachers, 'teacher')}" if ahead.teachers else ""
    if not ahead.packages:
        return f"All {many(len(found.candidates), 'candidate')} are made already, with {many(seeds, 'seed')}."
    return (
        f"From {candidate_name(found.plain)} to {candidate_name(found.full)} by {', '.join(found.methods)}.\n"
        f"{many(len(found.candidates), 'candidate')} with {many(seeds, 'seed')}: {many(ahead.trainings, 'training')}{first} "
        f"and {many(ahead.packages, 'package')} are to be made, about {spell_duration(ahead.seconds)} (estimated)."
    )


def _made(workshop: Workshop, found: Design, seeds: tuple[int, ...], screen: Screen) -> Ablation:
    from coreml_pareto.search.ablating import ablate
    from coreml_pareto.search.store import watching_the_disk

    try:
        with watching_the_disk(workshop.laboratory.store.root):
            return ablate(workshop, found, seeds, screen)
    except KeyboardInterrupt:
        screen.say("Stopped. What is finished is kept; the same command goes on.")
        raise


def _show(found: Ablation, name: str, plot: Path | None, *, as_json: bool) -> None:
    from coreml_pareto.search.report.charts import save_figure
    from coreml_pareto.search.report.waterfall import ablation_tables, as_data, caption, waterfall_figure

    if as_json:
        options.print_json(as_data(found))
    else:
        screen = options.console(markup=False)
        for table in ablation_tables(found):
            screen.print(table)
        screen.print(caption(found), style="dim")
    if plot is not None:
        save_figure(waterfall_figure(found, name), plot)
        typer.echo(f"Wrote {plot}", err=True)
