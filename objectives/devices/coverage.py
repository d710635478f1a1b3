"""How many published latencies stand behind a device's estimates, and of which devices, units and harnesses?

`coverage.csv` counts them, one row per device, unit, harness, form of the weights and source (tags of `CITATIONS.md`);
a blank unit or harness means that the source does not say. Only those that `calibrates` can carry an estimate: figures
in whole milliseconds, of systems before iOS 15, from plots, from users or at second hand are counted, and told apart.

Where a device has none, those of its chip are told; where that has none, those of the nearest generation of its kind (A or
M) that has some, the older one where two are as near: what Apple published changes little from one generation to the
next (-2 to +9 % in fp16 from A16 to A17 Pro, `CT-Q`), and less than between two harnesses on one chip. The estimates
themselves are fitted to the figures of `latencies.csv`, all chips at once (`fit`), neighbours weighing most.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import final

from coreml_pareto.objectives.devices.catalogue import Device, devices, find_device


@final
@dataclass(frozen=True)
class Published:
    """So many latencies of one source. `units` and `harness` are None where it does not say."""

    device: str
    units: str | None
    harness: str | None
    scheme: str
    calibrates: bool
    source: str
    measurements: int


@final
@dataclass(frozen=True)
class Coverage:
    """What was published for a device.

    Attributes:
        own: figures of the device itself.
        chip: figures of its chip, its own among them.
        lender: the chip that it borrows from, None where its own has figures that calibrate.
        lent: the lender's figures.
    """

    own: tuple[Published, ...]
    chip: tuple[Published, ...]
    lender: str | None
    lent: tuple[Published, ...]

    @property
    def short(self) -> str:
        """For a table: `104` of the device, else `A15 107` of its chip, else `←A17 Pro 35`."""
        if own := calibrating(self.own):
            return str(own)
        if self.lender is None:
            return f"{find_device(self.chip[0].device).soc} {calibrating(self.chip)}"
        return f"←{self.lender} {calibrating(self.lent)}"


def coverage(device: Device) -> Coverage:
    """Which published latencies there are for a device, its chip, or the chip that it borrows from."""
    chip = _of_chip().get(device.soc, ())
    lender = None if calibrating(chip) else _nearest(device.soc)
    lent = () if lender is None else _of_chip()[lender]
    return Coverage(tuple(row for row in chip if row.device == device.name), chip, lender, lent)


def calibrating(rows: Iterable[Published]) -> int:
    """How many of these figures can carry an estimate."""
    return sum(row.measurements for row in rows if row.calibrates)


@cache
def published() -> tuple[Published, ...]:
    """All rows of the table, in the catalogue's order."""
    text = (files(__package__) / "coverage.csv").read_text(encoding="utf-8")
    return tuple(_row(row) for row in csv.DictReader(text.splitlines()))


@cache
def _of_chip() -> Mapping[str, tuple[Published, ...]]:
    chips = {device.name: device.soc for device in devices()}
    found: dict[str, tuple[Published, ...]] = {}
    for row in published():
        chip = chips[row.device]
        found[chip] = (*found.get(chip, ()), row)
    return found


def _nearest(soc: str) -> str:
    """The chip of the same kind with figures, nearest in generation; the older, then the better covered one first."""
    kind, generation = _generation(soc)
    measured = [(chip, *_generation(chip)) for chip, rows in _of_chip().items() if calibrating(rows)]
    near = [
        (abs(other - generation), other, -calibrating(_of_chip()[chip]), chip)
        for chip, letter, other in measured
        if letter == kind
    ]
    return min(near)[3]


def _generation(soc: str) -> tuple[str, int]:
    """`A17 Pro` is ('A', 17)."""
    found = re.match(r"([AM])(\d+)", soc)
    if found is None:
        raise ValueError(f"chips are called A or M and a number; got {soc!r}")
    return found[1], int(found[2])


def _row(row: Mapping[str, str]) -> Published:
    return Published(
        device=row["device"],
        units=row["units"] or None,
        harness=row["harness"] or None,
        scheme=row["scheme"],
        calibrates=row["calibrates"] == "yes",
        source=row["source"],
        measurements=int(row["measurements"]),
    )
