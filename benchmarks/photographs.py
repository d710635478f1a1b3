"""The networks that the benchmarks of compression work on: one of each family, trained on photographs, kept in a store.

The data set is an image folder (`train/<class>/...`, `test/<class>/...`), CIFAR-10 for the figures in the README. A
network that was trained before is found in the store.

    python benchmarks/photographs.py DATA --store runs/compressed
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from coreml_pareto.objectives.accuracy import evaluate
from coreml_pareto.objectives.program import load
from coreml_pareto.search.data import DataSet, Split, load_data
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.train import Step, Trainer, preprocessing_of
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network, Recipe
from coreml_pareto.spaces.families import family_of, training_defaults

NETWORKS = {"mobilenetv2": 0.5, "mobilenetv3_small": 1.0, "efficientnet_lite0": 0.5, "squeezenet1_1": 1.0}
"""Backbones and their widths."""

SIDE, EPOCHS, IMAGES, BATCH = 32, 10, 20_000, 128


@final
@dataclass(frozen=True)
class Bench:
    """Data, store and what trains and packages."""

    data: DataSet
    trainer: Trainer
    packager: Packager

    def trained(self, backbone: str) -> Trained:
        """The trained network of a backbone."""
        network = Network(
            family=family_of(backbone), backbone=backbone, width=NETWORKS[backbone], resolution=SIDE, stem_stride=1,
            classes=len(self.data.classes),
        )  # fmt: skip
        recipe = Recipe(epochs=EPOCHS, batch_size=BATCH, seed=0, **vars(training_defaults(network.family)))
        return self.trainer.train(network, recipe, _tell)


def open_bench(data: str, store: Path) -> Bench:
    """The data set with as many training images as the networks are trained on."""
    whole = load_data(data)
    rows = whole.train.sample(min(IMAGES, len(whole.train)), seed=0)
    fewer = replace(whole, train=whole.train.subset(rows), digest=f"{whole.digest}-{len(rows)}")
    kept = Store(store)
    return Bench(fewer, Trainer(kept, fewer, "false"), Packager(kept, fewer, {"seed": 0}))


def right(package: Path, network: Network, split: Split) -> NDArray[np.bool_]:
    """Which images of a split a package has right."""
    batches = split.batches(preprocessing_of(network), 256)
    return evaluate(load(package), batches, split="benchmark").correctness.top1


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What all these benchmarks take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--store", type=Path, default=Path("runs/compressed"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--backbones", nargs="+", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    return parser


def _tell(step: Step) -> None:
    if step.top1 is not None and step.done == int(step.done):
        print(f"  epoch {step.done:.0f}: loss {step.loss:.3f}, top-1 {step.top1:.1%}", flush=True)


def main(given: Sequence[str] | None = None) -> None:
    """Train what is not trained yet."""
    asked = arguments(__doc__).parse_args(given)
    torch.set_num_threads(asked.threads)
    bench = open_bench(asked.data, asked.store)
    for backbone in asked.backbones:
        trained = bench.trained(backbone)
        print(f"{trained.network.label}: top-1 {trained.record['glance_top1']:.1%} at a glance")


if __name__ == "__main__":
    main()
