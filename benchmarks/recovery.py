"""How much of what compression costs does fine-tuning regain?  Every network of `photographs.py`, scored on the test split.

Each network is packaged by each scheme of `SCHEMES` as it is; where that costs more than `COSTLY` points of top-1 against
the fp16 package (W8A8: `COSTLY_W8A8`, after the best of its calibrations on the validation split), it is fine-tuned under
the scheme for a few epochs and packaged again. Differences are paired, on the same images, with 95 % intervals.

    python benchmarks/recovery.py DATA --store runs/compressed [--epochs 2]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from photographs import Bench, arguments, open_bench, right
from record import store

from coreml_pareto.objectives.paired import compare
from coreml_pareto.objectives.size import parts
from coreml_pareto.search.data import Split
from coreml_pareto.search.stages.recover import Tuning
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.spaces.candidate import Compression
from coreml_pareto.spaces.compression import describe, parse

SCHEMES = ("palette-4/tensor", "palette-2/tensor", "pruning-50", "pruning-50+palette-4")
CALIBRATIONS = ("min-max", "percentile", "moving-average")
COSTLY, COSTLY_W8A8 = 0.02, 0.01


def main() -> None:
    """Compress, recover, print, store."""
    parser = arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    bench = open_bench(asked.data, asked.store)
    test = bench.data.open_test("benchmark")
    rows = []
    for name in asked.backbones:
        trained = bench.trained(name)
        exact = packaged(bench, trained, Compression(), test)
        print(f"{trained.network.label}: fp16 {exact.mean():.2%}", flush=True)
        for text in SCHEMES:
            rows.append(tried(bench, trained, parse(text), exact, test, COSTLY, asked.epochs))
        rows.append(tried(bench, trained, calibrated(bench, trained), exact, test, COSTLY_W8A8, asked.epochs))
    store("recovery", rows, data=Path(asked.data).name, test_images=len(test), epochs=asked.epochs)


def calibrated(bench: Bench, trained: Trained) -> Compression:
    """W8A8 by the calibration that the validation split likes best."""
    every = [parse("w8a8").model_copy(update={"calibration": method}) for method in CALIBRATIONS]
    split = bench.data.validation.subset(bench.data.validation.sample(min(2000, len(bench.data.validation)), seed=0))
    found = {form: float(packaged(bench, trained, form, split).mean()) for form in every}
    for form, top1 in found.items():
        print(f"  {describe(form):40} validation {top1:.2%}", flush=True)
    return max(found, key=lambda form: found[form])


def tried(
    bench: Bench, trained: Trained, form: Compression, exact: Any, test: Split, costly: float, epochs: int
) -> dict[str, Any]:
    """One scheme on one network: what it costs, and what is left of that after fine-tuning."""
    plain = packaged(bench, trained, form, test)
    row = {
        "network": trained.network.label, "scheme": describe(form), "fp16_top1": float(exact.mean()),
        **compared("plain", plain, exact), "epochs": 0,
    }  # fmt: skip
    told = f"  {describe(form):40} {plain.mean():.2%}  {100 * row['plain_difference']:+.2f}"
    if -row["plain_difference"] > costly:
        tuned = form.model_copy(update={"fine_tune_epochs": epochs})
        again = packaged(bench, trained, tuned, test)
        row |= {**compared("tuned", again, exact), "epochs": epochs}
        row["regained"] = 1 - row["tuned_difference"] / row["plain_difference"]
        told += f"  fine-tuned {again.mean():.2%}  {100 * row['tuned_difference']:+.2f}  regained {row['regained']:.0%}"
    print(told, flush=True)
    return row


def compared(name: str, one: Any, exact: Any) -> dict[str, Any]:
    """Top-1 of a package, and its difference from the fp16 package's."""
    found = compare(one, exact)
    return {
        f"{name}_top1": float(one.mean()), f"{name}_difference": found.value, f"{name}_low": found.low,
        f"{name}_high": found.high,
    }  # fmt: skip


def packaged(bench: Bench, trained: Trained, form: Compression, split: Split) -> NDArray[np.bool_]:
    """Which images the package of a network under a compression has right."""
    package = bench.packager.package(trained, form, Tuning(bench.trainer, lambda step: None))
    print(f"    {describe(form):40} {parts(package).total:>10,} B", flush=True)
    return right(package, trained.network, split)


if __name__ == "__main__":
    main()
