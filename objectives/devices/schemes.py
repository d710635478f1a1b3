"""What does a compression do on Apple's devices?  Which unit profits, what it does to latency, what is reported broken.

`GUIDES` has one row for each scheme and granularity, from Apple's Core ML Tools guide; `schemes.csv` the latencies that
Apple published, each with that of the same network in fp16; `REPORTS` what is open in Apple's own repositories. The tags
are those of `CITATIONS.md`. What no source says stays blank; nothing here was measured by this project. The minimum OS
is told by `spaces.compression` and by nothing here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final, final

from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.spaces.candidate import Compression, Granularity, Scheme
from coreml_pareto.spaces.compression import minimum_os, parse, spell
from coreml_pareto.spaces.errors import UserError


@final
@dataclass(frozen=True)
class Figure:
    """One published latency: the network compressed, and in fp16 on the same device and system. Milliseconds."""

    network: str
    device: str
    system: str
    form: str
    ms: float
    fp16_ms: float
    source: str

    @property
    def relative(self) -> float:
        """Share of the time that the network takes in fp16."""
        return self.ms / self.fp16_ms


@final
@dataclass(frozen=True)
class Guide:
    """What Apple says of a scheme at some granularities.

    Attributes:
        units: those that profit, Apple's words taken literally; empty where it names none.
        speed: one sentence.
        sources: tags of `CITATIONS.md`.
    """

    scheme: Scheme
    granularities: tuple[Granularity, ...]
    units: tuple[Unit, ...]
    speed: str
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        """The scheme, with its granularity where it has several rows: `int8/channel`, `pruning/n:m`, `w8a8`."""
        place = {"none": "", "block": "/n:m" if self.scheme == "pruning" else "/block"}
        alone = sum(row.scheme == self.scheme for row in GUIDES) == 1
        return self.scheme + ("" if alone else place.get(self.granularities[0], f"/{self.granularities[0]}"))


@final
@dataclass(frozen=True)
class Report:
    """A defect that is reported in one of Apple's repositories and was open when it was read.

    Attributes:
        reference: repository and number; a tag of `CITATIONS.md`, too.
        since: the day it was opened, or the first day it is known of.
        bits: of the compressions concerned; empty where all are.
        first_os, last_os: the packages concerned, by the oldest iOS that opens them.
    """

    reference: str
    since: str
    what: str
    schemes: frozenset[Scheme]
    granularities: frozenset[Granularity]
    bits: frozenset[int] = frozenset()
    first_os: int = 0
    last_os: int = 99

    def concerns(self, compression: Compression, os: int) -> bool:
        """Whether a package with this compression, for iOS `os` and later, is one of those reported."""
        kind = compression.scheme in self.schemes and compression.granularity in self.granularities
        return kind and (not self.bits or compression.bits in self.bits) and self.first_os <= os <= self.last_os


GUIDES: Final = (
    Guide("fp32", ("none",), (), "Runs on GPU and CPU, never on the Neural Engine.", ("CT-T",)),
    Guide("fp16", ("none",), (), "Runs on Neural Engine, GPU and CPU; what the others are compared with.", ("CT-T",)),
    Guide("int8", ("tensor",), (), "Apple's figures have one scale per channel; none are published for this.", ("CT-Q",)),
    Guide(
        "int8", ("channel",), ("Neural Engine",),
        "Smaller, hardly faster, for some networks slower; unpacked to fp16 ahead of run time on iOS 16.",
        ("CT-Q", "CT-A", "CT-N"),
    ),
    Guide(
        "int8", ("block",), ("GPU",),
        "Saves memory, and time depending on the network, on the GPU; Apple advises channels on the Neural Engine.",
        ("CT-Q",),
    ),
    Guide(
        "int4", ("channel",), ("Neural Engine",), "What Apple advises on the Neural Engine instead of blocks.", ("CT-Q",)
    ),
    Guide(
        "int4", ("block",), ("GPU",),
        "Saves memory, and time depending on the network, on a Mac's GPU above all; Apple advises channels on the "
        "Neural Engine.",
        ("CT-Q", "CT-O"),
    ),
    Guide(
        "palette", ("tensor",), ("Neural Engine",),
        "Unpacked just in time from iOS 17 on; small networks hardly gain, larger ones more on iOS 18.",
        ("CT-P", "CT-R", "CT-O", "CT-N"),
    ),
    Guide(
        "palette", ("group",), ("Neural Engine",),
        "More tables take more time: groups of 16 and 8 channels still gain, groups of 4 lose.",
        ("CT-P", "CT-R"),
    ),
    Guide(
        "pruning", ("none",), ("Neural Engine", "CPU"),
        "Less to load, and the Neural Engine may skip runs of zeros: the sparser the faster, above all from 75 % on.",
        ("CT-S", "CT-R", "CT-O"),
    ),
    Guide(
        "pruning", ("block",), ("CPU",),
        "Linear layers gain on newer CPUs where m divides 16 and at least half of every m weights are zero.",
        ("CT-S",),
    ),
    Guide(
        "joint", ("tensor",), (),
        "Apple speaks of savings beyond those of pruning and of tables alone, without a figure.",
        ("CT-S", "CT-J"),
    ),
    Guide("mixed", ("tensor", "group"), (), "A form for each layer: what is said of those forms holds here.", ()),
    Guide(
        "w8a8", ("channel",), ("Neural Engine",),
        "Considerably faster, most from A17 Pro and M4 on, which multiply int8 by int8; considerably slower on the CPU "
        "and sometimes on the GPU.",
        ("CT-Q", "CT-R", "CT-N", "CT-O"),
    ),
)  # fmt: skip

_SCALED: Final = (frozenset[Scheme]({"int8", "w8a8"}), frozenset[Granularity]({"tensor", "channel"}))
_TABLES: Final = (frozenset[Scheme]({"palette"}), frozenset[Granularity]({"tensor", "group"}))
REPORTS: Final = (
    Report(
        "apple/coremltools#2675", "2026-04-25",
        "signed int8 weights in packages for iOS 16 and 17 (constexpr_affine_dequantize) may give wrong results on GPU "
        "and Neural Engine",
        *_SCALED, last_os=17,
    ),
    Report(
        "apple/coremltools#2677", "2026-04-28", "the same, for packages that are there already", *_SCALED, last_os=17
    ),
    Report(
        "apple/coremltools#2716", "2026-09-23 or before",
        "4-bit k-means tables of coremltools 9.0 give wrong results or crash; language models, macOS 26",
        *_TABLES, bits=frozenset({4}),
    ),
    Report(
        "apple/coremltools#2688", "2026-05-03",
        "4-bit tables in packages for iOS 18 fail to load on the Neural Engine of macOS 26: with scales per channel, by "
        "a comment also without",
        *_TABLES, bits=frozenset({4}), first_os=18,
    ),
    Report(
        "apple/coreai-models#279", "2026-09-22",
        "integers per block (8 bits seen) give wrong results on the Neural Engine of iOS 27 in Core AI, which is not Core "
        "ML",
        frozenset({"int8", "int4"}), frozenset({"block"}),
    ),
)  # fmt: skip


@final
@dataclass(frozen=True)
class Use:
    """Compressions of one guide in a package: the OS they need, what is published of exactly them, and what is reported."""

    name: str
    minimum_os: int
    guide: Guide
    figures: tuple[Figure, ...]
    reports: tuple[Report, ...]

    @property
    def relative(self) -> tuple[float, float] | None:
        """Least and largest of the published latencies, as shares of fp16's; None where nothing is published."""
        shares = [figure.relative for figure in self.figures]
        return (min(shares), max(shares)) if shares else None

    @property
    def sources(self) -> dict[str, str]:
        """Tags of all that is said here, and what they stand for."""
        figures, reports = (figure.source for figure in self.figures), (report.reference for report in self.reports)
        return {tag: citations()[tag] for tag in dict.fromkeys((*self.guide.sources, *figures, *reports))}

    @property
    def data(self) -> dict[str, Any]:
        """All of it for machines."""
        return {
            "minimum_os": self.minimum_os,
            "units": list(self.guide.units),
            "speed": self.guide.speed,
            "latency_relative_to_fp16": [round(share, 3) for share in self.relative] if self.relative else None,
            "figures": [vars(figure) | {"relative": round(figure.relative, 3)} for figure in self.figures],
            "open_reports": [{"reference": r.reference, "since": r.since, "what": r.what} for r in self.reports],
            "sources": self.sources,
        }


def use_of(compression: Compression, os: int | None = None) -> Use:
    """What is known of a compression in a package for iOS `os` and later, or for the oldest system that it runs on."""
    oldest, form = minimum_os(compression), spell(compression)
    return Use(
        name=form,
        minimum_os=oldest,
        guide=guide_of(compression),
        figures=tuple(figure for figure in published() if figure.form == form),
        reports=tuple(report for report in REPORTS if report.concerns(compression, oldest if os is None else os)),
    )


def uses_of(forms: Iterable[str], os: int | None) -> tuple[Use, ...]:
    """What is known of the forms in a package for iOS `os`, one for each guide; forms that no study writes are left out.

    fp16 is told of only where it is all there is.
    """
    merged: dict[str, Use] = {}
    for form in dict.fromkeys(forms):
        try:
            found = use_of(parse(form), os)
        except UserError:
            continue
        name = found.guide.name
        merged[name] = _both(merged[name], found) if name in merged else replace(found, name=name)
    return tuple(use for name, use in merged.items() if name != "fp16" or len(merged) == 1)


def _both(one: Use, other: Use) -> Use:
    return replace(
        one,
        minimum_os=max(one.minimum_os, other.minimum_os),
        figures=one.figures + other.figures,
        reports=tuple(dict.fromkeys(one.reports + other.reports)),
    )


def guide_of(compression: Compression) -> Guide:
    """The row of a compression."""
    scheme, granularity = compression.scheme, compression.granularity
    return next(row for row in GUIDES if row.scheme == scheme and granularity in row.granularities)


@cache
def published() -> tuple[Figure, ...]:
    """All published latencies."""
    return tuple(map(_figure, csv.DictReader(_text("schemes.csv").splitlines())))


@cache
def citations() -> Mapping[str, str]:
    """What the tags of this module stand for: the second part of `CITATIONS.md`."""
    _, ours = _text("CITATIONS.md").split("# Sources of `schemes.py`")
    entries = re.findall(r"^- `([^`]+)` (.+(?:\n  .+)*)", ours, re.MULTILINE)
    return {tag: " ".join(text.split()) for tag, text in entries}


def _figure(row: Mapping[str, str]) -> Figure:
    return Figure(
        network=row["network"], device=row["device"], system=row["system"], form=row["form"],
        ms=float(row["ms"]), fp16_ms=float(row["fp16_ms"]), source=row["source"],
    )  # fmt: skip


def _text(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
