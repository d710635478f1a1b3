"""What does weight-only int8 cost and save? The playbook's first step, on networks of full width and on small ones.

Each network is trained once on digits (random weights, the family's defaults) and packaged as fp32, fp16 and int8.
Printed and stored are the bytes of the package on disk against those of the fp32 package, what the bytes are (weights,
program, manifest), and top-1 on the test split with its Wilson interval. On small networks the program is the rest:
its text does not shrink with the weights.

    python benchmarks/playbook_int8.py [--threads 2] [--epochs 15]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from record import store

from coreml_pareto.objectives.accuracy import evaluate
from coreml_pareto.objectives.program import load
from coreml_pareto.search.budget import DEFAULT_EPOCHS
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.train import Trainer, preprocessing_of
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network, Recipe
from coreml_pareto.spaces.compression import parse
from coreml_pareto.spaces.families import family_of, training_defaults

FULL = {"mobilenetv2": 1.0, "efficientnet_b0": 1.0, "squeezenet1_1": 1.0}
SMALL = {"mobilenetv3_small": 0.5, "efficientnet_lite0": 0.35, "squeezenet1_0": 0.35}
SCHEMES = ("fp32", "fp16", "int8/tensor", "int8/channel")
MOST_BYTES, MOST_POINTS = 0.27, 5.0


@dataclass(frozen=True)
class Row:
    """One package: its bytes, their share of the fp32 package's, their parts, and top-1 on the test split (95 %)."""

    backbone: str
    width: float
    scheme: str
    bytes: int
    share_of_fp32: float
    weights: int
    program: int
    manifest: int
    test_top1: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.scheme:13s} {self.bytes:>10,} B = {self.share_of_fp32:6.2%} of fp32 (weights {self.weights:,}, "
            f"program {self.program:,}, manifest {self.manifest:,}); "
            f"top-1 {self.test_top1:.2%} [{self.low:.2%}, {self.high:.2%}]"
        )


def main() -> None:
    """Train, package, compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--epochs", type=int, default=DEFAULT_EPOCHS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    data = load_data("digits")
    rows: list[Row] = []
    for backbone, width in {**FULL, **SMALL}.items():
        family = family_of(backbone)
        side = 48 if family == "squeezenet" else 32  # its maps shrink fast
        network = Network(
            family=family, backbone=backbone, width=width, resolution=side, stem_stride=1, classes=10
        )  # fmt: skip
        print(f"{network.label}, {chosen.epochs} epochs")
        found = measure(network, chosen.epochs, data)
        for row in found:
            print(f"  {row}", flush=True)
        rows += found
    for backbone in FULL:
        print(f"{backbone}: {verdict([row for row in rows if row.backbone == backbone])}")
    store(
        "playbook_int8",
        [asdict(row) for row in rows],
        data="digits",
        epochs=chosen.epochs,
        test_images=len(data.open_test("count")),
    )


def measure(network: Network, epochs: int, data: DataSet) -> list[Row]:
    """Return one row per scheme, fp32 first."""
    recipe = Recipe(epochs=epochs, seed=0, **vars(training_defaults(network.family)))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        kept = Store(Path(folder))
        trained = Trainer(kept, data, "false").train(network, recipe, lambda step: None)
        for scheme in SCHEMES:
            package = Packager(kept, data, {"seed": 0}).package(trained, parse(scheme))
            batches = data.open_test("benchmark").batches(preprocessing_of(network), 128)
            top1 = evaluate(load(package), batches, split="test").score["top1"]
            parts = {path.suffix: path.stat().st_size for path in package.rglob("*") if path.is_file()}
            size = sum(parts.values())
            share = size / rows[0].bytes if rows else 1.0
            values = (size, share, parts[".bin"], parts[".mlmodel"], parts[".json"], top1.value, top1.low, top1.high)
            rows.append(Row(network.backbone, network.width, scheme, *values))
    return rows


def verdict(rows: list[Row]) -> str:
    """Say which forms of int8 keep both bounds."""
    told = []
    for row in rows[2:]:
        lost = 100 * (rows[0].test_top1 - row.test_top1)
        kept = row.share_of_fp32 <= MOST_BYTES and lost < MOST_POINTS
        told.append(f"{row.scheme} {row.share_of_fp32:.2%}, {lost:.1f} points lost: {'kept' if kept else 'not kept'}")
    return "; ".join(told)


if __name__ == "__main__":
    main()
