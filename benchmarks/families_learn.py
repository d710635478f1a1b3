"""Does every family learn?  Each family's plainest network, trained from random weights on digits, over three seeds.

Prints top-1 of the saved fp16 package on the test split for each seed, the median, and the seconds of training, and
stores them with their conditions in `benchmarks/results/families_learn.json`.

    python benchmarks/families_learn.py [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from record import store

from coreml_pareto.objectives.accuracy import evaluate
from coreml_pareto.objectives.program import load
from coreml_pareto.search.budget import DEFAULT_EPOCHS
from coreml_pareto.search.data import load_data
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.train import Trainer, preprocessing_of
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Compression, Network, Recipe
from coreml_pareto.spaces.families import training_defaults

NETWORKS = (
    Network(family="mobilenet", backbone="mobilenetv3_small", width=0.5, resolution=48, stem_stride=1, classes=10),
    Network(family="efficientnet", backbone="efficientnet_lite0", width=0.5, resolution=32, stem_stride=1, classes=10),
    Network(family="squeezenet", backbone="squeezenet1_1", resolution=48, stem_stride=1, classes=10),
)
SEEDS = (0, 1, 2)


def main() -> None:
    """Train, package, evaluate, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    data = load_data("digits")
    test = data.open_test("benchmark")
    rows = []
    for network in NETWORKS:
        for seed in SEEDS:
            defaults = training_defaults(network.family)
            recipe = Recipe(epochs=DEFAULT_EPOCHS, seed=seed, **vars(defaults))
            with tempfile.TemporaryDirectory() as folder:
                kept = Store(Path(folder))
                trained = Trainer(kept, data, "false").train(network, recipe, lambda step: None)
                package = Packager(kept, data, {"seed": 0}).package(trained, Compression())
                top1 = evaluate(load(package), test.batches(preprocessing_of(network), 128), split="test").score["top1"]
                row = {"network": network.label, "family": network.family, "seed": seed, "test_top1": top1.value,
                       "seconds": trained.record["seconds"]}  # fmt: skip
            rows.append(row)
            print(f"{network.label} seed {seed}: {top1.value:.2%} in {row['seconds']:.0f} s", flush=True)
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == family]
        print(
            f"{family}: median {statistics.median(row['test_top1'] for row in own):.2%} test top-1 over {len(own)} seeds"
        )
    store("families_learn", rows, data="digits", epochs=DEFAULT_EPOCHS, test_images=len(test))


if __name__ == "__main__":
    main()
