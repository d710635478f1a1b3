"""Does scoring a package cost more than running the network it came from?

Images per second of the executor on a saved fp16 package, against the same network in torch eager: same batch, same
threads, one run, rounds taken in turn, medians. Both start from the same uint8 pictures and end in probabilities.
Eager is timed in both memory layouts; the ratio is to the faster one, so above 1 the executor is faster.

    python benchmarks/executor_throughput.py [--threads 1] [--batch 64] [--rounds 9]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from record import store

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.objectives.program import Executor, load
from coreml_pareto.search.stages.convert import Classifier, Wrapping, convert, save
from coreml_pareto.search.stages.package import randomised
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.families import family_of

SIDE, CLASSES, GOAL = 96, 10, 0.8
BACKBONES = (
    "mobilenetv1", "mobilenetv2", "mobilenetv3_small", "mobilenetv3_large", "mobilenetv4_conv_small",
    "efficientnet_b0", "efficientnet_lite0", "efficientnetv2_b0", "squeezenet1_0", "squeezenet1_1",
)  # fmt: skip


def main() -> None:
    """Time every backbone, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rows = []
    for backbone in BACKBONES:
        rates = throughput(backbone, chosen.batch, chosen.rounds)
        ratio = rates["executor"] / max(rates["eager"], rates["eager_channels_last"])
        rows.append({"backbone": backbone, "ratio": round(ratio, 3)})
        print(f"{backbone:24s} executor {ratio:.2f} × torch eager", flush=True)
    worst = min(rows, key=lambda row: row["ratio"])
    print(f"Least: {worst['ratio']:.2f} × ({worst['backbone']}); wanted: at least {GOAL} ×.")
    store("executor_throughput", rows, batch=chosen.batch, rounds=chosen.rounds, side=SIDE, precision="fp16 package")


@torch.inference_mode()
def throughput(backbone: str, batch: int, rounds: int) -> dict[str, float]:
    """Return images per second of the executor and of eager torch in both layouts."""
    network = Network(family=family_of(backbone), backbone=backbone, resolution=SIDE, classes=CLASSES)
    module = randomised(network)
    classifier = Classifier(module, network).eval()
    executor = Executor(load(_package(module, network)))
    images = torch.randint(0, 256, (batch, SIDE, SIDE, 3), dtype=torch.uint8)
    contenders: dict[str, Callable[[], object]] = {
        "executor": lambda: executor.run(images),
        "eager": lambda: classifier(images.permute(0, 3, 1, 2).float().contiguous()),
        "eager_channels_last": lambda: classifier(images.permute(0, 3, 1, 2).float()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, call in contenders.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: batch / statistics.median(times[1:]) for name, times in seconds.items()}  # the first warms up


def _package(module: torch.nn.Module, network: Network) -> Path:
    labels = tuple(str(label) for label in range(CLASSES))
    wrapping = Wrapping(network, labels, Preprocessing(resolution=SIDE), {}, network.label)
    folder = Path(tempfile.mkdtemp()) / "model.mlpackage"
    with torch.inference_mode(False):
        save(convert(module, wrapping, minimum_os=15, precision="fp16"), folder)
    return folder


if __name__ == "__main__":
    main()
