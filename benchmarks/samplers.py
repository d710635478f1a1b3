"""Which sampler wins most, for the packages it asks and for the seconds they take?  On a table of real trainings.

Every sampler drives the search as it is: baselines first, every compression of each training, rungs; only where the search
would train, the row of the table is read, which `trainings_table.py` made by training and packaging all of the space.
Nothing is inherited and the gate is off, so that a cell costs and yields what the table says.

Judged is the hypervolume of test error (box 0 to 0.5), log10 bytes (4.5 to 7.5) and log10 MACs (5 to 9), the boxes of
`search_efficiency.py`; and the same with log10 latency. Read is how much of what the whole table holds a sampler has
after so many packages, and after so many seconds of one core; and where its curve lies on the average.

    python benchmarks/samplers.py [--seeds 20] [--trainings 40]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import optuna
from record import RESULTS, store
from search_efficiency import AXES
from trainings_table import NAME, plan_of

from coreml_pareto.objectives.pareto import hypervolume
from coreml_pareto.objectives.reading import Reading, Score, exact
from coreml_pareto.search.acquisition import Acquisition, Images
from coreml_pareto.search.gate import Gate
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.origin import Origin
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.proposals import Proposals
from coreml_pareto.search.run import Result
from coreml_pareto.search.samplers import SAMPLERS
from coreml_pareto.search.study import Asked, Study
from coreml_pareto.spaces.candidate import Candidate, Compression, Network
from coreml_pareto.spaces.compression import spell

IMAGES = Images(training=1257, validation=269)
"""Of digits."""
UNITS = {"latency_ms": "ms", "size_bytes": "B", "memory_bytes": "B", "energy_mj": "mJ", "macs": "1"}
SHARES = (0.1, 0.25, 0.5)
"""Of the table's packages, and of its seconds, at which samplers are compared."""


@final
class Table:
    """The rows by what they are asked with; in the search it stands for the laboratory."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], teacher_seconds: float, teacher_macs: float) -> None:
        self.rows = {row["digest"]: row for row in rows}
        self.by_network = {row["network"]: row for row in rows}
        self.teacher_seconds, self.teacher_macs = teacher_seconds, teacher_macs
        self.space = plan_of().space(10)

    def row(self, candidate: Candidate) -> Mapping[str, Any]:
        """Return the training of a candidate."""
        return self.rows[self.space.compressed(candidate, Compression()).digest]

    def score(self, candidate: Candidate) -> Score:
        """Return the readings of a candidate's package."""
        known = self.row(candidate)["packages"][spell(candidate.compression)]
        return {"top1": Reading(known["top1"], "share", 0.0, 1.0, "measured")} | _static(known)

    def foreseen(self, network: Network, compressions: Iterable[Compression]) -> Iterator[Score]:
        """Yield what is known of a network without training."""
        if network.label not in self.by_network:  # the teacher's
            yield from (
                {"macs": exact(self.teacher_macs, "1")}
                | {name: exact(1.0, u) for name, u in UNITS.items() if name != "macs"}
                for _ in compressions
            )
            return
        packages = self.by_network[network.label]["packages"]
        yield from (_static(packages[spell(compression)]) for compression in compressions)

    def potential(self, network: Network, compressions: Iterable[Compression]) -> Iterator[Score]:
        """Yield the same: there are no limits."""
        return self.foreseen(network, compressions)

    def over(self, score: Score) -> tuple[str, ...]:
        """Return that nothing breaks a limit."""
        return ()

    def probe(self, candidate: Candidate) -> Score:
        """Return that nothing needs to be known."""
        return {}


def _static(known: Mapping[str, float]) -> dict[str, Reading]:
    return {name: exact(known[name], unit) for name, unit in UNITS.items()}


@dataclass(frozen=True)
class Point:
    """A package: when it was there, and its losses on the axes of the boxes."""

    seconds: float
    losses: tuple[float, ...]


def run(table: Table, sampler: str, seed: int, trainings: int) -> list[Point]:
    """Search the table until so many trainings were read; return the packages in their order."""
    plan, space = plan_of(sampler, seed), table.space
    points: list[Point] = []
    clock, taught, begun = 0.0, False, set[str]()
    with tempfile.TemporaryDirectory() as scratch:
        study = Study(Path(scratch), plan, space)
        study._study = optuna.create_study(directions=study._study.directions)  # in memory: nothing is to be kept
        seen: dict[str, Result] = {}
        running: dict[int, Asked] = {}
        gate = Gate(plan, space, table, IMAGES.validation)  # type: ignore[arg-type]
        chooser = Acquisition(plan, space, table, IMAGES)
        proposals = Proposals(plan, space, study, table, gate, chooser, seen, running, Origin())  # type: ignore[arg-type]
        while len(seen) < len(table.rows) * len(space.compressions):
            proposals.next()
            asked = study.ask(proposals.rung)
            if earlier := seen.get(asked.candidate.digest):
                study.repeat(asked, earlier)
                proposals.fresh()
                continue
            row = table.row(asked.candidate)
            if row["digest"] not in begun and len(begun) == trainings:
                return points
            if asked.candidate.recipe.teacher and not taught:
                clock, taught = clock + table.teacher_seconds, True
            clock += row["seconds"]["training"] * (row["digest"] not in begun)
            clock += row["seconds"]["packages"] / len(space.compressions)
            begun.add(row["digest"])
            score = table.score(asked.candidate)
            outcome = Scored(score, Path(scratch) / "none", {TRAINING: row["digest"], "curve": ""})
            study.tell(asked, outcome, 0.0)
            result = Result(asked.number, asked.candidate, outcome)
            seen[asked.candidate.digest] = result
            proposals.after(result)
            points.append(Point(clock, losses_of(row["packages"][spell(asked.candidate.compression)])))
    return points


def losses_of(known: Mapping[str, float]) -> tuple[float, ...]:
    """Return test error, log bytes, log MACs and log latency."""
    logs = (math.log10(known[name]) for name in ("size_bytes", "macs", "latency_ms"))
    return (1 - known["test_top1"], *logs)


def volumes(points: Sequence[Point], axes: str) -> list[float]:
    """Return the hypervolume after each package, as a share of the box."""
    corner, ideal = AXES[axes]
    box = math.prod(high - low for high, low in zip(corner, ideal, strict=True))
    table = [[max(value, low) for value, low in zip(point.losses, ideal, strict=False)] for point in points]
    return [hypervolume(table[: n + 1], corner) / box for n in range(len(table))]


def main() -> None:
    """Compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trainings", type=int, default=40)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    asked = parser.parse_args()
    content = json.loads((RESULTS / f"{NAME}.json").read_text())
    table = Table(content["rows"], content["conditions"]["teacher_seconds"], content["conditions"]["teacher_macs"])
    everything = [Point(0.0, losses_of(one)) for row in content["rows"] for one in row["packages"].values()]
    whole = {axes: volumes(everything, axes)[-1] for axes in AXES}
    rows = []
    for sampler in asked.samplers:
        for seed in range(asked.seeds):
            points = run(table, sampler, seed, asked.trainings)
            row: dict[str, Any] = {
                "sampler": sampler,
                "seed": seed,
                "packages": len(points),
                "seconds": points[-1].seconds,
            }
            for axes in AXES:
                shares = [volume / whole[axes] for volume in volumes(points, axes)]
                row[axes] = {"shares": [round(s, 5) for s in shares], "at": [round(p.seconds, 1) for p in points]}
            rows.append(row)
        print_rows([row for row in rows if row["sampler"] == sampler])
    store("samplers", rows, seeds=asked.seeds, trainings=asked.trainings, whole=whole, table=content["conditions"])


GRID = (50, 100, 200, 400, 800)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the median share of the table's volume after so many packages and seconds."""
    own = [row["three"] for row in rows]
    packages = [
        statistics.median(row["shares"][min(n, len(row["shares"])) - 1] for row in own) for n in (20, 40, 80, 160)
    ]
    seconds = []
    for limit in GRID:
        found = [
            max((s for s, at in zip(row["shares"], row["at"], strict=True) if at <= limit), default=0.0) for row in own
        ]
        seconds.append(statistics.median(found))
    mean = statistics.mean(_mean_share(row, GRID[-1]) for row in own)
    told = " ".join(f"{value:.3f}" for value in packages), " ".join(f"{value:.3f}" for value in seconds)
    print(
        f"{rows[0]['sampler']:>7}: after 20 40 80 160 packages {told[0]}; after {GRID} s {told[1]}; mean over time {mean:.4f}",
        flush=True,
    )


def _mean_share(row: Mapping[str, Any], until: float) -> float:
    """The mean of a curve over time."""
    at = np.array([0.0, *row["at"], until])
    shares = np.array([0.0, *row["shares"]])
    widths = np.diff(np.minimum(at, until))
    return float((widths * shares).sum() / until)


if __name__ == "__main__":
    main()
