"""What does an estimate cost a search, once a network is converted?  Against that conversion, in one run.

Each network is converted, saved and read once. Then every scheme of compression is foreseen on several devices, in every
choice of compute units (`search/foresight.py`): latency, energy and, where it is foretold, memory. No two estimates are
alike. The time of an estimate is the mean over all of them.

    python benchmarks/free_estimates.py
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import Final, get_args

import torch
from record import store

from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target, find_device
from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.search.foresight import foresee
from coreml_pareto.search.stages.convert import Wrapping, convert, save
from coreml_pareto.search.stages.package import randomised
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.compression import parse
from coreml_pareto.spaces.families import family_of

BACKBONES: Final = ("mobilenetv3_small", "efficientnet_lite0", "squeezenet1_1")
SIDES: Final = (96, 224)
CLASSES: Final = 10
DEVICES: Final = ("iPhone 12", "iPhone 13", "iPhone 15 Pro", "iPhone 16", "MacBook Air 13 (M1)", "iPad Pro 11 (M4)")
SYSTEM: Final = 18
COMPRESSIONS: Final = (
    "fp16", "fp32", "int8/tensor", "int8/channel", "int8/block-32", "int4/channel", "int4/block-32", "palette-8/tensor",
    "palette-6/tensor", "palette-4/tensor", "palette-3/tensor", "palette-2/group-16", "palette-4/group-16", "pruning-50",
    "pruning-2:4", "pruning-50+palette-4", "mixed-4", "mixed-4/group-16", "w8a8",
)  # fmt: skip
GOAL: Final = 1000


def main() -> None:
    """Time every network, print, store."""
    torch.set_num_threads(1)
    rows = []
    for backbone, side in itertools.product(BACKBONES, SIDES):
        row = timed(backbone, side)
        rows.append({"backbone": backbone, "side": side, **row})
        print(
            f"{backbone:20s} {side:3d} pixels  conversion {row['conversion_s']:.1f} s, reading {row['reading_ms']:.0f} ms, "
            f"an estimate {row['estimate_ms']:.2f} ms: 1/{row['ratio']:.0f}",
            flush=True,
        )
    print(f"Least: 1/{min(row['ratio'] for row in rows):.0f}; wanted: at most 1/{GOAL}.")
    store("free_estimates", rows, compressions=len(COMPRESSIONS), devices=len(DEVICES), classes=CLASSES)


def timed(backbone: str, side: int) -> dict[str, float]:
    """Seconds of the conversion, milliseconds of reading and of an estimate, and how many estimates are a conversion."""
    network = Network(family=family_of(backbone), backbone=backbone, resolution=side, classes=CLASSES)
    module = randomised(network)
    wrapping = Wrapping(network, tuple(map(str, range(CLASSES))), Preprocessing(resolution=side), {}, backbone)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "model.mlpackage"
        start = time.perf_counter()
        save(convert(module, wrapping, minimum_os=16, precision="fp16"), package)
        converted = time.perf_counter()
        network_read = foresee(package)
        assert network_read.costs and network_read.weights and network_read.liveness
        read = time.perf_counter()
        count = 0
        for device, units, compression in itertools.product(DEVICES, get_args(ComputeUnits), COMPRESSIONS):
            score = network_read.readings(parse(compression), Target(find_device(device), SYSTEM, units))
            assert score["latency_ms"].value > 0
            count += 1
        done = time.perf_counter()
    conversion, estimate = converted - start, (done - read) / count
    return {
        "conversion_s": round(conversion, 2),
        "reading_ms": round(1e3 * (read - converted), 1),
        "estimate_ms": round(1e3 * estimate, 3),
        "estimates": float(count),
        "ratio": round(conversion / estimate, 1),
    }


if __name__ == "__main__":
    main()
