"""What do the estimators assume while nothing has been measured?  Every parameter with its spread and its source.

Latencies on the Neural Engine start here and are fitted to what was published (`fit.py`, `latencies.csv`); slopes that
published networks cannot tell apart stay where they start. "Pooled fit" is a non-negative one of 36 figures (28 on the
A14, 4 on the A15, 4 on the A16; relative error; shared slopes, one floor per chip). Peak TOPS enter nowhere: whole
classifiers reach 0.35 to 2.7 GMAC/ms in fp16 whatever the data sheet promises.

Sources, by tag:

- CT   apple/coremltools, docs-guides `opt-palettization-perf`, `opt-quantization-perf`, `opt-pruning-perf` (iPhone 14
       Pro and 15 Pro, iOS 17, Xcode 15 performance report, median) and `opt-resnet` (iPhone 15 Pro, iOS 18 seed)
- MO   apple/ml-mobileone @b7f4e6d (iPhone 12 Pro, ModelBench), with apple/ml-fastvit, apple/ml-mobileclip,
       THU-MIG/RepViT and snap-research/EfficientFormer READMEs: 28 models of 7 families on the A14
- IF   iFormer, arXiv 2501.15369, and MobileNetV4, arXiv 2404.10518, table 6: iPhone 13
- WF   woolfel/ml-macos-performance @7238fff, `results.md`: DenseNet-121 on M1, M1 Max, M2 Max, fp32 on CPU and GPU
- CZ   vladimir-chernykh/coreml-model-zoo: iPhone 11 Pro, iOS 13.5, integer milliseconds, fp32
- ANEG sbryngelson/ane-guide @9eb1afe, arXiv 2606.22283: reverse-engineered, one author, Macs only
- MX   maderix/ANE @d91c984: M4 matrix products, fp16 18.6 TFLOPS, W8A8 35.1 TOPS
- EX   pytorch/executorch#8445: a network of which some operations run on the CPU
- PL   PlaceLens, README: MixVPR on CPU and GPU of an iPhone 15 Pro Max, iOS 26.5
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


@dataclass(frozen=True)
class Rates:
    """What a unit takes for each call [ms], GMAC [ms], and MB of activations and of weights [ms]."""

    call: float
    gmac: float
    activations: float
    weights: float


def spread(value: float, factor: float, unit: str, source: str) -> Prior:
    """A prior that may be `factor` times larger or smaller."""
    return Prior(value, value / factor, value * factor, unit, source)


# Latency on the Neural Engine: t = t0 + v * sum of slope * amount, fitted to what was published (`fit.py`) from here.
TERMS: Final[Mapping[str, Prior]] = {
    "spatial": spread(0.064, 2, "ms/GMAC", "pooled fit of MO, IF, CT; the A16 alone 0.058: dense, beyond 1 x 1"),
    "pointwise": spread(0.064, 2, "ms/GMAC", "the same for 1 x 1 convolutions and matrix products"),
    "depthwise": spread(0.3, 5, "ms/GMAC", "judgement: pooled fit 0, the A14 alone 0.86, not identified"),
    "weights": spread(0.012, 2, "ms/MB", "pooled fit; 0.042 on the A14 where it is the only slope"),
    "activations": spread(0.010, 2, "ms/MB", "pooled fit; the A16 alone 0.0153: what operations read and write"),
    "spilled": spread(0.010, 3, "ms/MB", "as activations, again, for what one operation moves beyond ON_CHIP_BYTES"),
    "arranged": spread(0.010, 3, "ms/MB", "as activations: transposed, resized, reshaped, in rows of 64 bytes"),
}
"""Mode and one standard deviation of the logarithm, before any figure is seen. The order is that of all terms.

Products of two activations (attention) are arithmetic and traffic as any other. With slopes of their own, which few
publications tell apart from the reshaping around them, networks of a stopwatch that the fit has not seen were estimated
1.3 times too slow, and no family better.
"""
KINDS: Final = (
    ("spatial", "pointwise", "depthwise"),
    ("weights",),
    ("activations", "spilled"),
    ("arranged",),
)
"""Terms of one kind of operation or traffic: where one of them is another on a device, so are the others."""
OF_WEIGHTS: Final = frozenset({"spatial", "pointwise", "depthwise", "weights", "activations", "spilled"})
"""Terms of operations with weights: those that W8A8 makes faster (no network published in W8A8 has other products)."""
T0: Final = spread(
    0.3, 2, "ms", "ANEG: 0.11 (M5 Pro) to 0.23 (M1 Max) in a direct loop; fits of MO and IF 0.37 to 0.55"
)

# Standard deviations of the effects' logarithms, judgement: floors fitted alone lie a factor of ten apart (CT: at most
# 0.13 ms on the A16, MO: 0.46 ms on the A14), one chip moved by 30 % with the system (WF), and two sources that time
# the same network on one chip differ by a median factor of 1.14. Those of chips hold for one generation.
CHIP_T0: Final = 0.5
CHIP_SPEED: Final = 0.2
STOPWATCH_T0: Final = 0.3
STOPWATCH_SPEED: Final = 0.1
SYSTEM_SPEED: Final = 0.1
SCATTER: Final = 0.12
"""Of one figure around its estimate (logarithm), with Student's t of FREEDOM degrees: the factor 1.14 again."""
FREEDOM: Final = 4.0

GENERATIONS: Final[Mapping[str, float]] = {
    "A12": 12, "A13": 13, "A14": 14, "A15": 15, "A16": 16, "A17 Pro": 17, "A18": 18, "A18 Pro": 18, "A19": 19,
    "A19 Pro": 19, "M1": 14, "M1 Pro": 14, "M1 Max": 14, "M2": 15, "M2 Pro": 15, "M2 Max": 15, "M3": 16, "M3 Pro": 16,
    "M3 Max": 16, "M4": 18, "M4 Pro": 18, "M4 Max": 18, "M5": 19,
}  # fmt: skip
"""Chips by the year of their Neural Engine; what was published of one tells of its neighbours."""
FIRST_GENERATION: Final = 14.0
"""Where the walk over generations begins: the A14's, the oldest with figures."""
OWN_SHARE: Final = 0.05
"""Generations by which chips of one year differ from each other (judgement)."""
MAC_DISTANCE: Final = 1.0
"""Generations that a Mac's chip lies from a phone's of the same year (judgement)."""
SYSTEMS: Final = (15, 16, 17, 18, 26, 27)

CALIBRATION: Final = 1.3
"""Factor on the fit's own standard deviations, so that 80 % intervals hold 80 % of left-out figures
(`benchmarks/latency_estimator.py`)."""


FALLBACK: Final = Prior(
    5.0, 2.0, 12.0, "ms", "EX: 2 to 12 ms on the CPU where operations fall off; the middle is judgement"
)
NO_FALLBACK: Final = Prior(0.0, 0.0, 0.0, "ms", "every operation runs on the Neural Engine")


def realised_saving(os: int) -> Prior:
    """Share eta of the weight traffic that weight-only compression saves which shows up as time, by iOS release.

    iOS 16 decompresses ahead of run time (Apple, Core ML Tools guide, opt-overview): nothing. Later releases decompress
    on the fly. Of what the fit has for ResNet-50's weights (0.53 of its time on the A16, 0.6 on the A17 Pro) CT's figures
    save 0.08 to 0.30 in 8 to 2 bits on iOS 17, and 0.61, 0.69 and 0.53 in 6, 4 and 1 bits on iOS 18. Zeros save more there,
    0.87 to 0.95, and count as palettes all the same: one network was published.
    """
    eta = 0.0 if os <= 16 else 0.15 if os == 17 else 0.6
    return Prior(eta, max(0.0, eta - 0.15), eta + 0.15, "share", "CT, of the weights' time in the fit")


GROUPED_TABLES: Final[Mapping[int, Prior]] = {
    1: Prior(-0.16, -0.16, 0.53, "of the saving of one table", "CT: ResNet-50, A17 Pro, iOS 18: fp16 1.63, 4 bits 1.12 ms,"
             " a table for each 4 channels 1.71"),
    8: Prior(0.53, 0.49, 0.57, "of the saving of one table", "CT, the same: 16 channels 1.38, 8 channels 1.34 ms"),
}  # fmt: skip
"""By the channels that share a table, from so many on: what of the saved time is left, below 0 slower than fp16. Between
4 and 8 nothing is published; fewer than 8 count as 4."""


W8A8_TIME: Final = Prior(
    0.5, 0.25, 0.8, "of the time above the floor", "CT: ResNet-50 0.5 to 0.6, MobileNetV2 0.25 to 0.4, attention 0.8"
)
W8A8_CHIPS: Final = frozenset({"A16", "A17 Pro", "A18", "A18 Pro", "A19", "A19 Pro", "M4", "M4 Pro", "M4 Max", "M5"})
"""Chips on which W8A8 is known, or for the later ones assumed, to be faster than fp16 (CT: A16 and A17 Pro)."""
INT8_CHIPS: Final = W8A8_CHIPS - {"A16"}
"""Chips that multiply int8 by int8 (Apple, Core ML Tools guide, opt-quantization-perf: A17 Pro and M4 onwards)."""

# Whole networks on the other units: how much MACs and bytes matter comes from the one published grid (CZ: 20 networks
# from 2 to 215 ms), the level from a newer system (WF). MACs alone miss that grid by a factor of up to 14 on a CPU.
RATES: Final[Mapping[Unit, Rates]] = {"CPU": Rates(0.13, 1.31, 0.140, 0.012), "GPU": Rates(1.10, 0.74, 0.077, 0.020)}
"""A fit of CZ (non-negative, on relative error), times what brings DenseNet-121 to WF: 0.24 for the CPU (16.6 ms) and
0.22 for the GPU (10.5 ms), geometric means of the M1, M1 Max and M2 Max. A family left out is missed by 38 % (CPU) and
27 % (GPU) on average; by MACs alone it would be 60 and 58 %."""
UNIT_MISS: Final[Mapping[str, float]] = {"CPU": 0.38, "GPU": 0.27}
"""The same mean errors of families left out."""
MAC_UNIT_INTERVAL: Final = 3.0
PHONE_UNIT_INTERVAL: Final = 6.0
"""Phones and tablets: the Mac's level is assumed, because the cores are the same designs. The grid itself is of an A13 on
iOS 13, four times slower; an A17 Pro on iOS 26 is no slower than the assumption (PL)."""

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
