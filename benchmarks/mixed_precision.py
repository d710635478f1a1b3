"""Is mixed precision better than one scheme for all layers?  At equal bytes, on the same test images, per family.

For each network of `photographs.py`: every uniform scheme of `UNIFORM` is packaged for iOS 18 and scored; for each that
no smaller one beats, a mixed-precision package with its size as the target is made (sensitivities from 128 training
images; the test split is read by nothing but the score). Compared is top-1 on the same images: difference with its 95 %
interval and McNemar's exact test.

    python benchmarks/mixed_precision.py DATA --store runs/compressed
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from photographs import Bench, arguments, open_bench, right
from record import store

from coreml_pareto.objectives.paired import compare
from coreml_pareto.objectives.program import bits_per_weight, load
from coreml_pareto.objectives.size import parts
from coreml_pareto.search.data import Split
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.spaces.candidate import Compression
from coreml_pareto.spaces.compression import parse

UNIFORM = (
    "int8/channel", "palette-6/tensor", "palette-6/group-16", "int4/block-32", "int4/block-32/asymmetric",
    "palette-4/group-16", "palette-4/tensor", "pruning-50+palette-6", "palette-3/group-16", "palette-3/tensor",
    "palette-2/group-16",
)  # fmt: skip
MIXED = parse("mixed-4/group-16")


def main() -> None:
    """Compare, print, store."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    bench = open_bench(asked.data, asked.store)
    test = bench.data.open_test("benchmark")
    test = test.subset(test.sample(min(asked.images, len(test)), seed=0))
    rows = [row for name in asked.backbones for row in compared(bench, bench.trained(name), test)]
    store("mixed_precision", rows, data=Path(asked.data).name, test_images=len(test), minimum_os=18)


def compared(bench: Bench, trained: Trained, test: Split) -> list[dict[str, Any]]:
    """One row for each uniform scheme that no smaller one beats."""
    plain = scored(bench, trained, Compression(), test)
    print(f"{trained.network.label}: fp16 {plain['size']:,} B, top-1 {plain['right'].mean():.2%}", flush=True)
    uniform = {text: scored(bench, trained, parse(text), test) for text in UNIFORM}
    rows = []
    for text, one in sorted(uniform.items(), key=lambda item: -item[1]["size"]):
        smaller = [other for other in uniform.values() if other["size"] < one["size"]]
        if any(other["right"].mean() >= one["right"].mean() for other in smaller):
            print(f"  {text:26} {one['size']:>9,} B {one['right'].mean():.2%}  (a smaller one is as good)", flush=True)
            continue
        mixed = scored(
            bench, trained, MIXED.model_copy(update={"average_bits": 0.0, "target_bytes": one["size"]}), test
        )
        found = compare(mixed["right"], one["right"])
        row = {
            "network": trained.network.label, "fp16_top1": float(plain["right"].mean()), "fp16_bytes": plain["size"],
            "uniform": text, "uniform_bytes": one["size"], "uniform_bits": one["bits"],
            "uniform_top1": float(one["right"].mean()), "mixed_bytes": mixed["size"], "mixed_bits": mixed["bits"],
            "mixed_top1": float(mixed["right"].mean()), "difference": found.value, "low": found.low,
            "high": found.high, "p_value": found.p_value,
        }  # fmt: skip
        rows.append(row)
        print(
            f"  {text:26} {one['size']:>9,} B {row['uniform_top1']:.2%}  mixed {mixed['size']:>9,} B "
            f"{row['mixed_top1']:.2%}  {100 * found.value:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f}) "
            f"p {found.p_value:.2g}",
            flush=True,
        )
    return rows


def scored(bench: Bench, trained: Trained, compression: Compression, test: Split) -> dict[str, Any]:
    """Bytes, bits per weight, and which test images a package has right."""
    package = bench.packager.package(trained, compression)
    return {
        "size": parts(package).total, "bits": bits_per_weight(load(package)),
        "right": right(package, trained.network, test),
    }  # fmt: skip


if __name__ == "__main__":
    main()
