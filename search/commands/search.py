"""`coreml-pareto search`: run a study, a preset, or just a folder of pictures, and end with a front and a recommendation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from coreml_pareto.search.config import Plan

_STUDY = "A study file (YAML) or a preset: quickstart, under_10mb, overnight, consulting."
_DATA = "Pictures: a folder with one folder per class, its .tar, a .csv of paths and labels, hf:NAME, or `digits`."
_RUN = "The run folder; the same command goes on where it stopped. [runs/STUDY]"
_STORE = "A folder or URL (s3://bucket/store) of results that runs and machines share."
_STORAGE = (
    "postgresql://… | mysql://… | grpc://host:port: the study of several machines; needs a --store that they share."
)
_FROM = "Another run on the same pictures: its trained networks are candidates first, and others inherit from them."
_RESUME = "Go on with this run; what is given here replaces parts of its study: budget, workers, limits, device."
_STRICT = "Limits hold for the worse end of each interval."
_IOS = "The oldest iOS that must run the model."
_TRIALS = "Packages scored or refused by a limit; those stopped early and failures do not count."
_WORKERS = "Processes that evaluate, each with its share of the cores or a GPU. [default: none but the search itself]"
_FINALISTS = "So many of the front are trained again with other seeds, after the budget. [default: 0]"
_SEEDS = "With how many other seeds each finalist is trained again. [default: 3]"
_SET = "Another value of a key of the study, as YAML: --set 'networks.width=[0.5, 1.0]'; may be repeated."
_UNITS = "ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE."


def search_command(
    study: Annotated[str | None, typer.Argument(help=_STUDY)] = None,
    data: Annotated[str | None, typer.Option(help=_DATA)] = None,
    run: Annotated[Path | None, typer.Option(help=_RUN)] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help=_RESUME)] = None,
    origin: Annotated[str | None, typer.Option("--from", metavar="RUN", help=_FROM)] = None,
    store: Annotated[str | None, typer.Option(metavar="DIR|URL", help=_STORE)] = None,
    storage: Annotated[str | None, typer.Option(metavar="URL", help=_STORAGE)] = None,
    trials: Annotated[int | None, typer.Option(min=1, help=_TRIALS, rich_help_panel="Budget")] = None,
    timeout: Annotated[str | None, typer.Option(help="Wall-clock: 30m, 8h.", rich_help_panel="Budget")] = None,
    max_size: Annotated[str | None, typer.Option(help="e.g. 10MB", rich_help_panel="Limits")] = None,
    max_latency: Annotated[str | None, typer.Option(help="e.g. 5ms", rich_help_panel="Limits")] = None,
    max_memory: Annotated[str | None, typer.Option(help="e.g. 20MB", rich_help_panel="Limits")] = None,
    max_energy: Annotated[str | None, typer.Option(help="e.g. 1mJ", rich_help_panel="Limits")] = None,
    min_top1: Annotated[str | None, typer.Option(help="e.g. 0.9 or 90%", rich_help_panel="Limits")] = None,
    strict: Annotated[bool, typer.Option("--strict", help=_STRICT, rich_help_panel="Limits")] = False,
    ios: Annotated[int | None, typer.Option(help=_IOS, rich_help_panel="Target")] = None,
    device: Annotated[str | None, typer.Option(help="Whose latency; see `devices`.", rich_help_panel="Target")] = None,
    compute_units: Annotated[str | None, typer.Option(help=_UNITS, rich_help_panel="Target")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help=_WORKERS)] = None,
    finalists: Annotated[int | None, typer.Option(min=0, help=_FINALISTS, rich_help_panel="Finalists")] = None,
    seeds: Annotated[int | None, typer.Option(min=2, help=_SEEDS, rich_help_panel="Finalists")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the sampler, the trainings and drawn splits.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SET)] = None,
) -> None:
    """Search networks, distillation and compression together; every candidate is a saved, verified Core ML package.

    Examples: `coreml-pareto search quickstart`,
    `coreml-pareto search --data ./photos --max-size 10MB --timeout 8h`,
    `coreml-pareto search --resume runs/quickstart --trials 90 --device "iPhone 12"`
    """
    from coreml_pareto.search.config import load_plan
    from coreml_pareto.search.record import requested_plan
    from coreml_pareto.search.settings import merged, settings_of
    from coreml_pareto.spaces.errors import UserError

    overrides = merged(
        settings_of(settings or ()),
        _given(
            data=data,
            store=store,
            storage=storage,
            origin=origin,
            strict=strict or None,
            limits=_given(accuracy=min_top1, latency=max_latency, size=max_size, memory=max_memory, energy=max_energy),
            target=_given(device=device, os=ios, compute_units=compute_units),
            search=_given(trials=trials, timeout=timeout, workers=workers, seed=seed, finalists=finalists, seeds=seeds),
            splits=_given(seed=seed),
        ),
    )
    if resume is not None and (study is not None or run is not None):
        raise UserError(
            "--resume RUN names the study and its folder; leave STUDY and --run out, or leave out --resume."
        )
    plan = load_plan(study, overrides) if resume is None else requested_plan(resume, overrides)
    _search(plan, _folder(plan, resume or run))


def _folder(plan: Plan, named: Path | None) -> Path:
    """Return the run folder; refuse a study without an end, a storage that cannot be, and folders among the pictures."""
    from coreml_pareto.search.storage.address import check_environment
    from coreml_pareto.search.storage.machine import host
    from coreml_pareto.spaces.errors import UserError

    if plan.search.trials is None and plan.search.timeout is None:
        raise UserError("A search needs an end: give --timeout (e.g. 8h), --trials, or both.")
    if plan.storage is not None:
        check_environment(plan.storage)
    folder = named or Path("runs") / (plan.name if plan.storage is None else f"{plan.name}-{host()}")
    _refuse_inside_data(folder, plan.data, "run folder", "--run")
    if plan.store is not None and "://" not in plan.store:
        _refuse_inside_data(Path(plan.store).expanduser(), plan.data, "store", "--store")
    return folder


def _search(plan: Plan, folder: Path) -> None:
    """Search and show what was found; exit code 3 where nothing keeps the limits."""
    from coreml_pareto.search.lock import sole_search
    from coreml_pareto.search.prospects import NothingCanFit
    from coreml_pareto.search.record import check_record
    from coreml_pareto.search.report.summary import print_run
    from coreml_pareto.search.screen import Screen
    from coreml_pareto.search.session import search

    console = options.console()
    with sole_search(folder), Screen(console) as screen:
        check_record(folder)
        try:
            finished = search(plan, folder, screen)
        except KeyboardInterrupt:
            screen.say(f"\nStopped. Everything finished is in {folder}; the same command goes on.")
            raise
        except NothingCanFit as nothing:
            screen.say(str(nothing))
            raise typer.Exit(options.NOTHING_FITS) from nothing
    if not print_run(finished, console):
        raise typer.Exit(options.NOTHING_FITS)


def _refuse_inside_data(folder: Path, data: str | None, what: str, option: str) -> None:
    """Refuse a folder that the next search would read as a class of pictures."""
    from coreml_pareto.search.data.folder import split_folders
    from coreml_pareto.spaces.errors import UserError

    if data in (None, "digits") or not (root := Path(str(data)).expanduser()).is_dir():
        return
    for top in split_folders(root) or (root,):
        if folder.resolve().is_relative_to(top.resolve()):
            raise UserError(
                f"A {what} inside the pictures would be read as a class; got {folder} inside {top}; "
                f"choose a {option} folder outside of it."
            )


def _given(**values: Any) -> dict[str, Any]:
    """Return what was given on the command line; empty sections are left out."""
    return {key: value for key, value in values.items() if value is not None and value != {}}
