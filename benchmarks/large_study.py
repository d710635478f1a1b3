"""How long does a large study take to be read, and to be asked?  Ours against Optuna alone, in one run.

A study of synthetic results (sizes and accuracies with a trade-off, no training) is written as a search writes it:
candidates, readings and constraints as attributes of Optuna's trials. Then, in turn:

- reading: `optuna.load_study(...).trials` against what `front` and `best` do with the run folder, each in a process of
  its own that has imported everything before the clock starts;
- asking: ask + tell of our study, which holds 2,000 trials, against a plain `TPESampler()` on the same trials.

    python benchmarks/large_study.py [--trials 10000] [--asked 2000] [--repeats 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial
from record import store
from sqlalchemy import event

from coreml_pareto.objectives.reading import Reading, Score, exact
from coreml_pareto.search.acquisition import Acquisition, Images
from coreml_pareto.search.choose import front, recommend
from coreml_pareto.search.config import Plan, dump_plan, load_plan
from coreml_pareto.search.gate import Gate
from coreml_pareto.search.origin import Origin
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.proposals import Proposals
from coreml_pareto.search.record import DATABASE, PLAN
from coreml_pareto.search.run import Result
from coreml_pareto.search.study import Study, load_run
from coreml_pareto.search.told import attributes_of, value_of
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe
from coreml_pareto.spaces.space import Knob, Value

READERS: dict[str, Callable[[Path], object]] = {
    "optuna": lambda folder: optuna.load_study(study_name="large", storage=f"sqlite:///{folder / DATABASE}").trials,
    "front": lambda folder: front(load_run(folder)),
    "best": lambda folder: recommend(load_run(folder)),
}


Scoring = Callable[[Candidate, random.Random], dict[str, Reading]]


def main() -> None:
    """Build, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--asked", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--read", choices=[*READERS], help="only this reader of --folder: prints its seconds")
    asked = parser.parse_args()
    if asked.read:
        print(timed(READERS[asked.read], asked.folder))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        rows = _reading(folder / "read", asked.trials, asked.repeats)
        rows += _asking(folder / "ask", asked.asked, asked.repeats)
    for row in rows:
        print(f"{row['what']:>22}: {row['seconds']:.3f} s, {row['share']:.2f} of {row['of']}")
    store("large_study", rows, trials=asked.trials, asked=asked.asked, repeats=asked.repeats)


def _reading(folder: Path, trials: int, repeats: int) -> list[dict[str, object]]:
    build(folder, trials)
    return rows_of(in_turns(__file__, READERS, folder, repeats), "optuna", f"read {trials}, ")


def timed(reader: Callable[[Path], object], folder: Path) -> float:
    """Return the seconds that a reader takes."""
    started = time.perf_counter()
    reader(folder)
    return time.perf_counter() - started


def in_turns(script: str, readers: Iterable[str], folder: Path, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of readers by name, each time in a process of its own that has imported everything.

    `script --read NAME --folder FOLDER` prints them. Readers take turns: a machine that slows down slows all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repeats):
        for name, found in seconds.items():
            command = [sys.executable, script, "--read", name, "--folder", str(folder)]
            found.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]))
    return seconds


def _asking(folder: Path, trials: int, repeats: int) -> list[dict[str, object]]:
    """Ask + tell by ours and by plain TPE, in turns; what is told is drawn anew, as in a search.

    Ours is the mean over a training: its choice, and all of its packages, of which the others stand in line.
    """
    ours = build(folder, trials, whole=True)
    copied = optuna.load_study(study_name="large", storage=f"sqlite:///{folder / DATABASE}")
    plain = optuna.create_study(
        study_name="plain", storage=f"sqlite:///{folder / 'plain.db'}", directions=copied.directions, sampler=TPESampler(seed=0)
    )  # fmt: skip
    _hasten(plain)
    plain.add_trials(copied.get_trials(deepcopy=False))
    draws, seconds = random.Random(1), dict[str, list[float]](plain=[], ours=[])
    proposals, seen = _proposals(ours, draws)
    for number in range(repeats + 1):
        started = time.perf_counter()
        trial = plain.ask()
        candidate = ours.space.decode(lambda knob, trial=trial: trial.suggest_categorical(knob.name, knob.choices))
        score = formula(candidate, draws)
        plain.tell(trial, [score[row.reading].value for row in ours.objectives])
        between = time.perf_counter()
        told = _training(ours, proposals, seen, draws, folder)
        if number:  # the first also reads the study
            seconds["plain"].append(between - started)
            seconds["ours"].append((time.perf_counter() - between) / told)
    return rows_of(seconds, "plain", f"ask + tell at {trials}, ")


def _proposals(study: Study, draws: random.Random) -> tuple[Proposals, dict[str, Result]]:
    """What a search asks by, with a formula for the laboratory."""
    reader, seen = _Formula(draws), {result.candidate.digest: result for result in study.results()}
    chooser = Acquisition(study.plan, study.space, reader, Images(2000, 2000))
    gate = Gate(study.plan, study.space, reader, 2000)  # type: ignore[arg-type]
    return Proposals(study.plan, study.space, study, reader, gate, chooser, seen, {}, Origin()), seen  # type: ignore[arg-type]


def _training(study: Study, proposals: Proposals, seen: dict[str, Result], draws: random.Random, folder: Path) -> int:
    """Ask and tell until no package of the chosen training stands in line; return how many were told."""
    told = 0
    while not told or study.waiting():
        proposals.next()
        asked = study.ask(proposals.rung)
        outcome = Scored(
            formula(asked.candidate, draws), folder / "store" / "model.mlpackage", {"training": f"new {told}"}
        )
        study.tell(asked, outcome, 1.0)
        seen[asked.candidate.digest] = result = Result(asked.number, asked.candidate, outcome)
        proposals.after(result)
        told += 1
    return told


class _Formula:
    """Stands for the laboratory: readings without training by the formula of the results."""

    def __init__(self, draws: random.Random) -> None:
        self.draws = draws

    def foreseen(self, network: Network, compressions: Iterable[Compression]) -> Iterator[Score]:
        first = Candidate(
            network=network, recipe=Recipe(epochs=8, learning_rate=1e-3, weight_decay=0.0), compression=Compression()
        )
        for compression in compressions:
            yield formula(first.model_copy(update={"compression": compression}), self.draws)

    def over(self, score: Score) -> tuple[str, ...]:
        return ()

    def probe(self, candidate: Candidate) -> Score:
        return {}


def build(folder: Path, trials: int, *, whole: bool = False, score: Scoring | None = None) -> Study:
    """A run folder with that many scored trials, each another training, or each training with `whole` its packages."""
    score = score or formula
    plan = _plan()
    space, draws = plan.space(10), random.Random(0)
    study = Study(folder, plan, space)
    (folder / PLAN).write_text(dump_plan(plan))
    _hasten(study._study)
    line: list[Candidate] = []
    for _ in range(trials - study.told()):
        if not line:
            drawn = space.decode(lambda knob: draws.choice(knob.choices))
            line = [space.compressed(drawn, one) for one in space.compressions] if whole else [drawn]
        candidate = line.pop()
        params, knobs = space.encode(candidate), dict[str, CategoricalDistribution]()

        def note(
            knob: Knob, knobs: dict[str, CategoricalDistribution] = knobs, params: Mapping[str, Value] = params
        ) -> Value:
            knobs[knob.name] = CategoricalDistribution(knob.choices)
            return params[knob.name]

        space.decode(note)
        outcome = Scored(
            score(candidate, draws), folder / "store" / candidate.digest / "model.mlpackage", {"training": "0"}
        )
        attributes = {"candidate": candidate.model_dump(mode="json"), **attributes_of(outcome, folder), "seconds": 1.0}
        study._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                values=[value_of(outcome, row) for row in study.objectives],
                params=params,
                distributions=knobs,
                user_attrs=attributes,
                constraints=study._violations(outcome.score, plan),
            )
        )
    return study


def _plan() -> Plan:
    wide = {"teachers": ["none", "mobilenetv3_large"], "temperature": [2, 3, 4, 5], "soft_weight": [0.3, 0.5, 1.0]}
    return load_plan(
        None,
        {
            "name": "large", "networks": {"width": [0.35, 0.5, 0.75, 1.0], "resolution": [64, 96, 128, 160]},
            "distillation": wide, "compression": ["all"], "training": {"epochs": [8, 12, 16, 20]},
            "limits": {"size": "10MB"}, "search": {"trials": 100_000},
        },
    )  # fmt: skip


def formula(candidate: Candidate, draws: random.Random) -> dict[str, Reading]:
    """Readings with a trade-off: what is larger is slower and, mostly, better."""
    network = candidate.network
    size = 4e6 * network.width**1.7 * (candidate.compression.bits / 16) * draws.uniform(0.9, 1.1)
    work = network.width**1.5 * (network.resolution / 128) ** 2 * draws.uniform(0.8, 1.2)
    top1 = min(0.99, max(0.1, 0.95 - 0.1 * work**-0.4 - 0.05 * (1e6 / size) ** 0.3 - draws.expovariate(40)))

    def estimate(value: float, unit: str) -> Reading:
        conditions = {"device": "iPhone 15 Pro", "os": "iOS 17", "compute_units": "ALL", "unit": "Neural Engine"}
        return Reading(value, unit, value / 2, value * 2, "estimated", conditions)

    return {
        "top1": Reading(top1, "share", top1 - 0.02, min(1, top1 + 0.02), "measured", {"images": "2000", "split": "validation"}),
        "top5": Reading(0.99, "share", 0.98, 1.0, "measured", {"images": "2000", "split": "validation"}),
        "latency_ms": estimate(0.2 + work, "ms"), "fps": estimate(1000 / (0.2 + work), "1/s"),
        "size_bytes": exact(size, "B"), "bits_per_weight": exact(8.1, "bit"),
        "memory_bytes": estimate(size + 2e6 * work, "B"), "energy_mj": estimate(0.1 + work / 2, "mJ"),
        "energy_mah": estimate((0.1 + work / 2) / 13860, "mAh"), "macs": exact(3e8 * work, "1"),
    }  # fmt: skip


def _hasten(study: optuna.Study) -> None:
    """Do not wait for the disk after each of thousands of commits: this database is thrown away."""
    backend = study._storage._backend  # type: ignore[attr-defined]

    @event.listens_for(backend.engine, "connect")
    def connected(connection: object, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]

    backend.engine.dispose()


def rows_of(seconds: dict[str, list[float]], of: str, what: str) -> list[dict[str, object]]:
    """The median of each, and its share of the peer's."""
    peer = statistics.median(seconds[of])
    return [
        {
            "what": what + name, "seconds": statistics.median(found), "all": found,
            "share": statistics.median(found) / peer, "of": of,
        }
        for name, found in seconds.items()
    ]  # fmt: skip


if __name__ == "__main__":
    main()
