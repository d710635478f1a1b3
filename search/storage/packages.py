"""Is a package at hand?  One that another machine made is fetched from the shared store when it is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.record import MACHINE, PLAN, STORE, stored_plan
from coreml_pareto.search.run import Result
from coreml_pareto.search.store import Store, open_shelf


def bring(results: Iterable[Result]) -> None:
    """Have the packages of results in their run folder, as far as they can be had."""
    for result in results:
        if isinstance(result.outcome, Scored):
            at_hand(result.outcome.package)


def at_hand(package: Path) -> bool:
    """Whether a package lies at RUN/store/package/KEY/NAME, fetched now if it must be."""
    if package.is_dir() or len(package.parents) < 4:
        return package.is_dir()
    run = package.parents[3]
    if not (run / MACHINE).is_file():
        return False
    return _store(run).find(package.parents[1].name, package.parent.name) is not None and package.is_dir()


@cache
def _store(run: Path) -> Store:
    shared = stored_plan(run / PLAN).store
    return Store(run / STORE, open_shelf(shared) if shared else None)
