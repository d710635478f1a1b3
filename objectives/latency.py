"""How long does one inference take on a device?  An estimate from the operation table; a measurement where one is given.

On the Neural Engine

    t = t0 + v * sum over terms theta x                     GMAC and MB -> ms

with the terms of `workload.terms` and the parameters of `devices/fit.py`: one hierarchical fit of the latencies that were
published (`devices/latencies.csv`), in which chip, stopwatch and system have effects of their own. Chips without figures
borrow from their neighbours. Of weight-only compression and sparsity the share eta of the saved bytes counts
(W_eff = W (1 - eta (1 - stored bits / 16))); W8A8 operations take W8A8_TIME of their fp16 time from A16 and M4 on, else
they count as weight-only int8 (both from Apple's tables, `devices/priors.py`). Operations that the Neural Engine is
reported not to run (`program/engine.py`) cost a program FALLBACK once; where another allowed unit then runs the whole
program faster, it is taken to run there (Core ML's own choice is not published). Peak TOPS enter nowhere.

On GPU and CPU a call, MACs, activation and weight bytes have a price each (RATES, from one published grid and one network
on Macs), added to the Neural Engine's t0, and the faster of the allowed units counts. Since no published classifier is
faster off the Neural Engine, the work is at least what the Neural Engine would take uncompressed.

The stopwatch that an estimate imitates is the one with the most figures on that chip, Xcode's where there is none; the
reading's conditions name it. A live camera runs slower. Intervals are 80 %: on the Neural Engine the fit's own doubt, times
a factor that makes them hold on families left out (`benchmarks/latency_estimator.py`); elsewhere value / f .. value * f
by judgement, f = 3 on a Mac's GPU and CPU, 6 on a phone's. An estimate ranks networks; it does not replace a stopwatch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.fit import Z80, Array, Estimate, Setting, fitted
from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.objectives.devices.published import LOOP, STOPWATCHES, networks_on, published, stopwatch_of
from coreml_pareto.objectives.latency_terms import TERMS, Parts, setting_of
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.program.costs import CONTROL_FLOW
from coreml_pareto.objectives.reading import How, Reading
from coreml_pareto.objectives.workload import (
    FUSED,
    Terms,
    arithmetic_term,
    eta,
    full_weight_bytes,
    gains_from_w8a8,
    handed_over,
    is_w8a8,
    off_engine,
    terms,
    units,
)
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


@dataclass(frozen=True)
class Shares:
    """An estimate in ms, taken apart: each call's floor, each operation's time by term (`priors.TERMS`), what is added."""

    t0: float
    operations: tuple[Mapping[str, float], ...]
    fallback: float


def latency(costs: Sequence[Cost], target: Target, measurement: Measurement | None = None) -> dict[str, Reading]:
    """`latency_ms` and `fps` of one program on a target.

    With `measurement` (only of that very device, system and units, else UserError) it is the stopwatch's; else an
    estimate.
    """
    reading = _estimate(costs, target) if measurement is None else _measured(measurement, target)
    back_to_back = dict(reading.conditions) | {"method": "1000 / latency_ms, back to back; a live camera runs slower"}
    fps = Reading(1000 / reading.value, "1/s", 1000 / reading.high, 1000 / reading.low, reading.how, back_to_back)
    return {"latency_ms": reading, "fps": fps}


def fastest(costs: Sequence[Cost], target: Target) -> Unit:
    """The unit that is taken to run a program: the fastest of the allowed ones."""
    allowed = units(costs, target)
    return allowed[0] if len(allowed) == 1 else min(allowed, key=lambda name: unit_milliseconds(costs, target, name)[0])


def unit_milliseconds(costs: Sequence[Cost], target: Target, unit: Unit) -> tuple[float, float, float]:
    """Estimated milliseconds on one unit: value, low, high."""
    if unit == "Neural Engine":
        return _added(*_on_neural_engine(costs, target))
    factor = priors.MAC_UNIT_INTERVAL if target.device.is_mac else priors.PHONE_UNIT_INTERVAL
    engine, work = _fitted(terms(costs), target), _elsewhere(costs, unit)
    value = engine.t0 + max(work.t0 + _sum(work), sum(engine.parts))
    return value, value / factor, value * factor


def _elsewhere(costs: Sequence[Cost], unit: Unit) -> Shares:
    """What a program takes on GPU or CPU: a price for each call, and for the MACs, weights and activations of each row."""
    rates = priors.RATES[unit]

    def priced(cost: Cost) -> Mapping[str, float]:
        moved = 0 if cost.kind in FUSED else cost.read_bytes + cost.written_bytes
        prices = {
            arithmetic_term(cost): rates.gmac * cost.macs / 1e9,
            "weights": rates.weights * full_weight_bytes(cost) / 1e6,
            "activations": rates.activations * moved / 1e6,
        }
        return {name: ms for name, ms in prices.items() if ms}

    return Shares(rates.call, tuple(map(priced, costs)), 0.0)


def _sum(shares: Shares) -> float:
    return sum(ms for row in shares.operations for ms in row.values())


def unit_shares(costs: Sequence[Cost], target: Target, unit: Unit) -> Shares:
    """What `unit_milliseconds` adds up, operation by operation."""
    if unit == "Neural Engine":
        estimate, added = _on_neural_engine(costs, target)
        rows = [_engine_terms([cost], target) for cost in costs]
        return Shares(estimate.t0, _priced(rows, estimate.parts), added.value)
    engine, work = _fitted(terms(costs), target), _elsewhere(costs, unit)
    if work.t0 + _sum(work) > sum(engine.parts):
        return Shares(engine.t0 + work.t0, work.operations, 0.0)
    return Shares(engine.t0, _priced([terms([cost]) for cost in costs], engine.parts), 0.0)


def parts(costs: Sequence[Cost], target: Target) -> tuple[float, ...]:
    """What an estimate adds up, in ms: each call's floor, the terms in the order of `priors.TERMS`, a fallback."""
    shares = unit_shares(costs, target, fastest(costs, target))
    summed = dict.fromkeys(priors.TERMS, 0.0)
    for row in shares.operations:
        for term, ms in row.items():
            summed[term] += ms
    return shares.t0, *summed.values(), shares.fallback


def doubt(target: Target, unit: Unit) -> Array:
    """Covariance of the logarithms of `parts` on a unit: the fit's, and how wide FALLBACK is; off it, one common factor."""
    chip = target.device.soc
    found = fitted().doubt(Setting(chip, stopwatch_of(chip), target.os))
    if unit != "Neural Engine":
        factor = priors.MAC_UNIT_INTERVAL if target.device.is_mac else priors.PHONE_UNIT_INTERVAL
        found[1:, :] = found[:, 1:] = 0.0
        found[1:, 1:] = (math.log(factor) / Z80) ** 2 + priors.SCATTER**2 * np.eye(len(priors.TERMS))
    fallback = (math.log(priors.FALLBACK.high / priors.FALLBACK.low) / 2 / Z80) ** 2
    return np.block([[found, np.zeros((len(found), 1))], [np.zeros((1, len(found))), np.array([[fallback]])]])


def _estimate(costs: Sequence[Cost], target: Target) -> Reading:
    unit, parts = fastest(costs, target), {}
    if unit == "Neural Engine":
        estimate, added = _on_neural_engine(costs, target)
        parts[TERMS] = Parts(estimate.t0, estimate.parts, added.value).text
        value, low, high = _added(estimate, added)
    else:
        value, low, high = unit_milliseconds(costs, target, unit)
    return _reading(value, low, high, "estimated", target, unit=unit, **parts, **_assumptions(costs, target, unit))


def _on_neural_engine(costs: Sequence[Cost], target: Target) -> tuple[Estimate, priors.Prior]:
    added = priors.FALLBACK if off_engine(costs, target) else priors.NO_FALLBACK
    return _fitted(_engine_terms(costs, target), target), added


def _added(estimate: Estimate, added: priors.Prior) -> tuple[float, float, float]:
    low, high = estimate.interval
    return estimate.ms + added.value, low + added.low, high + added.high


def _priced(rows: Sequence[Terms], parts: Sequence[float]) -> tuple[Mapping[str, float], ...]:
    """Each operation's share of the terms' milliseconds; a term that it does not have is left out."""
    if not rows:
        return ()
    amounts = [sum(column) for column in zip(*rows, strict=True)]
    prices = [part / amount if amount else 0.0 for part, amount in zip(parts, amounts, strict=True)]
    told = [zip(priors.TERMS, prices, row, strict=True) for row in rows]
    return tuple({name: price * amount for name, price, amount in row if amount} for row in told)


def _fitted(amounts: Terms, target: Target) -> Estimate:
    return fitted().estimate(amounts, setting_of(target))


def _engine_terms(costs: Sequence[Cost], target: Target) -> Terms:
    """Terms with what compression really saves: of weight bytes a share, of W8A8 operations a share of everything."""
    gain, share = gains_from_w8a8(target, "Neural Engine"), eta(target, "Neural Engine")
    plain = terms((cost for cost in costs if not (gain and is_w8a8(cost))), eta=share)
    int8 = terms(cost for cost in costs if gain and is_w8a8(cost))
    return tuple(p + priors.W8A8_TIME.value * q for p, q in zip(plain, int8, strict=True))


def _assumptions(costs: Sequence[Cost], target: Target, unit: Unit) -> dict[str, str]:
    told = _unknown(costs)
    if unit == "Neural Engine":
        return told | _engine_assumptions(costs, target)
    told["stopwatch"] = STOPWATCHES[LOOP]
    told["method"] = "MACs and bytes as on an iPhone 11 Pro, at the level of DenseNet-121 on Macs; x/÷3"
    if not target.device.is_mac:
        told["method"] = (
            "MACs and bytes as on an iPhone 11 Pro, at the level of DenseNet-121 on Macs, assumed here; x/÷6"
        )
    if rows := handed_over(costs, target):
        told["assumes"] = (
            f"the whole program runs on the {unit}: the Neural Engine hands over {_reasons(rows)}, and with "
            f"{priors.FALLBACK.value:g} ms added takes longer"
        )
    return told


def _engine_assumptions(costs: Sequence[Cost], target: Target) -> dict[str, str]:
    chip = target.device.soc
    networks = networks_on(chip)
    known = (
        f"{networks} networks on the {chip}"
        if networks
        else f"none timed on the {chip}: carried over from its neighbours"
    )
    told = {
        "method": f"fit of {len(published())} published latencies; {known}",
        "stopwatch": STOPWATCHES[stopwatch_of(chip)],
        "assumes": f"every operation runs on the Neural Engine{_control_flow(costs)}",
    }
    if any(is_w8a8(cost) for cost in costs) and not gains_from_w8a8(target, "Neural Engine"):
        told["w8a8"] = f"no gain is published for the {chip}: counted as weight-only int8"
    if rows := off_engine(costs, target):
        told["assumes"] = f"the Neural Engine hands over {_reasons(rows)}: {priors.FALLBACK.value:g} ms are added"
    return told


def _control_flow(costs: Iterable[Cost]) -> str:
    kinds = Counter(cost.kind for cost in costs if cost.kind in CONTROL_FLOW)
    return f", {_counted(kinds)} too: no time of control flow is published" if kinds else ""


def _reasons(rows: Iterable[Cost]) -> str:
    return _counted(Counter(f"{cost.off_engine} ({cost.kind})" for cost in rows))


def _unknown(costs: Iterable[Cost]) -> dict[str, str]:
    kinds = Counter(cost.kind for cost in costs if cost.note == "unknown operation")
    return {"unknown": f"priced by their bytes, arithmetic not counted: {_counted(kinds)}"} if kinds else {}


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in names.most_common())


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
