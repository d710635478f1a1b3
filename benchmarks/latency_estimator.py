"""How far off is an estimated latency of a family that the estimator has never seen?

For each published figure of `objectives/devices/latencies.csv` the estimator is fitted to the figures of all other
families and asked for this one: leave-one-family-out. Beside it stand four baselines, fitted in the same way to the
figure's own group (one publication's table of one device) by non-negative least squares on relative error: MACs only,
parameters only, t0 + weights, t0 + MACs + weights + activations. Reported for each group of at least ten figures: mean
absolute percentage error (MAPE), share within 10 and 20 %, Spearman's and Kendall's rank correlation. The share of
left-out figures inside 80 % intervals is counted with intervals calibrated, for each family, on the others alone.

With --convert the networks are built first (timm, torchvision; random weights; branches fused), converted, and what
they ask for is written to `objectives/devices/networks.csv`, which the product reads. Networks that are in there are
not converted again (5 to 60 s each).

    python benchmarks/latency_estimator.py [--convert]
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from record import store
from scipy.optimize import nnls
from scipy.stats import kendalltau, spearmanr

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.fit import Z80, Fit, Setting, fit
from coreml_pareto.objectives.devices.published import Published, name_of, published, rows

NETWORKS = Path(__file__).parents[1] / "objectives" / "devices" / "networks.csv"
SMALLEST_GROUP = 10
ESTIMATOR = "estimator"
WINDOWED = {"iformer_m": 4, "iformer_l": 7, "iformer_l2": 11}
"""Attention blocks that see windows of 16 x 16 in iFormer's backbones for dense prediction: "All models named faster are
only used for latency measurement of detection and segmentation" (the authors' code, iFormer_m_faster and its like)."""


@dataclass(frozen=True)
class LeftOut:
    """A figure and its estimate from the other families."""

    figure: Published
    ms: float
    deviation: float = 0.0

    @property
    def error(self) -> float:
        """Relative."""
        return abs(self.ms / self.figure.ms - 1)

    @property
    def surprise(self) -> float:
        """How many of its own standard deviations an estimate is off."""
        return abs(float(np.log(self.ms / self.figure.ms))) / self.deviation


def main() -> None:
    """Convert what is missing, compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convert", action="store_true")
    if parser.parse_args().convert:
        convert_missing()
    found = compare()
    for row in found:
        print("  ".join(f"{value:{'24s' if isinstance(value, str) else '6.3f'}}" for value in row.values()))
    intervals = coverage(left_out())
    print(f"80 % intervals hold {100 * intervals['held']:.0f} %; factor on all figures {intervals['factor']:.2f}")
    transfers = [transfer("chip"), transfer("stopwatch")]
    for row in transfers:
        print(f"{row['left_out']}: MAPE {row['mape']}, 80 % intervals hold {row['held']}")
    store(
        "latency_estimator", found, figures=len(published()), left_out="one family at a time", intervals=intervals,
        transfer=transfers,
    )  # fmt: skip


def compare(figures: Sequence[Published] | None = None) -> list[dict[str, object]]:
    """One row for each method and group, and for each method all groups pooled."""
    figures = published() if figures is None else figures
    methods = {ESTIMATOR: left_out(figures)} | {
        name: baseline(figures, *columns) for name, columns in BASELINES.items()
    }
    large = [group for group, count in Counter(map(group_of, figures)).items() if count >= SMALLEST_GROUP]
    return [
        scores(name, group, [one for one in results if group_of(one.figure) in members])
        for group, members in [*((group, [group]) for group in sorted(large)), ("pooled", large)]
        for name, results in methods.items()
    ]


def scores(method: str, group: str, results: Sequence[LeftOut]) -> dict[str, object]:
    """Errors and rank correlations of one method in one group."""
    errors = np.array([one.error for one in results])
    pairs = [one.ms for one in results], [one.figure.ms for one in results]
    return {
        "group": group, "method": method, "figures": float(len(results)), "mape": round(float(errors.mean()), 4),
        "within_10": round(float((errors <= 0.1).mean()), 3), "within_20": round(float((errors <= 0.2).mean()), 3),
        "spearman": round(float(spearmanr(*pairs)[0]), 3), "kendall": round(float(kendalltau(*pairs)[0]), 3),
    }  # fmt: skip


def group_of(figure: Published) -> str:
    """One publication's table of one device."""
    return f"{figure.chip}, {figure.source.split()[0]}"


def left_out(figures: Sequence[Published] | None = None, by: str = "family") -> list[LeftOut]:
    """Each figure with its estimate from those of the other families (or chips, or stopwatches)."""
    figures = published() if figures is None else figures
    values = sorted({getattr(figure, by) for figure in figures})
    fits = {value: fit(one for one in figures if getattr(one, by) != value) for value in values}
    return [estimated(figure, fits[getattr(figure, by)]) for figure in figures]


def transfer(by: str) -> dict[str, object]:
    """How far off estimates are on chips, or with stopwatches, that the fit has never seen, as the product tells them."""
    results = left_out(by=by)
    inside = [one.surprise <= Z80 * priors.CALIBRATION for one in results]
    error, held = (float(np.mean(values)) for values in ([one.error for one in results], inside))
    return {"left_out": f"one {by} at a time", "mape": round(error, 4), "held": round(held, 3)}


def estimated(figure: Published, known: Fit) -> LeftOut:
    """Estimate a figure in its own setting."""
    told = known.estimate(figure.terms, Setting(figure.chip, figure.stopwatch, figure.os))
    return LeftOut(figure, told.ms, told.deviation)


def coverage(results: Sequence[LeftOut]) -> dict[str, float]:
    """Share of figures inside their intervals, each family's calibrated on the others; and the factor on all."""
    held = [
        one.surprise <= Z80 * factor([other for other in results if other.figure.family != one.figure.family])
        for one in results
    ]
    return {"held": round(float(np.mean(held)), 3), "factor": round(factor(results), 3)}


def factor(results: Sequence[LeftOut]) -> float:
    """What the fit's own deviations are multiplied by, so that 80 % of these lie inside."""
    return float(np.quantile([one.surprise for one in results], 0.8)) / Z80


Feature = Callable[[Published], float]


def _macs(figure: Published) -> float:
    return _sum(figure, "spatial", "pointwise", "depthwise")


def moved(figure: Published) -> float:
    """MB of activations that operations read and write."""
    return float(_networks()[figure.network]["moved"])


def _parameters(figure: Published) -> float:
    return float(_networks()[figure.network]["parameters"])


def _one(figure: Published) -> float:
    return 1.0


def _sum(figure: Published, *names: str) -> float:
    amounts = dict(zip(priors.TERMS, figure.terms, strict=True))
    return sum(amounts[name] for name in names)


def _weights(figure: Published) -> float:
    return _sum(figure, "weights")


BASELINES: Mapping[str, Sequence[Feature]] = {
    "MACs": (_macs,),
    "parameters": (_parameters,),
    "t0 + weights": (_one, _weights),
    "t0 + MACs + weights + activations": (_one, _macs, _weights, moved),
}


def baseline(figures: Sequence[Published], *features: Feature) -> list[LeftOut]:
    """Each figure, estimated from the other families of its own group."""
    results = []
    for figure in figures:
        others = [o for o in figures if group_of(o) == group_of(figure) and o.family != figure.family]
        if others:
            x = np.array([[feature(other) / other.ms for feature in features] for other in others])
            slopes, _ = nnls(x, np.ones(len(others)))
            results.append(LeftOut(figure, float(slopes @ [feature(figure) for feature in features])))
    return results


@cache
def _networks() -> dict[str, dict[str, str]]:
    return {row["network"]: row for row in rows("networks.csv")}


def convert_missing() -> None:
    """Build, convert and add what `networks.csv` lacks; networks that cannot be built are told and left out."""
    known = dict(_networks())
    wanted = {name_of(row): row for row in rows("latencies.csv")}
    for name in sorted(wanted.keys() - known.keys()):
        try:
            known[name] = {"network": name} | asked(wanted[name])
        except Exception as error:  # of torch's or coremltools' many kinds: this network is left out
            print(f"{name} is left out: {type(error).__name__}: {str(error)[:100]}")
            continue
        with NETWORKS.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["network", "parameters", "moved", *priors.TERMS], lineterminator="\n")
            writer.writeheader()
            writer.writerows(known[key] for key in sorted(known))
        print(f"{name} is converted", flush=True)
    _networks.cache_clear()


def asked(row: Mapping[str, str]) -> dict[str, str]:
    """What one network asks of the hardware, read from its package."""
    import torch
    from timm.utils.model import reparameterize_model

    from coreml_pareto.objectives.program import costs, load
    from coreml_pareto.objectives.workload import terms, total

    side = int(row["resolution"])
    network = reparameterize_model(architecture(row["network"], side).eval())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if row["part"] == "features":
        network.forward = network.forward_features  # a backbone for dense prediction
        if row["network"] in WINDOWED:
            cut_into_windows(network, WINDOWED[row["network"]])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        package = _saved(torch.jit.trace(network, torch.zeros(1, 3, side, side), check_trace=False), side, folder)
        table = costs(load(package))
    told = {term: f"{amount:.6g}" for term, amount in zip(priors.TERMS, terms(table), strict=True)}
    moved = f"{total(table).activation_bytes / 1e6:.6g}"  # MB, for the baseline
    return {"parameters": str(parameters), "moved": moved} | told


def cut_into_windows(network, blocks: int, side: int = 16) -> None:  # type: ignore[no-untyped-def]
    """Let so many attention blocks of iFormer's third stage see windows only; channels are cut in 16, as the authors do."""
    import torch

    def split(_, inputs):  # type: ignore[no-untyped-def]
        parts = inputs[0].chunk(16, 1)
        wide = [part.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 1, 3, 5) for part in parts]
        return torch.cat([part.reshape(-1, part.shape[3], side, side) for part in wide], 1)

    def join(_, inputs, windows):  # type: ignore[no-untyped-def]
        rows = math.isqrt(int(windows.shape[0]))
        wide = [part.unflatten(0, (1, rows, rows)).permute(0, 3, 1, 4, 2, 5) for part in windows.chunk(16, 1)]
        return torch.cat([part.reshape(1, -1, rows * side, rows * side) for part in wide], 1)

    attention = [block for block in network.stages[2].blocks if type(block).__name__ == "SHMABlock"]
    attention[0].register_forward_pre_hook(split)
    attention[blocks - 1].register_forward_hook(join)


def _saved(traced: object, side: int, folder: str) -> Path:
    from coreml_pareto.objectives.program.quiet import coremltools as ct
    from coreml_pareto.objectives.program.quiet import quiet

    package = Path(folder) / "network.mlpackage"
    image = ct.ImageType(name="image", shape=(1, 3, side, side), scale=1 / 255, color_layout=ct.colorlayout.RGB)
    with quiet():
        ct.convert(
            traced, inputs=[image], convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT16, skip_model_load=True,
        ).save(str(package))  # fmt: skip
    return package


def architecture(name: str, side: int):  # type: ignore[no-untyped-def]
    """Random weights; widths that timm has no name for are made by its own generators."""
    import timm
    import torchvision
    from timm.layers import set_fused_attn
    from timm.models.efficientnet import _gen_mobilenet_v2
    from timm.models.mobilenetv3 import _gen_mobilenet_v3

    set_fused_attn(False)  # the publications are older than the fused operation
    if name.startswith("torchvision/"):
        return getattr(torchvision.models, name.removeprefix("torchvision/"))(weights=None)
    if name in ("mobilenetv2_150", "mobilenetv2_200"):
        return _gen_mobilenet_v2("mobilenetv2_140", float(name[-3:]) / 100)
    if name == "mobilenetv3_large_050":
        return _gen_mobilenet_v3("mobilenetv3_large_075", 0.5)
    try:
        return timm.create_model(name, img_size=side)
    except TypeError:  # most networks take any size
        return timm.create_model(name)


if __name__ == "__main__":
    main()
