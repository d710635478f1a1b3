"""What do the estimators assume while nothing has been measured?  Every parameter with its spread and its source.

No published set of measurements identifies all of them: the slopes of the Neural Engine are one pooled non-negative
fit over 36 published whole-model latencies (28 on the A14, 4 on the A15, 4 on the A16; relative error; shared slopes,
one floor per chip), in which dense MACs, weight bytes and activation bytes are collinear. So they rank networks and
bracket milliseconds; they do not replace a measurement. Peak TOPS enter nowhere: whole classifiers reach 0.35 to 2.7
GMAC/ms in fp16 whatever the data sheet promises.

Sources, by tag:

- CT   apple/coremltools, docs-guides `opt-palettization-perf`, `opt-quantization-perf`, `opt-pruning-perf` (iPhone 14
       Pro and 15 Pro, iOS 17, Xcode 15 performance report, median) and `opt-resnet` (iPhone 15 Pro, iOS 18 seed)
- MO   apple/ml-mobileone @b7f4e6d (iPhone 12 Pro, ModelBench), with apple/ml-fastvit, apple/ml-mobileclip,
       THU-MIG/RepViT and snap-research/EfficientFormer READMEs: 28 models of 7 families on the A14
- IF   iFormer, arXiv 2501.15369, and MobileNetV4, arXiv 2404.10518, table 6: iPhone 13
- WF   woolfel/ml-macos-performance @7238fff, `results.md`: DenseNet-121 on M1, M1 Max, M2 Max
- CZ   vladimir-chernykh/coreml-model-zoo: iPhone 11 Pro, iOS 13.5, integer milliseconds
- ANEG sbryngelson/ane-guide @9eb1afe, arXiv 2606.22283: reverse-engineered, one author, Macs only
- MX   maderix/ANE @d91c984: M4 matrix products, fp16 18.6 TFLOPS, W8A8 35.1 TOPS
- AT   Apple, "Deploying Transformers on the Apple Neural Engine": DistilBERT, iPhone 13, 3.47 ms at 0.454 W
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["Neural Engine", "GPU", "CPU"]


@dataclass(frozen=True)
class Prior:
    """A parameter, the ends of its plausible range, its unit, and where it comes from."""

    value: float
    low: float
    high: float
    unit: str
    source: str


def spread(value: float, factor: float, unit: str, source: str) -> Prior:
    """A prior that may be `factor` times larger or smaller."""
    return Prior(value, value / factor, value * factor, unit, source)


# Slopes of the Neural Engine: t = t0 + a M_dense + d M_depthwise + b W_eff + e A.
DENSE: Final = spread(0.064, 2, "ms/GMAC", "pooled fit of MO, IF, CT; the A16 alone 0.058")
DEPTHWISE: Final = spread(0.3, 5, "ms/GMAC", "judgement: pooled fit 0, the A14 alone 0.86, not identified")
WEIGHTS: Final = spread(0.012, 2, "ms/MB", "pooled fit; 0.042 on the A14 where it is the only slope")
ACTIVATIONS: Final = spread(0.010, 2, "ms/MB", "pooled fit; the A16 alone 0.0153")


@dataclass(frozen=True)
class Floor:
    """What every call costs on a chip, as one kind of stopwatch sees it, and how far an estimate there may be off."""

    t0: Prior
    stopwatch: str
    interval: float  # the 80 % interval of an uncalibrated estimate is value / interval .. value * interval


XCODE: Final = "Xcode's performance report (median of back-to-back predictions)"
README: Final = "README tables (Apple's ModelBench app and Xcode's performance report)"
PAPER: Final = "paper tables (iFormer, MobileNetV4; Core ML on an iPhone 13)"
LOOP: Final = "a direct loop of back-to-back predictions on a Mac"

_A14: Final = spread(0.46, 1.5, "ms", "MO: pooled fit")
_A15: Final = Prior(0.37, 0.03, 0.55, "ms", "IF: fit of its table alone 0.37, pooled fit 0.03")
_A17: Final = Prior(0.05, 0.01, 0.13, "ms", "CT: MobileNetV3-small takes 0.13 ms in all; the pooled fit says 0")
_MAC: Final = spread(0.2, 1.7, "ms", "ANEG: 0.11 (M5 Pro) to 0.23 (M1 Max)")

# Documented chips: times/divided by 2, the interval of the slopes. Where nothing was measured on the chip, or where
# the slopes are borrowed from phones (Macs): times/divided by 3.
FLOORS: Final[Mapping[str, Floor]] = {
    "A12": Floor(_A14, README + ", carried over from the A14", 3),
    "A13": Floor(_A14, README + ", carried over from the A14", 3),
    "A14": Floor(_A14, README, 2),
    "A15": Floor(_A15, PAPER, 2),
    "A16": Floor(_A17, XCODE, 2),
    "A17 Pro": Floor(_A17, XCODE, 2),
    "M1": Floor(_MAC, LOOP, 3),
    "M1 Max": Floor(_MAC, LOOP, 3),
    "M2": Floor(_MAC, LOOP, 3),
    "M3": Floor(_MAC, LOOP, 3),
    "M4": Floor(_MAC, LOOP, 3),
    "M5": Floor(_MAC, LOOP, 3),
}
UNKNOWN_CHIP: Final = Floor(_A17, XCODE + ", carried over from the A17 Pro", 3)
"""Newer chips (A18, A19): the published change from A16 to A17 Pro is -2 to +9 % in fp16, so nothing is scaled."""


def floor(soc: str) -> Floor:
    """The floor of a chip; A17 Pro's with a wider interval where nothing was published."""
    return FLOORS.get(soc, UNKNOWN_CHIP)


def realised_saving(os: int) -> Prior:
    """Share eta of the weight traffic that weight-only compression saves which shows up as time, by iOS release.

    iOS 16 decompresses ahead of run time (Apple, Core ML Tools guide, opt-overview): nothing. Later releases
    decompress on the fly: 0.16 (8 bits, A16, iOS 17) and 0.40 to 0.45 (6 and 4 bits, A17 Pro, iOS 18), from CT.
    """
    eta = 0.0 if os <= 16 else 0.15 if os == 17 else 0.4
    return Prior(eta, max(0.0, eta - 0.15), eta + 0.15, "share", "CT, assuming the slope of the weights above")


W8A8_TIME: Final = Prior(0.55, 0.35, 0.8, "of the time above the floor", "CT: ResNet-50 and MobileNetV2; attention 0.8")
W8A8_CHIPS: Final = frozenset({"A16", "A17 Pro", "A18", "A18 Pro", "A19", "A19 Pro", "M4", "M5"})
"""Chips on which W8A8 is known, or for the later ones assumed, to be faster than fp16 (CT: A16 and A17 Pro)."""
INT8_CHIPS: Final = W8A8_CHIPS - {"A16"}
"""Chips that multiply int8 by int8 (Apple, Core ML Tools guide, opt-quantization-perf: A17 Pro and M4 onwards)."""

# Whole networks on the other units: no slope per byte is published, only DenseNet-121's MACs over its time.
GPU_RATE: Final = Prior(0.25, 0.18, 0.34, "GMAC/ms", "WF: DenseNet-121, geometric middle of 0.18 to 0.34")
CPU_RATE: Final = Prior(0.18, 0.17, 0.19, "GMAC/ms", "WF: DenseNet-121, 0.17 to 0.19")
MAC_RATE_INTERVAL: Final = 3.0
PHONE_RATE_INTERVAL: Final = 6.0
"""Phones and tablets: the Mac's rate is assumed, because the cores are the same designs and the one published grid
(CZ) is of an A13 on iOS 13: ResNet-50 0.06 (CPU) and 0.08 (GPU) GMAC/ms, three to four times slower."""

# Energy: E = k u (E0 + e_mac MACs + e_byte (W_eff + spilled A)), from ANEG on Macs.
DISPATCH_MJ: Final = Prior(0.3, 0.1, 0.9, "mJ", "ANEG: energy of one dispatch")
MAC_PJ: Final = Prior(0.74, 0.25, 2.2, "pJ/MAC", "ANEG: 0.37 pJ/FLOP, the best seen, fp16")
W8A8_MAC_PJ: Final = Prior(
    0.47,
    0.2,
    0.74,
    "pJ/MAC",
    "0.63 of fp16: ANEG 5.8 W in int8 for 4.9 W in fp16 (middle of 4.3 to 5.5), at MX's rate x1.88",
)
BYTE_PJ: Final = Prior(
    35.0, 12.0, 105.0, "pJ/B", "ANEG: with the terms above, ResNet-18 on the M2 Pro is 2.5 mJ (2.6 measured)"
)
ON_CHIP_BYTES: Final = Prior(2e6, 2e6, 32e6, "B", "ANEG 2 MB operands (M1), MX about 32 MB (M4): they disagree")
OTHER_UNITS: Final = Prior(10.0, 8.6, 10.5, "times the Neural Engine", "ANEG: ResNet-18 and ViT-B, GPU on the M2 Pro")
PHONE_ENERGY: Final = Prior(
    0.3, 0.075, 1.2, "times a Mac", "0.45 W (AT, the only figure of a phone) over 1.5 W (ANEG, convolutions on Macs)"
)
ENERGY_INTERVAL: Final[Mapping[tuple[str, bool], float]] = {
    ("phone", True): 4.0, ("phone", False): 5.0, ("mac", True): 3.0, ("mac", False): 3.0
}  # fmt: skip
"""(chip class, on the Neural Engine) -> the 80 % interval is value / factor .. value * factor (judgement)."""


def chip_class(soc: str) -> str:
    """'mac' for M chips wherever they are built in, 'phone' for A chips."""
    return "mac" if soc.startswith("M") else "phone"
