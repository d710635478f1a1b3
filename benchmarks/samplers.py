"""Which sampler wins most, for the packages it asks and for the seconds they take?  On a table of real trainings.

Every sampler drives the search as it is: baselines first, every compression of each training, rungs; only where the search
would train, the row of the table is read, which `trainings_table.py` made by training and packaging all of the space.
Nothing is inherited and the gate is off, so that a cell costs and yields what the table says.

Judged is the hypervolume of test error (box 0 to 0.5), log10 bytes (4.5 to 7.5) and log10 MACs (5 to 9), the boxes of
`search_efficiency.py`; and the same with log10 latency. Read is how much of what the whole table holds a sampler has
after so many packages, and after so many seconds of one core, those of the sampler itself included; and where its curve
lies on the average. A search ends with its trainings; one whose sampler is slow can be ended after the last of those seconds.

    python benchmarks/samplers.py [--seeds 20] [--trainings 40] [--samplers auto tpe nsga2 nsga3 random]
    python benchmarks/samplers.py --samplers gp --until 1600

Samplers that are left out keep the rows they have in the file, if those are of the same table, seeds and trainings.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, final

import numpy as np
import optuna
import torch
from record import RESULTS, others, store
from search_efficiency import AXES
from trainings_table import NAME, plan_of
from trainings_table import trainings as trainings_of

from coreml_pareto.objectives.pareto import hypervolume
from coreml_pareto.objectives.reading import Reading, Score, exact
from coreml_pareto.search.acquisition import Acquisition, Images
from coreml_pareto.search.budget import resolve
from coreml_pareto.search.data import load_data
from coreml_pareto.search.gate import Gate
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.origin import Origin
from coreml_pareto.search.outcome import Outcome, Scored
from coreml_pareto.search.proposals import Proposals
from coreml_pareto.search.run import Result
from coreml_pareto.search.samplers import SAMPLERS
from coreml_pareto.search.study import Asked, Study
from coreml_pareto.spaces.candidate import Candidate, Compression, Network
from coreml_pareto.spaces.compression import spell

IMAGES = Images(training=1257, validation=269)
"""Of digits."""
UNITS = {"latency_ms": "ms", "size_bytes": "B", "memory_bytes": "B", "energy_mj": "mJ", "macs": "1"}


@final
class Table:
    """The rows by what they are asked with; in the search it stands for the laboratory. A backbone can be left out."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], teacher_seconds: float, without: str = "") -> None:
        self.without, self.teacher_seconds = without, teacher_seconds
        self.space, self.data = plan_of(without=without).space(10), load_data("digits")
        wanted = {training.digest for training in trainings_of(self.space)}
        self.rows = {row["digest"]: row for row in rows if row["digest"] in wanted}
        self.by_network = {row["network"]: row for row in self.rows.values()}
        self.packages = sum(len(row["packages"]) for row in self.rows.values())

    def row(self, candidate: Candidate) -> Mapping[str, Any]:
        """Return the training of a candidate."""
        return self.rows[self.space.compressed(candidate, Compression()).digest]

    def score(self, candidate: Candidate) -> Score:
        """Return the readings of a candidate's package."""
        known = self.row(candidate)["packages"][spell(candidate.compression)]
        return {"top1": Reading(known["top1"], "share", 0.0, 1.0, "measured")} | _static(known)

    def foreseen(self, network: Network, compressions: Iterable[Compression]) -> Iterator[Score]:
        """Yield what is known of a network without training."""
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


@dataclass
class Course:
    """What a search had when, and the seconds that it trained for."""

    points: list[Point] = field(default_factory=list)
    training: float = 0.0


def run(
    table: Table, sampler: str, seed: int, trainings: int, *, gated: bool = False, until: float = math.inf
) -> Course:
    """Search the table until so many trainings were begun, or so many seconds are over."""
    plan = resolve(plan_of(sampler, seed, gate=gated, without=table.without), table.data, lambda line: None)
    space = plan.space(len(table.data.classes))
    course, clock, taught = Course(), 0.0, False
    trained: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        study = Study(Path(scratch), plan, space)
        study._study = optuna.create_study(directions=study._study.directions)  # in memory: nothing is to be kept
        seen: dict[str, Result] = {}
        running: dict[int, Asked] = {}
        gate = Gate(plan, space, table, IMAGES.validation)  # type: ignore[arg-type]
        chooser = Acquisition(plan, space, table, IMAGES)
        proposals = Proposals(plan, space, study, table, gate, chooser, seen, running, Origin())  # type: ignore[arg-type]
        while sum(isinstance(result.outcome, Scored) for result in seen.values()) < table.packages and clock < until:
            since = time.process_time()
            proposals.next()
            asked = study.ask(proposals.rung)
            clock += time.process_time() - since
            earlier = seen.get(asked.candidate.digest)
            if earlier and not proposals.revived(earlier):
                study.repeat(asked, earlier)
                proposals.fresh()
                continue
            row = table.row(asked.candidate)
            if row["digest"] not in trained and len(trained) == trainings:
                return course
            if asked.candidate.recipe.teacher and not taught:
                clock, taught = clock + table.teacher_seconds, True
            before = trained.get(row["digest"], 0)
            outcome, epochs = evaluated(table, gate, asked.candidate, before, seen)
            trained[row["digest"]] = epochs
            seconds = row["seconds"]["training"] * (epochs - before) / row["epochs"]
            course.training += seconds
            clock += seconds + row["seconds"]["packages"] / len(space.compressions) * isinstance(outcome, Scored)
            study.tell(asked, outcome, 0.0)
            result = Result(asked.number, asked.candidate, outcome)
            seen[asked.candidate.digest] = result
            proposals.after(result)
            if isinstance(outcome, Scored):
                course.points.append(Point(clock, losses_of(row["packages"][spell(asked.candidate.compression)])))
    return course


def evaluated(
    table: Table, gate: Gate, candidate: Candidate, epochs: int, seen: Mapping[str, Result]
) -> tuple[Outcome, int]:
    """Return how a candidate ends whose training has so many epochs, and how many it has then."""
    row, score = table.row(candidate), table.score(candidate)
    for done in range(epochs + 1, row["epochs"] + 1) if gate.active else ():
        if stopped := gate.look(candidate, None, row["curve"][:done], seen.values()):
            return stopped, done
    static = {name: reading for name, reading in score.items() if name != "top1"}
    if spared := gate.package(candidate, static, seen.values()):
        return spared, row["epochs"]
    provenance = {TRAINING: row["digest"], "curve": " ".join(map(str, row.get("curve", ())))}
    return Scored(score, Path("none"), provenance), row["epochs"]


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


def load_table(without: str = "") -> tuple[Table, Mapping[str, Any]]:
    """Return the committed table and the file's content."""
    content = json.loads((RESULTS / f"{NAME}.json").read_text())
    return Table(content["rows"], content["conditions"]["teacher_seconds"], without), content


def whole_of(table: Table) -> dict[str, float]:
    """Return the hypervolume of all of the table's packages, by axes."""
    everything = [Point(0.0, losses_of(one)) for row in table.rows.values() for one in row["packages"].values()]
    return {axes: volumes(everything, axes)[-1] for axes in AXES}


def judged(sampler: str, seed: int, trainings: int, until: float, whole: Mapping[str, float]) -> dict[str, Any]:
    """Search the table once and return the figures, as shares of the whole table's volume."""
    torch.set_num_threads(1)
    table, _ = load_table()
    points = run(table, sampler, seed, trainings, until=until).points
    ended = {} if math.isinf(until) else {"ended_after": until}
    return {"sampler": sampler, "seed": seed} | ended | {axes: read(points, axes, whole[axes]) for axes in AXES}


def main() -> None:
    """Compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trainings", type=int, default=40)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=tuple(SAMPLERS))
    parser.add_argument("--until", type=float, default=math.inf, help="seconds after which a search is ended")
    parser.add_argument("--workers", type=int, default=2, help="processes, each with one thread")
    asked = parser.parse_args()
    table, content = load_table()
    conditions = {
        "seeds": asked.seeds,
        "trainings": asked.trainings,
        "whole": whole_of(table),
        "table": content["conditions"],
    }
    for sampler in asked.samplers:
        with ProcessPoolExecutor(asked.workers, multiprocessing.get_context("spawn")) as pool:
            common = map(repeat, (asked.trainings, asked.until, conditions["whole"]))
            rows = list(pool.map(judged, repeat(sampler), range(asked.seeds), *common))
        print_rows(rows)
        store("samplers", [*others("samplers", rows, ("sampler",), **conditions), *rows], **conditions)


PACKAGES = (20, 40, 80, 160)
SECONDS = (100, 200, 400, 800, 1600)


def read(points: Sequence[Point], axes: str, whole: float) -> dict[str, Any]:
    """Return the share of the table's volume after so many packages and seconds, and on the average of time.

    It is None where a search had fewer packages.
    """
    shares = [volume / whole for volume in volumes(points, axes)]
    known = [(point.seconds, share) for point, share in zip(points, shares, strict=True)]
    return {
        "packages": [round(shares[n - 1], 5) if n <= len(shares) else None for n in PACKAGES],
        "seconds": [round(max((share for at, share in known if at <= limit), default=0.0), 5) for limit in SECONDS],
        "mean": round(_mean_share(known, SECONDS[-1]), 5),
    }


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the medians over the seeds, and the mean of the means with its standard error."""
    for axes in AXES:
        own = [row[axes] for row in rows]
        packages, seconds = (
            " ".join(_median(at) for at in zip(*(row[key] for row in own), strict=True))
            for key in ("packages", "seconds")
        )
        means = [row["mean"] for row in own]
        error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
        print(
            f"{rows[0]['sampler']:>7}, {axes}: after {PACKAGES} packages {packages}; after {SECONDS} s {seconds}; "
            f"mean over time {statistics.mean(means):.4f} ± {error:.4f}",
            flush=True,
        )


def _median(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{statistics.median(known):.3f}" if len(known) == len(shares) else "–"


def _mean_share(known: Sequence[tuple[float, float]], until: float) -> float:
    """The mean of a curve over time."""
    at = np.array([0.0, *(seconds for seconds, _ in known), until])
    shares = np.array([0.0, *(share for _, share in known)])
    widths = np.diff(np.minimum(at, until))
    return float((widths * shares).sum() / until)


if __name__ == "__main__":
    main()
