"""How much energy does one inference take?  An estimate with terms of its own, not a constant times latency.

    E = k u (E0 + sum over operations e_mac MACs + e_byte (W_eff + spilled A))

E0 = 0.3 mJ for a dispatch, e_mac = 0.74 pJ in fp16 (0.47 in W8A8 on chips that multiply int8), e_byte = 35 pJ: all from
one reverse-engineering of Macs, see `devices/priors.py`. k = 0.3 for phones and tablets with A chips, the ratio of the
one published phone figure (0.45 W) to a Mac's power (1.5 W). u = 10 on GPU and CPU, whatever the precision, fp32
included: only GPU against Neural Engine is published, 8.6 to 10.5. Activations spill where one operation reads and
writes more than 2 MB, and only the excess counts (sources disagree between 2 and 32 MB, so there is no cliff). What the
Neural Engine hands over counts as on the CPU, with a dispatch of its own; the time of going there and back does not.

Check: ResNet-18 on a Mac 2.5 mJ (2.6 published). The intervals, value / f .. value * f with f = 3 on Macs, 4 on phones
and 5 on a phone's GPU and CPU, are judgement. They are wide because of k and u, which two packages on one unit share:
those are compared by the ratio of their energies (`energy_ratio`), for which every reading carries its terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Device, Target
from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.objectives.energy_ratio import TERMS, Terms
from coreml_pareto.objectives.latency import fastest
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.program.engine import holds
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.objectives.workload import eta, is_w8a8, macs, off_engine, total


def energy(costs: Sequence[Cost], target: Target) -> dict[str, Reading]:
    """`energy_mj`; with a known battery also `energy_mah` and `inferences_per_percent` (absent without one)."""
    unit = fastest(costs, target)
    chip = priors.chip_class(target.device.soc)
    handed = unit == "Neural Engine" and bool(off_engine(costs, target))
    factor = priors.ENERGY_INTERVAL[chip, unit == "Neural Engine" and not handed]
    terms = unit_terms(costs, target, unit)
    value = terms.millijoules
    conditions = target.conditions | {
        "unit": unit,
        "method": f"prior: dispatch, MACs by precision, bytes; interval x/÷{factor:g}, 80 % by judgement",
        "covers": "the computing unit and its memory traffic, not the screen or the rest of the system",
        TERMS: terms.text,
    }
    if handed:
        conditions["assumes"] = "what the Neural Engine hands over runs on the CPU, with a dispatch of its own"
    millijoules = Reading(value, "mJ", value / factor, value * factor, "estimated", conditions)
    return {"energy_mj": millijoules} | battery_readings(millijoules, target.device)


def unit_terms(costs: Sequence[Cost], target: Target, unit: Unit) -> Terms:
    """Estimated mJ of one inference on one unit, part by part; what the Neural Engine hands over as on the CPU."""
    if unit != "Neural Engine" or not (handed := off_engine(costs, target)):
        return _terms(costs, target, unit)
    kept = [cost for cost in costs if not holds(cost.off_engine, target.device.soc)]
    both = zip(astuple(_terms(kept, target, unit)), astuple(_terms(handed, target, "CPU")), strict=True)
    return Terms(*map(sum, both))


def _terms(costs: Sequence[Cost], target: Target, unit: Unit) -> Terms:
    int8 = unit == "Neural Engine" and target.device.soc in priors.INT8_CHIPS
    on_chip = priors.ON_CHIP_BYTES.value
    plain = total((c for c in costs if not (int8 and is_w8a8(c))), eta=eta(target, unit), on_chip_bytes=on_chip)
    # Its activations are int8: half the bytes of the table, which counts what convolutions read as dequantised fp16.
    w8a8 = total((c for c in costs if int8 and is_w8a8(c)), eta=1.0, on_chip_bytes=2 * on_chip)
    moved = plain.effective_weight_bytes + plain.spilled_bytes + w8a8.effective_weight_bytes + w8a8.spilled_bytes / 2
    device = priors.PHONE_ENERGY.value if priors.chip_class(target.device.soc) == "phone" else 1.0
    scale = device * (1.0 if unit == "Neural Engine" else priors.OTHER_UNITS.value)
    matrix = macs(c for c in costs if c.group == "matrix" and not (int8 and is_w8a8(c)))
    return Terms(
        dispatch=scale * priors.DISPATCH_MJ.value,
        macs=1e-9 * scale * priors.MAC_PJ.value * (plain.macs - matrix),
        matrix_macs=1e-9 * scale * priors.MAC_PJ.value * matrix,
        int8_macs=1e-9 * scale * priors.W8A8_MAC_PJ.value * w8a8.macs,
        bytes=1e-9 * scale * priors.BYTE_PJ.value * moved,
    )


def battery_readings(millijoules: Reading, device: Device) -> dict[str, Reading]:
    """The same energy as battery charge, mAh = E[J] / (3.6 V), and as inferences per 1 % of the battery."""
    if (capacity := device.energy_wh) is None:
        return {}
    volts, origin = device.voltage
    conditions = dict(millijoules.conditions) | {"battery": f"{capacity:.2f} Wh, {volts:.2f} V ({origin})"}
    charge = [end / (3600 * volts) for end in (millijoules.value, millijoules.low, millijoules.high)]
    percent = [36_000 * capacity / end for end in (millijoules.value, millijoules.high, millijoules.low)]
    return {
        "energy_mah": Reading(charge[0], "mAh", charge[1], charge[2], millijoules.how, conditions),
        "inferences_per_percent": Reading(percent[0], "1", percent[1], percent[2], millijoules.how, conditions),
    }


def format_mah(mah: float) -> str:
    """Charge for people, three digits: '72 nAh', '1.5 µAh', '0.2 mAh'."""
    for scale, unit in ((1e6, "nAh"), (1e3, "µAh")):
        if mah * scale < 999.5:
            return f"{mah * scale:.3g} {unit}"
    return f"{mah:.3g} mAh"
