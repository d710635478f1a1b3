"""What was made and is gone or damaged since is made again, before somebody relies on it.

A package of the front is wanted whole at the end; a training, by those that inherit its weights: from others they would be
other networks than on record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from coreml_pareto.search.crew import Alone, Job, Watcher
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.store import Store
from coreml_pareto.search.trial import Laboratory


@final
class Mender:
    """Makes packages and trainings of a run again; while it does, `busy`, nothing is stopped early.

    Args:
        store: the run's results.
        laboratory: makes them; a training that is still there is not repeated.
        watcher: sees it as any trial.
        screen: told of each.
        seen: the run's results.
    """

    def __init__(
        self, store: Store, laboratory: Laboratory, watcher: Watcher, screen: Screen, seen: Mapping[str, Result]
    ) -> None:
        self.store, self.laboratory, self.watcher, self.screen, self.seen = store, laboratory, watcher, screen, seen
        self.busy = False

    def package(self, result: Result) -> None:
        """Make the package of a trial again where it is not whole."""
        if not isinstance(result.outcome, Scored):
            return
        package = result.outcome.package
        place = package.parent
        if self.store.find(place.parent.name, place.name) is not None or package.is_dir():
            return
        self._again(result, "package")
        if not package.is_dir():
            self.screen.say(
                f"The package of trial {result.trial} cannot be made again: the time is over, or tools changed."
            )

    def training(self, key: str | None) -> None:
        """Make the training with this key again where it is not whole."""
        store = self.store
        if key is None or not (store.root / "train").is_dir() or store.find("train", key) is not None:
            return  # nothing is inherited, nothing was trained here, or all is well
        scored = ((r, r.outcome.provenance) for r in self.seen.values() if isinstance(r.outcome, Scored))
        made = next((r for r, provenance in scored if provenance.get(TRAINING) == key), None)
        if made is not None:
            self._again(made, "training")

    def _again(self, result: Result, what: str) -> None:
        self.training(result.parent)
        self.screen.say(f"The {what} of trial {result.trial} is gone or damaged; it is made again.")
        alone, self.busy = Alone(self.laboratory, self.watcher), True
        alone.assign(Job(result.trial, result.candidate, result.parent))
        try:
            alone.wait()
        finally:
            self.busy = False
