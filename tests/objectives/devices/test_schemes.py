"""What compressions do on devices: every scheme has a row, every figure is Apple's, every tag is explained."""

from __future__ import annotations

from typing import Final

import pytest

from coreml_pareto.objectives.devices.schemes import (
    GUIDES,
    REPORTS,
    Figure,
    citations,
    guide_of,
    published,
    use_of,
    uses_of,
)
from coreml_pareto.spaces.candidate import Compression
from coreml_pareto.spaces.compression import SCHEMES, every_compression, minimum_os, parse, spell

CONFIGS: Final = {
    "Weight-only": "int8/channel", "Weight & activation": "w8a8",
    **{f"{bits} bit": f"palette-{bits}/tensor" for bits in (1, 2, 4, 6, 8)},
    **{f"4 bit (group_size={size})": f"palette-4/group-{size}" for size in (4, 8, 16)},
    **{f"Unstructured Sparsity {share}%": f"pruning-{share}" for share in (50, 75, 90)},
}  # fmt: skip
"""Apple's names of the configurations."""

TABLES: Final = """
CT-Q | iOS 17      | MobileNetv2-1.0      | Float16                   | 0.48 | 0.49
CT-Q | iOS 17      | MobileNetv2-1.0      | Weight-only               | 0.45 | 0.44
CT-Q | iOS 17      | MobileNetv2-1.0      | Weight & activation       | 0.27 | 0.20
CT-Q | iOS 17      | ResNet50             | Float16                   | 1.52 | 1.38
CT-Q | iOS 17      | ResNet50             | Weight-only               | 1.49 | 1.50
CT-Q | iOS 17      | ResNet50             | Weight & activation       | 0.94 | 0.77
CT-Q | iOS 17      | MobileViTv2-1.0      | Float16                   | 1.38 | 1.36
CT-Q | iOS 17      | MobileViTv2-1.0      | Weight-only               | 1.43 | 1.37
CT-Q | iOS 17      | MobileViTv2-1.0      | Weight & activation       | 1.18 | 1.03
CT-P | iOS 17      | MobileNetv2-1.0      | Float16                   | 0.48 |
CT-P | iOS 17      | MobileNetv2-1.0      | 2 bit                     | 0.47 |
CT-P | iOS 17      | MobileNetv2-1.0      | 4 bit                     | 0.45 |
CT-P | iOS 17      | MobileNetv2-1.0      | 6 bit                     | 0.48 |
CT-P | iOS 17      | MobileNetv2-1.0      | 8 bit                     | 0.45 |
CT-P | iOS 17      | MobileNetv3-small    | Float16                   | 0.13 |
CT-P | iOS 17      | MobileNetv3-small    | 2 bit                     | 0.13 |
CT-P | iOS 17      | MobileNetv3-small    | 4 bit                     | 0.13 |
CT-P | iOS 17      | MobileNetv3-small    | 6 bit                     | 0.13 |
CT-P | iOS 17      | MobileNetv3-small    | 8 bit                     | 0.13 |
CT-P | iOS 17      | ResNet50             | Float16                   | 1.52 |
CT-P | iOS 17      | ResNet50             | 2 bit                     | 1.43 |
CT-P | iOS 17      | ResNet50             | 4 bit                     | 1.41 |
CT-P | iOS 17      | ResNet50             | 6 bit                     | 1.37 |
CT-P | iOS 17      | ResNet50             | 8 bit                     | 1.4  |
CT-P | iOS 17      | CenterNet (ResNet34) | Float16                   | 6.85 |
CT-P | iOS 17      | CenterNet (ResNet34) | 2 bit                     | 6.37 |
CT-P | iOS 17      | CenterNet (ResNet34) | 4 bit                     | 6.67 |
CT-P | iOS 17      | CenterNet (ResNet34) | 6 bit                     | 6.71 |
CT-P | iOS 17      | CenterNet (ResNet34) | 8 bit                     | 6.85 |
CT-S | iOS 17      | MobileNetv2-1.0      | Float16                   | 0.48 |
CT-S | iOS 17      | MobileNetv2-1.0      | Unstructured Sparsity 50% | 0.46 |
CT-S | iOS 17      | MobileNetv2-1.0      | Unstructured Sparsity 75% | 0.46 |
CT-S | iOS 17      | MobileNetv3-small    | Float16                   | 0.13 |
CT-S | iOS 17      | MobileNetv3-small    | Unstructured Sparsity 50% | 0.12 |
CT-S | iOS 17      | MobileNetv3-small    | Unstructured Sparsity 75% | 0.12 |
CT-S | iOS 17      | ResNet50             | Float16                   | 1.52 |
CT-S | iOS 17      | ResNet50             | Unstructured Sparsity 50% | 1.46 |
CT-S | iOS 17      | ResNet50             | Unstructured Sparsity 75% | 1.28 |
CT-R | iOS 18 seed | ResNet50             | Float16                   |      | 1.63
CT-R | iOS 18 seed | ResNet50             | 6 bit                     |      | 1.25
CT-R | iOS 18 seed | ResNet50             | 4 bit                     |      | 1.12
CT-R | iOS 18 seed | ResNet50             | 4 bit (group_size=16)     |      | 1.38
CT-R | iOS 18 seed | ResNet50             | 4 bit (group_size=8)      |      | 1.34
CT-R | iOS 18 seed | ResNet50             | 4 bit (group_size=4)      |      | 1.71
CT-R | iOS 18 seed | ResNet50             | 1 bit                     |      | 1.14
CT-R | iOS 18 seed | ResNet50             | Unstructured Sparsity 50% |      | 1.23
CT-R | iOS 18 seed | ResNet50             | Unstructured Sparsity 75% |      | 1.05
CT-R | iOS 18 seed | ResNet50             | Unstructured Sparsity 90% |      | 0.86
CT-R | iOS 18 seed | ResNet50             | Weight & activation       |      | 1.07
"""
"""Page, system, network, configuration, milliseconds on iPhone 14 Pro and 15 Pro: copied from Apple's pages by hand."""


def transcribed() -> set[Figure]:
    """Apple's rows, each with the row in Float16 of the same page and network."""
    rows = [[cell.strip() for cell in line.split("|")] for line in TABLES.strip().splitlines()]
    plain = {(page, network): times for page, _, network, config, *times in rows if config == "Float16"}
    return {
        Figure(network, device, system, CONFIGS[config], float(ms), float(fp16), page)
        for page, system, network, config, *times in rows
        for device, ms, fp16 in zip(("iPhone 14 Pro", "iPhone 15 Pro"), times, plain[page, network], strict=True)
        if ms and config != "Float16"
    }


def test_figures_are_those_of_apples_tables() -> None:
    assert set(published()) == transcribed() and len(published()) == len(transcribed()) == 44


def test_every_scheme_and_granularity_has_one_row() -> None:
    cells = [(cell.scheme, place) for cell in SCHEMES for place in cell.granularities]
    rows = [(guide.scheme, place) for guide in GUIDES for place in guide.granularities]
    assert len(rows) == len(set(rows)) and set(rows) == set(cells)
    assert len({guide.name for guide in GUIDES}) == len(GUIDES)


def test_every_tag_is_explained_and_every_explanation_used() -> None:
    used = {tag for guide in GUIDES for tag in guide.sources} | {figure.source for figure in published()}
    used |= {report.reference for report in REPORTS}
    assert used == set(citations())
    for report in REPORTS:
        repository, number = report.reference.split("#")
        assert f"github.com/{repository}/" in citations()[report.reference]
        assert f"/{number}:" in citations()[report.reference]


@pytest.mark.parametrize("compression", every_compression(), ids=spell)
def test_what_is_said_of_a_compression(compression: Compression) -> None:
    use = use_of(compression)
    assert use.minimum_os == minimum_os(compression)
    assert use.guide.speed.endswith(".") and use.guide.speed.count(". ") == 0
    assert {figure.form for figure in use.figures} <= {use.name}
    assert use.sources or use.guide.scheme == "mixed"


@pytest.mark.parametrize(
    ("form", "least", "largest"),
    [
        ("w8a8", 0.20 / 0.49, 1.18 / 1.38),
        ("int8/channel", 0.44 / 0.49, 1.50 / 1.38),
        ("palette-4/tensor", 1.12 / 1.63, 1.0),
        ("palette-4/group-16", 1.38 / 1.63, 1.38 / 1.63),
        ("pruning-50", 1.23 / 1.63, 1.46 / 1.52),
    ],
)
def test_speed_is_the_range_of_the_published_shares(form: str, least: float, largest: float) -> None:
    assert use_of(parse(form)).relative == pytest.approx((least, largest))


@pytest.mark.parametrize("form", ["fp32", "int8/tensor", "int8/channel/asymmetric", "palette-3/tensor", "pruning-25"])
def test_what_nobody_published_stays_blank(form: str) -> None:
    use = use_of(parse(form))
    assert use.relative is None and use.data["latency_relative_to_fp16"] is None and use.data["figures"] == []


def numbers(form: str, os: int | None = None) -> set[str]:
    return {report.reference.split("#")[1] for report in use_of(parse(form), os).reports}


def test_reports_go_with_the_packages_that_they_tell_of() -> None:
    assert numbers("int8/channel") == numbers("int8/tensor") == numbers("w8a8") == {"2675", "2677"}
    assert numbers("int8/channel", os=18) == set()  # stored by another operation
    assert numbers("palette-4/tensor") == {"2716"} and numbers("palette-4/tensor", os=18) == {"2716", "2688"}
    assert numbers("palette-4/group-16") == {"2716", "2688"}
    assert numbers("palette-6/tensor") == numbers("palette-8/group-16", os=18) == set()
    assert numbers("int8/block-32") == numbers("int4/block-32") == {"279"}
    assert numbers("fp16") == numbers("int4/channel") == numbers("pruning-50") == set()


def test_forms_of_a_package_are_told_once_for_each_row() -> None:
    forms = ["fp16", "palette-3/tensor", "palette-4/tensor", "int4/block-32", "int4/block-24", "int4/block-32"]
    palette, block = uses_of(forms, 18)
    assert (palette.name, palette.minimum_os) == ("palette/tensor", 18)
    assert {figure.form for figure in palette.figures} == {"palette-4/tensor"} and len(palette.reports) == 2
    assert (block.name, block.guide) == ("int4/block", guide_of(parse("int4/block-16")))


def test_forms_that_no_study_writes_are_passed_over() -> None:
    assert uses_of(["palette-6/group-8/int8-table", "int8/blocks-2x8x1x1", "pruning-50+int8/channel"], 18) == ()


def test_plain_halves_are_told_of_only_where_they_are_all() -> None:
    assert [use.name for use in uses_of(["fp16", "fp16"], None)] == ["fp16"]
    assert [use.name for use in uses_of(["fp32", "fp16"], 15)] == ["fp32"]
