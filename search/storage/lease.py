"""Who is still alive?  Whoever is at work renews a lease, and the others watch whether it changes.

A lease is an attribute of the trial with a counter that its holder raises every few seconds. Clocks of machines differ,
so none is compared: an observer adds up, on its own monotonic clock, for how long it saw no change. Only the time in
which it looked counts: after an outage of the storage nobody is taken for dead at once, for no lease could be renewed.

Decision: Optuna's heartbeat, which has the database's clock, is not used: its gRPC proxy has none, it serves
`Study.optimize` only, and it fails what is stale when somebody asks, without a word on what becomes of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from coreml_pareto.search.storage.patience import impatient

log = logging.getLogger(__name__)

LEASE = "coreml_pareto:lease"
"""The attribute: {"machine": whose, "host": where, "beat": counter}; null where nobody holds it."""
BEAT = 10.0
"""Seconds between two renewals, and between two looks."""
EXPIRES = 60.0
"""Seconds without a change after which a trial's holder is taken for dead."""


@final
class Watch:
    """Adds up for how long each trial's lease has not changed."""

    def __init__(self) -> None:
        self._leases: dict[int, Any] = {}
        self._silent: dict[int, float] = {}
        self._looked: float | None = None

    def look(self, leases: Mapping[int, Any], now: float) -> None:
        """See the leases of the trials at work, by their id, at an instant of this machine's own clock."""
        passed = 0.0 if self._looked is None else min(now - self._looked, 2 * BEAT)
        self._silent = {
            trial: self._silent[trial] + passed if trial in self._silent and self._leases[trial] == lease else 0.0
            for trial, lease in leases.items()
        }
        self._leases, self._looked = dict(leases), now

    def expired(self) -> dict[int, Any]:
        """Return the trials whose holder is taken for dead, each with the lease that did not change."""
        return {trial: self._leases[trial] for trial, seconds in self._silent.items() if seconds > EXPIRES}


@final
class Keeper:
    """Renews the leases of this process and watches all others, in a thread of its own.

    Whoever takes a lease waits for a storage that is away, as in all its calls; the thread does not: the next beat comes.
    """

    def __init__(self, storage: BaseStorage, study: int, holder: Mapping[str, str]) -> None:
        self._storage, self._at_once = storage, impatient(storage)
        self._study, self._holder = study, dict(holder)
        self._held: set[int] = set()
        self._beat = 0
        self._watch, self._ended, self._lock = Watch(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._live, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to renew and to watch."""
        self._thread.start()

    def close(self) -> None:
        """Renew no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(BEAT)

    def hold(self, trial: int) -> None:
        """Take the lease of a trial that was asked.

        Raises:
            UserError: the storage was away for longer than it is waited for.
            UpdateFinishedTrialError: others took the trial for dead meanwhile.
        """
        self._renew(trial, self._storage)
        with self._lock:
            self._held.add(trial)

    def drop(self, trial: int) -> None:
        """Renew the lease of a trial no more: it is told, or somebody else's."""
        with self._lock:
            self._held.discard(trial)

    @property
    def held(self) -> Collection[int]:
        """The trials whose lease is ours."""
        with self._lock:
            return frozenset(self._held)

    def expired(self) -> dict[int, Any]:
        """Return the trials at work elsewhere whose holder is taken for dead, each with its lease as last seen."""
        with self._lock:
            return {trial: lease for trial, lease in self._watch.expired().items() if trial not in self._held}

    def _live(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self.beat()
            except Exception as error:  # the storage is away: whoever needs it says so
                log.debug("leases are not renewed: %s", error)

    def beat(self) -> None:
        """Renew and look once."""
        self._beat += 1
        for trial in self.held:
            try:
                self._renew(trial, self._at_once)
            except UpdateFinishedTrialError:  # told meanwhile, or taken for dead: telling it finds out
                self.drop(trial)
        running = self._at_once.get_all_trials(self._study, deepcopy=False, states=(TrialState.RUNNING,))
        with self._lock:
            self._watch.look(leases(running), time.monotonic())

    def _renew(self, trial: int, storage: BaseStorage) -> None:
        storage.set_trial_system_attr(trial, LEASE, self._holder | {"beat": self._beat})


def leases(running: Iterable[FrozenTrial]) -> dict[int, Any]:
    """Return the lease of each trial at work; None where nobody has taken it yet."""
    return {trial._trial_id: trial.system_attrs.get(LEASE) for trial in running}
