"""How long does one inference take on a device?  An estimate from the operation table; a measurement where one is given.

On the Neural Engine

    t = t0 + a M_dense + d M_depthwise + b W_eff + e A          (GMAC, GMAC, MB, MB -> ms)
    W_eff = W (1 - eta (1 - stored bits / 16))                  weight-only compression, sparsity by its stored bytes
    W8A8: 0.55 of everything above t0, on the fp16 network's features, from A16 and M4 on; else as weight-only int8

with the parameters of `devices/priors.py`, a pooled fit of published whole-model latencies. On GPU and CPU only one
network's time is published: t = t0 + MACs / rate, and the faster of the allowed units counts. A unit's own floor is not
published, so the device's t0 is used there too; and since no published classifier is faster off the Neural Engine, t is
at least what the Neural Engine would take for the same features uncompressed (it matters for tiny networks, to which
a rate of MACs alone would grant that fp32 beats fp16). Peak TOPS enter nowhere.

The stopwatch that an estimate imitates differs by chip (Xcode's performance report for A16 and A17 Pro) and is named
in the reading's conditions: floors of different stopwatches lie up to 0.5 ms apart. A live camera runs slower.

The interval is 80 % by judgement: value / f .. value * f, f = 2 on documented chips, 3 elsewhere and on a Mac's GPU
and CPU, 6 on a phone's; widened by the floor's own range. An estimate ranks networks; it does not replace a stopwatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.reading import How, Reading
from coreml_pareto.objectives.workload import Slice, eta, gains_from_w8a8, is_w8a8, macs, total, units
from coreml_pareto.spaces.errors import UserError


@dataclass(frozen=True)
class Measurement:
    """Milliseconds of back-to-back predictions on one target: median with 10th and 90th percentile."""

    target: Target
    median_ms: float
    p10_ms: float
    p90_ms: float
    predictions: int
    stopwatch: str


def latency(costs: Sequence[Cost], target: Target, measurement: Measurement | None = None) -> dict[str, Reading]:
    """`latency_ms` and `fps` of one program on a target.

    With `measurement` (only of that very device, system and units, else UserError) it is the stopwatch's; else an
    estimate.
    """
    reading = _estimate(costs, target) if measurement is None else _measured(measurement, target)
    back_to_back = dict(reading.conditions) | {"method": "1000 / latency_ms, back to back; a live camera runs slower"}
    fps = Reading(1000 / reading.value, "1/s", 1000 / reading.high, 1000 / reading.low, reading.how, back_to_back)
    return {"latency_ms": reading, "fps": fps}


def unit_milliseconds(costs: Sequence[Cost], target: Target, unit: Unit) -> tuple[float, float, float]:
    """Estimated milliseconds on one unit: value, low, high."""
    if unit == "Neural Engine":
        floor = priors.floor(target.device.soc)
        return _with_interval(floor.t0, _neural_engine_work(costs, target), floor.interval)
    rate = priors.GPU_RATE if unit == "GPU" else priors.CPU_RATE
    factor = priors.MAC_RATE_INTERVAL if target.device.is_mac else priors.PHONE_RATE_INTERVAL
    plain = total(costs)
    work = max(macs(costs) / 1e9 / rate.value, _slopes(plain, plain.full_weight_bytes))
    return _with_interval(priors.floor(target.device.soc).t0, work, factor)


def _estimate(costs: Sequence[Cost], target: Target) -> Reading:
    times = {unit: unit_milliseconds(costs, target, unit) for unit in units(costs, target)}
    unit = min(times, key=lambda name: times[name][0])
    value, low, high = times[unit]
    return _reading(value, low, high, "estimated", target, unit=unit, **_assumptions(costs, target, unit))


def _neural_engine_work(costs: Sequence[Cost], target: Target) -> float:
    """Milliseconds above the floor."""
    gain = gains_from_w8a8(target, "Neural Engine")
    plain = total((c for c in costs if not (gain and is_w8a8(c))), eta=eta(target, "Neural Engine"))
    int8 = total(c for c in costs if gain and is_w8a8(c))
    return _slopes(plain, plain.effective_weight_bytes) + priors.W8A8_TIME.value * _slopes(int8, int8.full_weight_bytes)


def _slopes(work: Slice, weight_bytes: float) -> float:
    return (
        priors.DENSE.value * work.dense_macs / 1e9
        + priors.DEPTHWISE.value * work.depthwise_macs / 1e9
        + priors.WEIGHTS.value * weight_bytes / 1e6
        + priors.ACTIVATIONS.value * work.activation_bytes / 1e6
    )


def _with_interval(t0: priors.Prior, work: float, factor: float) -> tuple[float, float, float]:
    value = t0.value + work
    return value, min(value / factor, t0.low + work / factor), max(value * factor, t0.high + work * factor)


def _assumptions(costs: Sequence[Cost], target: Target, unit: Unit) -> dict[str, str]:
    floor = priors.floor(target.device.soc)
    if unit == "Neural Engine":
        told = {
            "method": f"prior, no measurement of this device; interval x/÷{floor.interval:g}, 80 % by judgement",
            "stopwatch": floor.stopwatch,
            "assumes": "every operation runs on the Neural Engine",
        }
        if any(is_w8a8(cost) for cost in costs) and not gains_from_w8a8(target, unit):
            told["w8a8"] = f"no gain is published for the {target.device.soc}: counted as weight-only int8"
        return told
    told = {"method": "MACs over the rate of DenseNet-121, the only network published for Mac GPU and CPU; x/÷3"}
    if not target.device.is_mac:
        told["method"] = "MACs over a Mac's rate for DenseNet-121, assumed for phones and tablets; x/÷6"
    return told


def _measured(measurement: Measurement, target: Target) -> Reading:
    if measurement.target != target:
        theirs, ours = (" / ".join(which.conditions.values()) for which in (measurement.target, target))
        raise UserError(
            f"a measurement counts only for the target it was made on; it is of {theirs}, wanted {ours}; "
            "measure there, or estimate"
        )
    return _reading(
        measurement.median_ms,
        measurement.p10_ms,
        measurement.p90_ms,
        "measured",
        target,
        stopwatch=measurement.stopwatch,
        method=f"median of {measurement.predictions} predictions, 10th to 90th percentile",
    )


def _reading(value: float, low: float, high: float, how: How, target: Target, **conditions: str) -> Reading:
    return Reading(value, "ms", low, high, how, target.conditions | conditions)
