"""Which latencies were published, of which networks, and with whose stopwatch?

`latencies.csv` has one row for each figure: networks in fp16 or W8A8 on the Neural Engine (or on whatever Core ML chose),
timed back to back, as printed by the source whose tag stands in the row (`CITATIONS.md`). `networks.csv` says what each
of those networks asks of the hardware: `workload.terms` of the package that `benchmarks/latency_estimator.py` builds
from timm's or torchvision's architecture at the published resolution, branches fused as in the publications. Figures of networks
that cannot be built so are left out.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from coreml_pareto.objectives.devices.priors import OF_WEIGHTS, TERMS, W8A8_TIME

XCODE: Final = "Xcode"
LOOP: Final = "loop on a Mac"
STOPWATCHES: Final[Mapping[str, str]] = {
    XCODE: "Xcode's performance report (median of back-to-back predictions)",
    "Core ML Tools guide": "the Core ML Tools guide's tables of ResNet-50 (tool not named)",
    "ModelBench": "Apple's ModelBench app (trimmed mean of 20 rounds of 50 predictions)",
    "MobileCLIP README": "the tables of Apple's MobileCLIP (tool not named)",
    "Hugging Face cards": "Apple's model cards on Hugging Face (tool not named)",
    "coreml-performance": "the coreml-performance app (mean of 500 predictions)",
    "iFormer paper": "the tables of the iFormer paper (Core ML Tools on an iPhone 13, system not named)",
    "MobileNetV4 paper": "the tables of the MobileNetV4 paper (Core ML on an iPhone 13, iOS 16.6.1)",
    LOOP: "a direct loop of back-to-back predictions on a Mac",
}


@dataclass(frozen=True)
class Published:
    """One figure: a network on a chip, with the system where it was named, and what the network asks for."""

    network: str
    family: str
    device: str
    chip: str
    os: int | None
    stopwatch: str
    ms: float
    source: str
    terms: tuple[float, ...]


@cache
def published() -> tuple[Published, ...]:
    """All figures whose network could be built."""
    known = {row["network"]: tuple(float(row[term]) for term in TERMS) for row in rows("networks.csv")}
    return tuple(_figure(row, known[name]) for row in rows("latencies.csv") if (name := name_of(row)) in known)


def name_of(row: Mapping[str, str]) -> str:
    """Network, resolution and, of backbones for dense prediction, the part: `resnet50@512 features`."""
    return f"{row['network']}@{row['resolution']}" + (" features" if row["part"] == "features" else "")


def stopwatch_of(chip: str) -> str:
    """The stopwatch with the most figures on a chip; Xcode's where there are none."""
    counts = Counter(figure.stopwatch for figure in published() if figure.chip == chip)
    return max(counts, key=lambda name: (counts[name], name == XCODE), default=XCODE)


def networks_on(chip: str) -> int:
    """Number of different networks published on a chip."""
    return len({figure.network for figure in published() if figure.chip == chip})


def w8a8(terms: tuple[float, ...]) -> tuple[float, ...]:
    """Terms of a network of which all weights and what they are multiplied with have 8 bits."""
    scaled = zip(TERMS, terms, strict=True)
    return tuple(amount * (W8A8_TIME.value if term in OF_WEIGHTS else 1.0) for term, amount in scaled)


def rows(name: str) -> list[dict[str, str]]:
    """One of the tables of this folder."""
    return list(csv.DictReader((files(__package__) / name).read_text(encoding="utf-8").splitlines()))


def _figure(row: Mapping[str, str], terms: tuple[float, ...]) -> Published:
    if row["form"] == "w8a8":
        terms = w8a8(terms)
    return Published(
        network=name_of(row), family=row["family"], device=row["device"], chip=row["chip"],
        os=int(row["os"]) if row["os"] else None, stopwatch=row["stopwatch"], ms=float(row["ms"]),
        source=row["source"], terms=terms,
    )  # fmt: skip
