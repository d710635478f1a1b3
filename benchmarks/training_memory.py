"""What does a training on a CPU gain from keeping the memory that a step frees (`search/stages/allocator.py`)?

Two epochs of digits by the trainer, as a search trains, with the memory kept and with the allocator as it is; each time in a
process of its own, in turns. Told are processor seconds, the kernel's included, as a ratio, and the peak of memory.

    python benchmarks/training_memory.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from record import store

from coreml_pareto.search.data import load_data
from coreml_pareto.search.stages import train
from coreml_pareto.search.stages.train import Trainer
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network, Recipe
from coreml_pareto.spaces.families import family_of

NETWORKS = (
    ("mobilenetv3_small", 0.5, 32), ("squeezenet1_1", 0.35, 48), ("mobilenetv2", 0.75, 48), ("mobilenetv3_large", 0.75, 48),
)  # fmt: skip


def main() -> None:
    """Train in turns, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help="train one network, as JSON with `kept`, and print what it took")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(trained(*json.loads(asked.one))))
        return
    rows = [compared(*network, repeats=asked.repeats) for network in NETWORKS]
    for row in rows:
        print(f"{row['network']:>32}: {row['ratio']:.2f} of the time, {row['memory']:.2f} × the memory")
    store("training_memory", rows, data="digits", epochs=2, batch=64, repeats=asked.repeats)


def compared(backbone: str, width: float, side: int, *, repeats: int) -> dict[str, Any]:
    """Return the medians of both as ratios, kept against as it is."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    memory: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repeats):
        for kept in seconds:
            command = [sys.executable, __file__, "--one", json.dumps([backbone, width, side, kept])]
            found = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            seconds[kept].append(found["seconds"])
            memory[kept].append(found["memory"])
    ratio, more = (statistics.median(of[True]) / statistics.median(of[False]) for of in (seconds, memory))
    return {
        "network": f"{backbone}×{width:g} @{side}", "ratio": round(ratio, 3), "memory": round(more, 3),
        "seconds": {"kept": seconds[True], "as it is": seconds[False]},
    }  # fmt: skip


def trained(backbone: str, width: float, side: int, kept: bool) -> dict[str, float]:
    """Train in this process; return its processor seconds and its peak of memory in bytes."""
    torch.set_num_threads(1)
    if not kept:
        train.keeping_memory = nullcontext
    network = Network(
        family=family_of(backbone), backbone=backbone, width=width, resolution=side, stem_stride=1, classes=10
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Store(Path(folder)), load_data("digits"), "false", "cpu")
        recipe = Recipe(epochs=2, learning_rate=2e-3, weight_decay=0.02)
        before = resource.getrusage(resource.RUSAGE_SELF)
        trainer.train(network, recipe, lambda step: None)
        after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": spent, "memory": after.ru_maxrss * 1024}


if __name__ == "__main__":
    main()
