"""Machines of one study in one process, for tests: their clock stands still, and nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coreml_pareto.objectives.reading import exact
from coreml_pareto.search.config import Plan, dump_plan, load_plan
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Failed, Scored
from coreml_pareto.search.record import PLAN, REQUEST
from coreml_pareto.search.run import Result
from coreml_pareto.search.storage import agreement, lease
from coreml_pareto.search.storage.address import parse
from coreml_pareto.search.storage.patience import patient
from coreml_pareto.search.storage.peers import Peers
from coreml_pareto.search.study import Asked, Study

SECTIONS: dict[str, Any] = {
    "name": "common",
    "data": "digits",
    "store": "/nowhere/shared",
    "networks": {"backbones": ["mobilenetv3_small"], "width": [0.35, 0.5, 1.0], "resolution": [32, 48]},
    "compression": ["fp16", "int8/channel"],
    "training": {"epochs": [4]},
    "search": {"sampler": "random", "trials": 15},
}
ADDRESS = "postgresql://me@db/birds"
"""Where nothing is."""
SCORE = {name: exact(0.5, "1") for name in ("top1", "latency_ms", "size_bytes", "memory_bytes", "energy_mj")}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0


class Machine:
    """A machine without a laboratory: what it is asked is evaluated by the test."""

    def __init__(self, folder: Path, study: Study) -> None:
        self.folder, self.study, self.peers = folder, study, Peers(study)
        self.seen = self.peers.known()

    def ask(self) -> tuple[Asked, bool]:
        asked = self.study.ask()
        return asked, self.peers.taken(asked, [])

    def tell(self, asked: Asked, failed: bool = False) -> Result:
        """Tell what was asked; the key of a training is its candidate's digest."""
        package, made = self.folder / "store/package/01/m.mlpackage", {TRAINING: asked.candidate.digest, "curve": "0.5"}
        outcome = Failed("training", "nan") if failed else Scored(SCORE, package, made)
        number = self.study.tell(asked, outcome, 1.0)
        self.peers.told(asked, number)
        self.seen[asked.candidate.digest] = Result(number, asked.candidate, outcome)
        return self.seen[asked.candidate.digest]

    def hear(self) -> list[Result]:
        heard = list(self.peers.hear(self.seen))
        self.seen |= {result.candidate.digest: result for result in heard if not self.peers.again(result)}
        return heard

    def die(self) -> None:
        self.peers._keeper.close()

    @property
    def trials(self) -> list[Any]:
        return self.study._study.get_trials()


def plan_at(address: str) -> Plan:
    return load_plan(None, SECTIONS | {"storage": address})


def waited_for(storage: Any) -> Any:
    """Return a storage as it is opened."""
    return patient(storage, parse(ADDRESS), 60.0, print)


def join(folder: Path, storage: Any, plan: Plan) -> Machine:
    """Join a study, or begin it, with a run folder."""
    folder.mkdir(exist_ok=True)
    (folder / PLAN).write_text(dump_plan(plan))
    (folder / REQUEST).write_text("{}")
    agreement._made(storage, plan, agreement.holder(folder)["machine"])
    return Machine(folder, Study(folder, plan, plan.space(10), storage=storage))


def silence(clock: Clock, *alive: Machine) -> None:
    """Let the living renew and look until a lease that nobody renews has expired."""
    for _ in range(int(lease.EXPIRES / lease.BEAT) + 3):
        clock.now += lease.BEAT
        for machine in alive:
            machine.peers._keeper.beat()
