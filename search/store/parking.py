"""How does a training go on on another machine?  Its last checkpoint is parked where the results are shared.

Not after every epoch: a checkpoint is three times as large as its network, and an epoch may take a second. What is lost
with a machine is then at most what it trained since.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from coreml_pareto.search.store.shelf import Shelf

log = logging.getLogger(__name__)

CHECKPOINT: Final = "checkpoint.pt"
EVERY: Final = 60.0
"""Seconds between two times that a checkpoint is parked."""


@final
class Parking:
    """The checkpoints of a store's work in progress; `failed` is told what a shared store refuses."""

    def __init__(self, shelf: Shelf, failed: Callable[[str, Exception], None]) -> None:
        self.shelf, self.failed = shelf, failed
        self._parked: dict[str, float] = {}

    def park(self, work: Path) -> None:
        """Copy a checkpoint to where other machines find it, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._parked.setdefault(work.name, now - EVERY) < EVERY:
            return
        try:
            self.shelf.park(work.name, work / CHECKPOINT)
        except Exception as error:  # each file system has its own
            self.failed("written", error)
        self._parked[work.name] = time.monotonic()

    def fetch(self, work: Path) -> None:
        """Take up what another machine has parked, where this one has not begun."""
        if (work / CHECKPOINT).exists():
            return
        try:
            self.shelf.fetch_parked(work.name, work / CHECKPOINT)
        except Exception as error:
            self.failed("read", error)

    def clear(self, name: str) -> None:
        """Forget a checkpoint whose training is published."""
        try:
            self.shelf.unpark(name)
        except Exception as error:  # `store gc` clears it later
            log.debug("%s stays parked: %s", name, error)
