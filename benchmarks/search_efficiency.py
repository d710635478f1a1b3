"""How much sooner does this search get where plain Optuna gets? Equal wall-clock, same data, splits, space and machine.

The peer is `plain_optuna.py`. Both get the same study file and the same time, one after the other, seed by seed (or with
`--at-once` side by side, each pinned to one half of the cores: whatever else the machine does then meets both); each
leaves its packages and when they were there. Judged is afterwards, outside of anybody's time: every package's error on
the test split (the same images for both), its bytes, its multiply-accumulates and its estimated latency. The hypervolume
is that of test error (box 0 to 0.5), log10 bytes (4.5 to 7.5) and log10 MACs (5 to 9); and the same with log10 latency in
milliseconds (-2 to 2) as a fourth axis. Reported: the share of the time after which this search's hypervolume reaches the
peer's last one, and both last ones.

    python benchmarks/search_efficiency.py --studies digits cifar10 --data cifar10=DATA --minutes 10 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import optuna
from record import others, store

from coreml_pareto.objectives.accuracy import evaluate
from coreml_pareto.objectives.pareto import hypervolume
from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search.config import dump_plan, load_plan
from coreml_pareto.search.data import Split, load_data
from coreml_pareto.search.events import read_events
from coreml_pareto.search.profile import Profile, profile
from coreml_pareto.spaces.candidate import Candidate

HERE, NAME = Path(__file__).parent, "search_efficiency"
STUDIES: dict[str, dict[str, Any]] = {
    "digits": {"data": "digits", "networks": {"width": [0.35, 0.5, 0.75], "resolution": [32, 48]}, "training": {"epochs": 12}},
    "cifar10": {
        "networks": {"width": [0.35, 0.5, 0.75], "resolution": [32, 48]}, "training": {"epochs": 3},
        "distillation": {"teacher_resolution": 32},
    },
}  # fmt: skip
"""Epochs such that several trainings fit into the time, on CIFAR-10 (42,500 images) into 45 minutes of one core."""
COMMON: dict[str, Any] = {
    "networks": {
        "backbones": [
            "mobilenetv2",
            "mobilenetv3_small",
            "mobilenetv4_conv_small",
            "efficientnet_lite0",
            "squeezenet1_1",
        ],
        "pretrained": False,
    },
    "distillation": {"teachers": ["none", "mobilenetv3_large"], "teacher_width": 0.75, "teacher_resolution": 48},
    "compression": ["fp16", "int8/channel", "palette-8/tensor", "palette-6/tensor", "palette-4/tensor"],
    "training": {"batch_size": 64},
}
AXES = {
    "three": ((0.5, 7.5, 9.0), (0.0, 4.5, 5.0)),
    "with latency": ((0.5, 7.5, 9.0, 2.0), (0.0, 4.5, 5.0, -2.0)),
}
"""Reference and ideal of each hypervolume: the box has the volume 1."""


@final
@dataclass(frozen=True)
class Package:
    """A package and the seconds after which it was there."""

    seconds: float
    path: Path
    resolution: int


def ours(study: Path, folder: Path, minutes: float, seed: int, cores: Sequence[int]) -> list[Package]:
    """Search, as a user does, and return the packages with their times."""
    command = [sys.executable, "-m", "coreml_pareto.search.cli", "search", str(study), "--run", str(folder)]
    started = time.time()
    _run([*command, "--timeout", f"{minutes:g}m", "--seed", str(seed)], folder.with_suffix(".log"), cores)
    address = f"sqlite:///{folder / 'study.db'}"
    trials = optuna.load_study(study_name=load_plan(str(study)).name, storage=address).trials
    return [
        Package(
            trial.datetime_complete.timestamp() - started, folder / trial.user_attrs["package"],
            Candidate.model_validate(trial.user_attrs["candidate"]).network.resolution,
        )
        for trial in trials
        if trial.datetime_complete and "package" in trial.user_attrs
    ]  # fmt: skip


def peers(study: Path, folder: Path, minutes: float, seed: int, cores: Sequence[int]) -> list[Package]:
    """Let the peer search and return its packages with their times."""
    command = [sys.executable, str(HERE / "plain_optuna.py"), str(study), "--out", str(folder), "--seed", str(seed)]
    started = time.time()
    with suppress(subprocess.TimeoutExpired):  # Optuna ends a trial that it has begun, whose package came too late
        _run([*command, "--timeout", str(60 * minutes)], folder.with_suffix(".log"), cores, 60 * minutes)
    log = folder / "packages.jsonl"
    rows = map(json.loads, log.read_text().splitlines() if log.is_file() else ())  # it may have come to none
    return [Package(row["at"] - started, folder / row["package"], row["resolution"]) for row in rows]


def _run(command: Sequence[str], log: Path, cores: Sequence[int], seconds: float | None = None) -> None:
    bound = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command] if cores else command
    with log.open("w") as file:
        subprocess.run(bound, check=True, stdout=file, stderr=subprocess.STDOUT, timeout=seconds)


def halves() -> tuple[list[int], list[int]]:
    """Return the cores of this process, dealt out to two."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[::2], cores[1::2]


def points(packages: Sequence[Package], split: Split, seconds: float) -> list[tuple[float, tuple[float, ...]]]:
    """Return time and losses of each package that was there in time: error, log bytes, log MACs, log latency."""
    found = []
    target = load_plan(None).target.resolve()
    for package in sorted(packages, key=lambda one: one.seconds):
        if package.seconds > seconds:
            continue
        program = load(package.path)
        result = evaluate(program, split.batches(Preprocessing(resolution=package.resolution), 256), split="benchmark")
        known = static_score(program, target)
        logs = (math.log10(known[name].value) for name in ("size_bytes", "macs", "latency_ms"))
        found.append((package.seconds, (1 - result.score["top1"].value, *logs)))
    return found


def curve(found: Sequence[tuple[float, tuple[float, ...]]], axes: str) -> list[tuple[float, float]]:
    """Return the hypervolume after each package, as a share of the box."""
    corner, ideal = AXES[axes]
    box = math.prod(high - low for high, low in zip(corner, ideal, strict=True))
    table = [[max(value, low) for value, low in zip(losses, ideal, strict=False)] for _, losses in found]
    return [(at, hypervolume(table[: n + 1], corner) / box) for n, (at, _) in enumerate(found)]


def reached(own: Sequence[tuple[float, float]], level: float) -> float | None:
    """Return when a curve reaches a level; None if it never does."""
    return next((seconds for seconds, volume in own if volume >= level), None)


def compared(name: str, data: str, minutes: float, seed: int, images: int, work: Path, at_once: bool) -> dict[str, Any]:
    """Run both on one study and seed and return the figures."""
    work.mkdir(parents=True)
    plan = load_plan(None, _merged(COMMON, STUDIES[name]) | {"name": "efficiency", "data": data})
    study = work / "study.yaml"
    study.write_text(dump_plan(plan))
    theirs_on, ours_on = halves() if at_once else ([], [])
    with ThreadPoolExecutor(2 if at_once else 1) as pool:
        theirs = pool.submit(peers, study, work / "peer", minutes, seed, theirs_on)
        own = pool.submit(ours, study, work / "ours", minutes, seed, ours_on)
    found = {"peer": theirs.result(), "ours": own.result()}
    test = load_data(data, seed=plan.splits.seed).open_test("benchmark")
    split = test.subset(test.sample(min(images, len(test)), seed=0))
    judged = {who: points(packages, split, 60 * minutes) for who, packages in found.items()}
    row: dict[str, Any] = {
        "study": name, "seed": seed, "minutes": minutes, "at_once": at_once, "test_images": len(split)
    }  # fmt: skip
    for axes in AXES:
        curves = {who: curve(rows, axes) for who, rows in judged.items()}
        level, last = (curves[who][-1][1] if curves[who] else 0.0 for who in ("peer", "ours"))
        at = reached(curves["ours"], level) if level else None  # nothing is reached at once
        row[axes] = {
            "peer": level, "ours": last, "share_of_time": None if at is None else at / (60 * minutes),
            "curves": {who: [(round(t, 1), round(v, 5)) for t, v in rows] for who, rows in curves.items()},
        }  # fmt: skip
    counts = {who: len(rows) for who, rows in judged.items()}
    return row | {"packages": counts, "time": shares(profile(read_events(work / "ours")))}


def shares(time: Profile) -> dict[str, float]:
    """Return what share of the wall-clock of our search was spent on what; `outside` of training and evaluation."""
    parts = {"outside": time.outside, **time.stages, **time.between}
    return {name: round(seconds / time.wall, 4) for name, seconds in parts.items() if seconds}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return base | {key: base.get(key, {}) | value if isinstance(value, dict) else value for key, value in over.items()}


def main() -> None:
    """Compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", choices=tuple(STUDIES), default=tuple(STUDIES))
    parser.add_argument("--data", nargs="*", default=[], metavar="STUDY=FOLDER")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=2000, help="of the test split, at most")
    parser.add_argument("--work", type=Path, default=Path("runs/search_efficiency"))
    parser.add_argument("--at-once", action="store_true", help="both side by side, each on half of the cores (Linux)")
    asked = parser.parse_args()
    folders = {"digits": "digits"} | dict(pair.split("=", 1) for pair in asked.data)
    rows = []
    for name in asked.studies:
        for seed in asked.seeds:
            work = asked.work / f"{name}-{seed}"
            row = compared(name, folders[name], asked.minutes, seed, asked.images, work, asked.at_once)
            rows.append(row)
            known = others(NAME, rows, ("study", "seed"))  # and what is done is stored at once: a night is not lost
            store(NAME, [*known, *rows], test_images="of the test split, the same for both")
            three = row["three"]
            share = three["share_of_time"]
            told = "reached never" if share is None else f"reached after {share:.0%} of the time"
            told = told if three["peer"] else "the peer has nothing to be reached"
            print(f"{name}, seed {seed}: peer {three['peer']:.4f}, ours {three['ours']:.4f}, {told}", flush=True)


if __name__ == "__main__":
    main()
