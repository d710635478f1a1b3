"""A table of real trainings, on which samplers are compared: every cell is trained and packaged for real.

A cell is a network, a recipe and a rung; its row has the processor's seconds of its training (one thread) and of its
packages (wall-clock would count what else runs), its learning curve, and, for each compression, the readings of the saved
package: top-1 on the validation split and on the test split, size, memory, estimated latency and energy. Nothing is
inherited, or a cell would depend on what was trained before it. Rows are appended as they are made, so a killed run goes on.

    python benchmarks/trainings_table.py --work DIR [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, store

from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.data import load_data
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.store import Store
from coreml_pareto.search.teaching import teacher_network
from coreml_pareto.search.trial import Laboratory, open_laboratory
from coreml_pareto.spaces.candidate import Candidate, Recipe
from coreml_pareto.spaces.compression import spell
from coreml_pareto.spaces.counts import count
from coreml_pareto.spaces.space import Space, choose_from

NAME = "trainings_table"


BACKBONES = ("mobilenetv2", "mobilenetv3_small", "mobilenetv4_conv_small", "efficientnet_lite0", "squeezenet1_1")


def plan_of(sampler: str = "random", seed: int = 0, *, gate: bool = False, without: str = "") -> Plan:
    """The study whose space the table holds, whole or without a backbone."""
    return load_plan(
        None,
        {
            "name": "table", "data": "digits",
            "networks": {
                "backbones": [name for name in BACKBONES if name != without],
                "width": [0.35, 0.5, 0.75, 1.0], "resolution": [32], "pretrained": False,
            },
            "distillation": {
                "teachers": ["none", "mobilenetv3_large"], "teacher_width": 0.75, "teacher_resolution": 48,
                "temperature": [4], "hard_weight": [0.5], "soft_weight": [1.0], "feature_weight": [0.0],
            },
            "compression": ["fp16", "int8/channel", "palette-8/tensor", "palette-6/tensor", "palette-4/tensor"],
            "training": {"epochs": [12], "rungs": 2, "inherit": False, "batch_size": 64},
            "search": {"sampler": sampler, "seed": seed, "gate": gate},
        },
    )  # fmt: skip


def trainings(space: Space) -> Iterator[Candidate]:
    """Every training of the space once, as its fp16 candidate, the shortest rung first."""
    found: dict[tuple[object, object], Candidate] = {}
    for rung in space.ladder:
        for network in space.networks():
            for teacher in space.distillation.teachers:
                plain = space.decode(choose_from({"teacher": teacher, "compression": "fp16"}))
                candidate = space.on_rung(plain.model_copy(update={"network": network}), rung)
                recipe = space.decode(choose_from(space.encode(candidate) | {"teacher": teacher}))
                found.setdefault((recipe.network, recipe.recipe), recipe)
    return iter(found.values())


class _Silent:
    """Watches without a word."""

    def note(self, doing: str) -> None: ...
    def stage(self, name: str, seconds: float | None) -> None: ...
    def step(self, step: object) -> None: ...
    def packaged(self, known: object) -> None: ...


def _laboratory(store: Path) -> Laboratory:
    torch.set_num_threads(1)
    plan = plan_of()
    return open_laboratory(plan, load_data("digits", seed=plan.splits.seed), Store(store), lambda teacher: None)


def _cell(work: Path, fp16: Candidate) -> dict[str, Any]:
    """Train one cell, package it in every compression, read the packages.

    Its store is its own, with the teacher in it: what another run had made before it was killed would cost nothing here.
    """
    store = work / fp16.digest
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(work / TEACHER, store)
    laboratory, space = _laboratory(store), plan_of().space(10)
    packages, clock = {}, time.process_time()
    teacher = laboratory.teacher(fp16.recipe, _Silent())
    trained = laboratory.trainer.train(fp16.network, fp16.recipe, lambda step: None, teacher)
    training, clock = time.process_time() - clock, time.process_time()
    for compression in space.compressions:
        candidate = space.compressed(fp16, compression)
        outcome = laboratory.evaluate(candidate, _Silent())
        if not isinstance(outcome, Scored):
            raise RuntimeError(f"{candidate.network.label}: {outcome}")
        readings = {name: outcome.score[name].value for name in ("top1", *_STATIC)}
        test = laboratory.test_top1(outcome.package, candidate).value
        packages[spell(compression)] = readings | {"test_top1": test}
    names = {"network": fp16.network.label, "teacher": fp16.recipe.teacher, "epochs": fp16.recipe.epochs}
    seconds = {"training": training, "packages": time.process_time() - clock}
    curve = [round(epoch["top1"], 4) for epoch in trained.record["history"]]
    shutil.rmtree(store)
    return names | {"digest": fp16.digest, "seconds": seconds, "curve": curve, "packages": packages}


def _taught(work: Path, recipe: Recipe) -> float:
    """Train the teacher before several processes need it; return the processor's seconds that this took."""
    note = work / "teacher.json"
    if not note.is_file():
        shutil.rmtree(work / TEACHER, ignore_errors=True)
        laboratory, clock = _laboratory(work / TEACHER), time.process_time()
        laboratory.teacher(recipe, _Silent())
        note.write_text(json.dumps(time.process_time() - clock))
    return float(json.loads(note.read_text()))


TEACHER = "teacher"
_STATIC = ("latency_ms", "size_bytes", "memory_bytes", "energy_mj", "macs")


def main() -> None:
    """Make what is missing of the table, and store it whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    log = asked.work / "rows.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    wanted = {candidate.digest: candidate for candidate in trainings(plan_of().space(10))}
    rows = [row for row in rows if row["digest"] in wanted]
    known = {row["digest"] for row in rows}
    missing = [candidate for digest, candidate in wanted.items() if digest not in known]
    teacher = next(candidate.recipe for candidate in trainings(plan_of().space(10)) if candidate.recipe.teacher)
    taught = _taught(asked.work, teacher)
    apart = multiprocessing.get_context("spawn")  # torch has threads by now
    with ProcessPoolExecutor(asked.workers, apart) as pool:
        for done, row in enumerate(pool.map(_cell, repeat(asked.work), missing), 1):
            rows.append(row)
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{done}/{len(missing)} {row['network']} {row['teacher']} {row['epochs']} {row['seconds']['training']:.0f} s",
                flush=True,
            )
    store(
        NAME,
        rows,
        data="digits",
        training_threads=1,
        teacher_seconds=taught,
        teacher_macs=count(teacher_network(plan_of(), "mobilenetv3_large", 10)).macs,
        processes=asked.workers,
    )
    print(RESULTS / f"{NAME}.json")


if __name__ == "__main__":
    main()
