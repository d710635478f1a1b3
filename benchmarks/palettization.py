"""How long does palettization take, and what does it lose? Ours against coremltools', on one network, in one run.

A network is trained briefly on digits and converted for iOS 16. Compared are: finding the tables of all layers (no
program read or written), one scheme end to end (package to package), all schemes of one table for a tensor from one
source that is read once, and the squared error of every layer. The last lines are ratios; seconds hold for this machine only.

coremltools' side is what `palettize_weights` calls for a table of one tensor (9.0, checked in its source): exact
clustering by its own copy of kmeans1d from 10,000 fp16 weights on; scikit-learn's KMeans below, one k-means++ start,
which stops early. Ours uses one core; it is timed several times and the median taken. Before that it runs once:
numba compiles on its first use on a machine, and loads what it compiled on the first use in a process.

    python benchmarks/palettization.py [--backbone mobilenetv2] [--width 1.0] [--epochs 2]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.models.neural_network.quantization_utils import _get_kmeans_lookup_table_and_weight
from record import store

from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.data import load_data
from coreml_pareto.search.stages.compress import compress, heavy_weights
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.palettes import kmeans_tables
from coreml_pareto.search.stages.rewrite import Source
from coreml_pareto.search.stages.train import Trainer
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network, Recipe
from coreml_pareto.spaces.compression import parse
from coreml_pareto.spaces.families import family_of, training_defaults

BITS = (8, 6, 4, 2, 1)
SMALLEST = 512
"""Weights of fewer elements are left to neither."""

REPEATS = 5
"""Timings of ours."""


def main() -> None:
    """Train, compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenetv2")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=2)
    chosen = parser.parse_args()
    network = Network(
        family=family_of(chosen.backbone), backbone=chosen.backbone, width=chosen.width, resolution=32, stem_stride=1,
        classes=10,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source = converted(network, chosen.epochs, Path(folder))
        weights = {name: value for name, value in heavy_weights(load(source)).items() if value.size >= SMALLEST}
        _, first_s = timed(lambda: kmeans_tables(list(weights.values())[:1], 1))
        rows = [compare(bits, weights, source, Path(folder)) for bits in BITS]
        _, ours_together_s = timed(lambda: together(source, Path(folder)), REPEATS)
    for row in rows:
        print(
            f"{row['bits']} bits: tables {row['tables_ratio']:.1f} x, end to end {row['package_ratio']:.1f} x; "
            f"squared error over theirs: worst layer {row['error_worst']:.5f}, all layers {row['error_all']:.5f}"
        )
    theirs_s, alone_s = (sum(row[name] for row in rows) for name in ("their_package_s", "our_package_s"))
    print(
        f"all {len(rows)} schemes of one table for a tensor, the source read once: {theirs_s / ours_together_s:.1f} x; "
        f"read for each {theirs_s / alone_s:.1f} x; the very first table {first_s:.2f} s"
    )
    store(
        "palettization", rows, network=network.label, epochs=chosen.epochs, layers=len(weights),
        all_ratio=theirs_s / ours_together_s, all_ratio_read_for_each=theirs_s / alone_s, our_all_s=ours_together_s,
        first_s=first_s,
    )  # fmt: skip


def converted(network: Network, epochs: int, folder: Path) -> Path:
    """A network's fp16 package for iOS 16, after a short training."""
    data, kept = load_data("digits"), Store(folder / "store")
    recipe = Recipe(epochs=epochs, seed=0, **vars(training_defaults(network.family)))
    trained = Trainer(kept, data, "false").train(network, recipe, lambda step: None)
    packager = Packager(kept, data, {"seed": 0})
    return packager._converted(trained.key, network, parse("palette-8/tensor"), trained)


def compare(bits: int, weights: Mapping[str, Any], source: Path, folder: Path) -> dict[str, float]:
    """Seconds and errors at one number of bits."""
    tables, ours_s = timed(lambda: kmeans_tables(list(weights.values()), bits), REPEATS)
    theirs, theirs_s = timed(lambda: [_get_kmeans_lookup_table_and_weight(bits, value) for value in weights.values()])
    scheme = parse(f"palette-{bits}/tensor")
    _, our_package_s = timed(lambda: compress(source, folder / "ours.mlpackage", scheme), REPEATS)
    _, their_package_s = timed(lambda: palettized(source, bits, folder / "theirs.mlpackage"))
    pairs = [
        (squared_error(value, *mine), squared_error(value, table.astype(np.float16).reshape(-1), indices))
        for value, mine, (table, indices) in zip(weights.values(), tables, theirs, strict=True)
    ]
    known = [(a, b) for a, b in pairs if b > 0]
    return {
        "bits": bits, "our_tables_s": ours_s, "their_tables_s": theirs_s, "tables_ratio": theirs_s / ours_s,
        "our_package_s": our_package_s, "their_package_s": their_package_s,
        "package_ratio": their_package_s / our_package_s,
        "error_worst": max(a / b for a, b in known), "error_all": sum(a for a, _ in known) / sum(b for _, b in known),
    }  # fmt: skip


def together(source: Path, folder: Path) -> None:
    """All numbers of bits by ours, the source read and validated once."""
    read = Source.read(source)
    for bits in BITS:
        compress(read, folder / "ours.mlpackage", parse(f"palette-{bits}/tensor"))


def palettized(source: Path, bits: int, target: Path) -> None:
    """The same by coremltools, from package to package."""
    with quiet():
        settings = ct.optimize.coreml.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=SMALLEST)
        model = ct.models.MLModel(str(source), skip_model_load=True)
        config = ct.optimize.coreml.OptimizationConfig(global_config=settings)
        ct.optimize.coreml.palettize_weights(model, config).save(str(target))


def squared_error(value: Any, table: Any, indices: Any) -> float:
    """Of the weights as they are stored."""
    stored = table.astype(np.float64)[np.asarray(indices).reshape(-1).astype(int)]
    return float(((stored - value.astype(np.float64).reshape(-1)) ** 2).sum())


def timed(make: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    """What `make` returns, and the median of its wall-clock seconds."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        made = make()
        seconds.append(time.perf_counter() - started)
    return made, statistics.median(seconds)


if __name__ == "__main__":
    main()
