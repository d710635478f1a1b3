"""The laboratory of a worker: the one that the search would open itself, from the same plan, pictures and store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from coreml_pareto.search.config import Plan
from coreml_pareto.search.measurements import kept_evidence
from coreml_pareto.search.origin import Origin
from coreml_pareto.search.preparation import limited, read, shared
from coreml_pareto.search.record import STORE
from coreml_pareto.search.store import Store
from coreml_pareto.search.trial import Laboratory, open_laboratory
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.search.workers.worker import Talk

OPENER = f"{__name__}:open_for_worker"


@final
@dataclass(frozen=True)
class Order:
    """What a laboratory is opened from: the resolved plan, the run folder, the digest of the pictures."""

    plan: Plan
    run: Path
    data: str


def open_for_worker(order: Order, talk: Talk) -> Laboratory:
    """Read the pictures and open the laboratory.

    Raises:
        UserError: the pictures are no longer those that the search has read.
    """
    data = read(order.plan, lambda done, total: talk.note(f"reading {done} of {total} pictures"))
    data = limited(data, order.plan)
    if data.digest != order.data:
        raise UserError(
            f"The pictures must stay as they are while a search runs; {order.plan.data} has changed since it began: "
            "restore it, or search in another --run folder."
        )
    evidence = kept_evidence(order.run, order.plan.target.resolve())
    origin = Origin.of(order.run)
    shelf, several = shared(order.plan, order.run), order.plan.storage is not None
    store = Store(order.run / STORE, shelf, talk.waiting, talk.note, several, origin.shelf)
    taken = origin.keys(order.plan.space(len(data.classes)))
    return open_laboratory(order.plan, data, store, talk.announce, evidence, taken)
