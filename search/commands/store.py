"""`coreml-pareto store ls|gc|verify`: what a store of results holds, what may go, whether it is whole."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.search.store import Artifact, Leftover, Shelf
    from coreml_pareto.search.store.cleaning import Name

DAMAGED = 2
NO_RUN = "no run given"
_WHERE = "A store (folder or URL), or a run folder. [default: the user's own, of `sensitivity` and `device-kit`]"
_BY = "kind, network, or run (those of --run)."
_RUNS = "A run folder whose results are in use; may be given several times."
_MAX_SIZE = "Leave at most so much, e.g. 20GB: the oldest go first, and nothing while the store is smaller."
_UNUSED = "What none of the --run folders holds; of a run: all but its trainings and the packages of its front."

Where = Annotated[str | None, typer.Argument(metavar="[DIR|URL|RUN]", help=_WHERE)]
Runs = Annotated[list[Path] | None, typer.Option("--run", metavar="RUN", help=_RUNS)]

_HELP = """List, trim and check a store of results.

Example: `coreml-pareto store ls runs/quickstart`
"""

store_app = typer.Typer(no_args_is_help=True, help=_HELP)


@dataclass(frozen=True)
class _Place:
    """A store, and the run folder that it is the own one of, if it is one's."""

    shelf: Shelf
    run: Path | None

    def alone(self) -> AbstractContextManager[None]:
        """Keep searches out of the run meanwhile; refused while one is at work in it."""
        from coreml_pareto.search.lock import sole_search

        return nullcontext() if self.run is None else sole_search(self.run)


@store_app.command("ls")
def ls_command(
    where: Where = None,
    by: Annotated[str, typer.Option(metavar="WHAT", help=_BY)] = "kind",
    run: Runs = None,
    as_json: options.Json = False,
) -> None:
    """List results by kind, network or run: how many, how many bytes, how old.

    Example: `coreml-pareto store ls runs/quickstart --by network`
    """
    place = _open(where)
    rows = list(_grouped(place.shelf.artifacts(), _names(by, run or ())))
    begun = tuple(place.shelf.leftovers())
    if as_json:
        plain = [{"name": name, **_summary(group)} for name, group in rows]
        unfinished = {"count": len(begun), "bytes": sum(row.size for row in begun)}
        options.print_json({"store": place.shelf.name, "by": by, "rows": plain, "unfinished": unfinished})
        return
    _show(by, rows)
    if begun:
        typer.echo(f"unfinished: {len(begun)}, {_megabytes(sum(row.size for row in begun))}")


@store_app.command("gc")
def gc_command(
    where: Where = None,
    max_size: Annotated[str | None, typer.Option(help=_MAX_SIZE)] = None,
    older_than: Annotated[str | None, typer.Option(help="What was made longer ago, e.g. 30d.")] = None,
    unused: Annotated[bool, typer.Option("--unused", help=_UNUSED)] = False,
    run: Runs = None,
    front_too: Annotated[bool, typer.Option("--front-too", help="Packages of the run's front may go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only counted.")] = False,
) -> None:
    """Count, and with --yes remove, what may go: too old, too much, or unused. A run keeps the packages of its front.

    Work that was begun and not finished goes by the same rules, once nobody has touched it for a day; a training, which
    a search may go on with, only by its age or for too much.

    Runs hold what they used in their own folder: nothing that goes from a shared store is missing in them.

    Example: `coreml-pareto store gc /shared/store --max-size 20GB --yes`
    """
    from coreml_pareto.search.duration import parse_duration
    from coreml_pareto.search.limits import parse_size
    from coreml_pareto.search.store import Artifact, Leftover
    from coreml_pareto.search.store.cleaning import removable

    if max_size is None and older_than is None and not unused:
        raise UserError("store gc needs a rule: --max-size 20GB, --older-than 30d or --unused.")
    size = None if max_size is None else parse_size(max_size)
    age = None if older_than is None else parse_duration(older_than)
    place, now = _open(where), time.time()
    with place.alone() if yes else nullcontext():
        every, unfinished = tuple(place.shelf.artifacts()), tuple(place.shelf.leftovers())
        used = _used(place, every, run) if unused else None
        kept = set() if front_too or place.run is None else _front(place.run)
        rows = removable(every, unfinished, now=now, max_size=size, older_than=age, used=used, kept=kept)
        gone = [row for row in rows if isinstance(row, Artifact)]
        begun = [row for row in rows if isinstance(row, Leftover)]
        if yes:
            for artifact in gone:
                place.shelf.remove(artifact)
            for leftover in begun:
                place.shelf.clear(leftover)
    _report(gone, begun, every, done=yes)


@store_app.command("verify")
def verify_store_command(
    where: Where = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged; it is made anew when asked.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Read every byte of a store and compare it with its manifests. Exit code 2 where something is damaged and stays.

    Example: `coreml-pareto store verify runs/quickstart --repair`
    """
    place = _open(where)
    with place.alone() if repair else nullcontext():
        every = tuple(place.shelf.artifacts())
        damaged = [(row, told) for row in every if (told := place.shelf.damage(row))]
        if repair:
            for row, _ in damaged:
                place.shelf.remove(row)
    if as_json:
        rows = [{"kind": row.stage, "key": row.key, "damage": damage} for row, damage in damaged]
        options.print_json({"store": place.shelf.name, "whole": len(every) - len(damaged), "damaged": rows})
    else:
        for row, damage in damaged:
            typer.echo(f"{row.stage}/{row.key}: {damage}" + (", removed" if repair else ""))
        typer.echo(f"{place.shelf.name}: {len(every) - len(damaged)} whole, {len(damaged)} damaged")
    if damaged and not repair:
        raise typer.Exit(DAMAGED)


def _open(where: str | None) -> _Place:
    """The store that is meant; UserError where there is none."""
    from coreml_pareto.search.store import Folder, open_shelf
    from coreml_pareto.search.store.address import is_run

    text = where or str(Path(typer.get_app_dir("coreml-pareto")) / "store")
    shelf = open_shelf(text)
    if not isinstance(shelf, Folder):
        return _Place(shelf, None)
    if not (shelf.root / ".work").is_dir():
        raise UserError(f"There is no store in {text}: give the folder or URL of `search --store`, or a run folder.")
    run = shelf.root.absolute().parent
    return _Place(shelf, run if shelf.root.name == "store" and is_run(run) else None)


def _held(runs: Iterable[Path]) -> dict[str, set[Name]]:
    """What each run has in its own folder."""
    from coreml_pareto.search.record import STORE
    from coreml_pareto.search.store import Folder
    from coreml_pareto.search.study import load_run

    for run in runs:
        load_run(run)  # refuses what is no run
    return {str(run): {(row.stage, row.key) for row in Folder(run / STORE).artifacts()} for run in runs}


def _used(place: _Place, every: Iterable[Artifact], runs: Sequence[Path] | None) -> set[Name]:
    if runs:
        return set().union(*_held(runs).values())
    if place.run is None:
        raise UserError("--unused needs the runs whose results are in use: --run runs/birds, once for each.")
    return _front(place.run) | {(row.stage, row.key) for row in every if row.stage in ("train", "accuracy")}


def _front(run: Path) -> set[Name]:
    """The packages of a run's front."""
    from coreml_pareto.search.choose import front
    from coreml_pareto.search.outcome import Scored
    from coreml_pareto.search.study import load_run

    packages = [row.outcome.package for row in front(load_run(run)) if isinstance(row.outcome, Scored)]
    return {(package.parents[1].name, package.parents[0].name) for package in packages}


def _names(by: str, runs: Sequence[Path]) -> Callable[[Artifact], Sequence[str]]:
    """Under which lines of the table a result is counted."""
    if by == "run":
        held = _held(runs)
        if not held:
            raise UserError("--by run needs the runs: --run runs/birds, once for each.")
        return lambda row: [run for run, names in held.items() if (row.stage, row.key) in names] or [NO_RUN]
    if by == "network":
        return lambda row: [row.manifest.about.split(",")[0] if row.manifest else "damaged"]
    if by == "kind":
        return lambda row: [row.stage]
    raise UserError(f"--by is kind, network or run; got {by!r}.")


def _grouped(
    artifacts: Iterable[Artifact], names: Callable[[Artifact], Sequence[str]]
) -> Iterator[tuple[str, list[Artifact]]]:
    groups: dict[str, list[Artifact]] = defaultdict(list)
    for artifact in artifacts:
        for name in names(artifact):
            groups[name].append(artifact)
    yield from sorted(groups.items(), key=lambda item: -sum(row.size for row in item[1]))


def _summary(group: Sequence[Artifact]) -> dict[str, Any]:
    """Count, bytes, and when the oldest and the newest were made, in seconds since 1970."""
    times = [row.created for row in group]
    size = sum(row.size for row in group)
    return {"count": len(group), "bytes": size, "oldest": min(times), "newest": max(times)}


def _show(by: str, rows: Sequence[tuple[str, Sequence[Artifact]]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(by)
    for name in ("count", "size", "oldest", "newest"):
        table.add_column(name, justify="right")
    now = time.time()
    for name, group in rows:
        summary = _summary(group)
        ages = (_age(now - summary[end]) for end in ("oldest", "newest"))
        table.add_row(name, f"{len(group):,}", _megabytes(summary["bytes"]), *ages)
    options.console(markup=False).print(table)


def _report(gone: Sequence[Artifact], begun: Sequence[Leftover], every: Sequence[Artifact], *, done: bool) -> None:
    for name, group in _grouped(gone, _names("kind", ())):
        typer.echo(f"{name}: {len(group)}, {_megabytes(sum(row.size for row in group))}")
    if begun:
        typer.echo(f"unfinished: {len(begun)}, {_megabytes(sum(row.size for row in begun))}")
    size = sum(row.size for row in gone)
    verb = "Removed" if done else "Would remove"
    left = f"{_megabytes(sum(row.size for row in every) - size)} stay"
    ask = "" if done or not (gone or begun) else "; --yes removes them"
    typer.echo(f"{verb} {len(gone)} of {len(every)} results, {_megabytes(size)}; {left}{ask}")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _age(seconds: float) -> str:
    from coreml_pareto.search.duration import spell_duration

    days = int(seconds // 86400)
    return f"{days} d" if days else spell_duration(seconds)
