"""What does the gate save, and what does it cost?  The same search with and without it, on the table of real trainings.

The gate stops trainings that cannot enter the front (`search/gate.py`). Its searches read `trainings_table.py`'s rows epoch
by epoch: where it stops, the rest of the row's seconds is saved, and what stands in line for that training is told as
stopped. Both searches begin the same number of trainings. Reported: the share of the seconds in training that was saved,
and by how much the hypervolume of test error, log10 bytes and log10 MACs (the box of `search_efficiency.py`) is smaller.

Of 80 rows in all 60 are the most that differ: a search that asks for all has nothing left to choose.

`auto` draws nothing: every seed is the same. Its searches differ by the backbone that is left out of the table.

    python benchmarks/gate.py --samplers auto --seeds 1 --left-out "" mobilenetv2 mobilenetv3_small …
    python benchmarks/gate.py [--seeds 20] [--samplers random tpe auto]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import torch
from record import others, store
from samplers import load_table, run, volumes
from trainings_table import BACKBONES


def compared(sampler: str, seed: int, trainings: int, left_out: str = "") -> dict[str, Any]:
    """Search with and without the gate; return seconds in training, hypervolumes and packages of both."""
    torch.set_num_threads(1)
    table, _ = load_table(left_out)
    without, gated = (run(table, sampler, seed, trainings, gated=on) for on in (False, True))
    volume = {name: volumes(course.points, "three")[-1] for name, course in (("without", without), ("gated", gated))}
    return {
        "sampler": sampler, "seed": seed, "trainings": trainings, "left_out": left_out,
        "training_seconds": {"without": round(without.training, 1), "gated": round(gated.training, 1)},
        "saved": round(1 - gated.training / without.training, 4),
        "hypervolume": {name: round(value, 5) for name, value in volume.items()},
        "lost": round(1 - volume["gated"] / volume["without"], 5),
        "packages": {"without": len(without.points), "gated": len(gated.points)},
    }  # fmt: skip


def main() -> None:
    """Compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trainings", type=int, nargs="+", default=[20, 40, 60])
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe", "auto"])
    parser.add_argument(
        "--left-out", nargs="+", default=[""], choices=["", *BACKBONES], help="problems: without each of these"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, each with one thread")
    asked = parser.parse_args()
    table = load_table()[1]["conditions"]
    for sampler, trainings in product(asked.samplers, asked.trainings):
        tasks = list(product(range(asked.seeds), asked.left_out))
        with ProcessPoolExecutor(asked.workers, multiprocessing.get_context("spawn")) as pool:
            running = [pool.submit(compared, sampler, seed, trainings, left_out) for seed, left_out in tasks]
            rows = [task.result() for task in running]
        saved, lost = (statistics.median(row[name] for row in rows) for name in ("saved", "lost"))
        worst = max(row["lost"] for row in rows)
        print(
            f"{sampler}, {trainings} trainings: {saved:.0%} of the training saved, {lost:.2%} of the volume lost, "
            f"{worst:.2%} at worst of {len(rows)}",
            flush=True,
        )
        known = others("gate", rows, ("sampler", "trainings", "seed", "left_out"), table=table)
        store("gate", [*known, *rows], table=table)


if __name__ == "__main__":
    main()
