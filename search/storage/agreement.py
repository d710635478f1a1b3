"""Do all machines of a study ask the same question of the same data?  The first one's plan counts for all.

The study keeps what its first machine asked for and what became of it (epochs and resolutions are planned by the speed
of that machine and its timeout). Whoever joins with the same request takes that plan over; whoever asks for something
else is refused, with what differs. Where pictures and results lie, how long a machine takes part, with how many workers
and on what device it trains, is each machine's own.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage

from coreml_pareto.objectives.catalogue import select
from coreml_pareto.search.config import Plan, dump_plan
from coreml_pareto.search.record import PLAN, REQUEST
from coreml_pareto.search.storage.address import Address
from coreml_pareto.search.storage.machine import FOUNDER, holder
from coreml_pareto.search.storage.opening import open_storage, opened
from coreml_pareto.search.store import write_atomically
from coreml_pareto.spaces.errors import UserError

ASKED, RESOLVED = "asked", "plan"
"""Facts of the study."""
DATA = "data_digest"
OWN = (
    "data", "store", "storage", "training.device",
    "search.trials", "search.timeout", "search.workers", "search.patience",
)  # fmt: skip
"""What each machine decides for itself."""
MOMENT = 10.0
"""Seconds in which whoever has made a study says what it asks."""

Tell = Callable[[str], None]


def meet(plan: Plan, digest: str) -> Plan | None:
    """Return the plan of the study that others have begun, with this machine's own choices; None where nobody has.

    Args:
        plan: as asked for, nothing resolved.
        digest: of the pictures.

    Raises:
        UserError: the storage cannot be opened, or the others ask for something else.
    """
    if plan.storage is None:
        return None
    with opened(plan.storage) as storage:
        study = _study_in(storage, plan.name)
        return None if study is None else _joined(study, plan, _request(plan, digest))


def begin(plan: Plan, folder: Path, tell: Tell) -> tuple[Plan, BaseStorage | None]:
    """Make the study unless another machine was first; return the plan that counts for all, and the open storage.

    Args:
        plan: resolved, as it lies in the run folder beside the request.
    """
    if plan.storage is None:
        return plan, None
    machine = holder(folder)["machine"]
    storage = open_storage(plan.storage, plan.search.patience_seconds, tell)
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    made, study = _made(storage, plan, machine)
    until = time.monotonic() + (0.0 if made else MOMENT)
    while RESOLVED not in study.user_attrs and time.monotonic() < until:
        time.sleep(0.2)
    if RESOLVED not in study.user_attrs:
        study.set_user_attr(ASKED, request)
        study.set_user_attr(RESOLVED, plan.model_dump(mode="json"))
    common = _joined(study, plan, request) or plan
    write_atomically(folder / PLAN, dump_plan(common))
    return common, storage


def _made(storage: BaseStorage, plan: Plan, machine: str) -> tuple[bool, optuna.Study]:
    """Make the study, or find it where it is made; tell whether it was made here."""
    objectives = select(plan.objectives)
    directions = [row.direction for row in objectives]
    try:
        study = optuna.create_study(study_name=plan.name, storage=storage, directions=directions)
    except DuplicatedStudyError:
        return False, optuna.load_study(study_name=plan.name, storage=storage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([row.reading for row in objectives])
    study.set_user_attr(FOUNDER, machine)
    return True, study


def _study_in(storage: BaseStorage, name: str) -> optuna.Study | None:
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def _joined(study: optuna.Study, plan: Plan, request: Mapping[str, Any]) -> Plan | None:
    """Return the common plan with this machine's own choices; None where the study has none yet."""
    facts = study.user_attrs
    if RESOLVED not in facts:
        return None
    assert plan.storage is not None
    _check(facts[ASKED], request, plan.name, plan.storage)
    common = Plan.model_validate(facts[RESOLVED])
    training = common.training.model_copy(update={"device": plan.training.device})
    own = {"data": plan.data, "store": plan.store, "storage": plan.storage, "search": plan.search, "training": training}
    return common.model_copy(update=own)


def _check(theirs: Mapping[str, Any], ours: Mapping[str, Any], name: str, address: Address) -> None:
    """Refuse other pictures and another question."""
    if theirs.get(DATA) != ours.get(DATA):
        raise UserError(
            f"The study {name} in {address} is on other pictures than this machine's (digest {str(theirs.get(DATA))[:12]} "
            f"there, {str(ours.get(DATA))[:12]} here): give the same pictures and splits, or the study another name."
        )
    if other := list(differences(theirs, ours)):
        told = "; ".join(other[:3]) + (f"; and {len(other) - 3} more" if len(other) > 3 else "")
        raise UserError(
            f"All machines of a study ask the same; {name} in {address} differs in {told}: ask the same, or give the "
            "study another name."
        )


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield what differs of two requests, `networks.width (there [0.5], here [0.35])`, each machine's own left out."""
    for key in dict.fromkeys((*theirs, *ours)):
        name, there, here = f"{above}{key}", theirs.get(key), ours.get(key)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            yield from differences(there, here, f"{name}.")
        elif there != here and name not in OWN:
            yield f"{name} (there {json.dumps(there)}, here {json.dumps(here)})"


def _request(plan: Plan, digest: str) -> dict[str, Any]:
    return {**plan.model_dump(mode="json"), DATA: digest}
