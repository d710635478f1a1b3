"""What does the gate save, and what does it cost?  The same search with and without it, on the table of real trainings.

The gate stops trainings that cannot enter the front (`search/gate.py`). Its searches read `trainings_table.py`'s rows epoch
by epoch: where it stops, the rest of the row's seconds is saved, and what stands in line for that training is told as
stopped. Both searches begin the same number of trainings. Reported: the share of the seconds in training that was saved,
and by how much the hypervolume of test error, log10 bytes and log10 MACs (the box of `search_efficiency.py`) is smaller.

    python benchmarks/gate.py [--seeds 20] [--samplers random auto]
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from record import store
from samplers import Table, load_table, run, volumes


def compared(table: Table, sampler: str, seed: int, trainings: int) -> dict[str, Any]:
    """Search with and without the gate; return seconds in training, hypervolumes and packages of both."""
    without, gated = (run(table, sampler, seed, trainings, gated=on) for on in (False, True))
    volume = {name: volumes(course.points, "three")[-1] for name, course in (("without", without), ("gated", gated))}
    return {
        "sampler": sampler, "seed": seed, "trainings": trainings,
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
    parser.add_argument("--trainings", type=int, nargs="+", default=[40, 80])
    parser.add_argument("--samplers", nargs="+", default=["random", "auto"])
    asked = parser.parse_args()
    table, content = load_table()
    rows = []
    for sampler in asked.samplers:
        for trainings in asked.trainings:
            found = [compared(table, sampler, seed, trainings) for seed in range(asked.seeds)]
            saved, lost = (statistics.median(row[name] for row in found) for name in ("saved", "lost"))
            print(
                f"{sampler}, {trainings} trainings: {saved:.0%} of the training saved, {lost:.2%} of the volume lost",
                flush=True,
            )
            rows += found
    store("gate", rows, seeds=asked.seeds, table=content["conditions"])


if __name__ == "__main__":
    main()
