"""The table in the docstring is the table of the code; every legal cell reads back, every other one is refused."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.spaces import compression as schemes
from coreml_pareto.spaces.candidate import Compression, Granularity, Mode, Scheme
from coreml_pareto.spaces.compression import SCHEMES, cell_of, check, every_compression, minimum_os, parse, spell
from coreml_pareto.spaces.errors import UserError

ALL = every_compression()
BITS = sorted({bits for cell in SCHEMES for bits in cell.bits} | {5, 7, 12})


def documented() -> list[tuple[str, tuple[int, ...], tuple[str, ...], tuple[str, ...], int, str]]:
    """Return the rows of the module docstring's table."""
    lines = [line for line in (schemes.__doc__ or "").splitlines() if line.startswith("|")][2:]
    rows = [[field.strip() for field in line.strip("|").split("|")] for line in lines]
    return [
        (r[0], tuple(map(int, r[1].split())), tuple(r[2].split()), tuple(r[3].split()), int(r[4]), r[5]) for r in rows
    ]


def test_the_documented_table_is_the_table() -> None:
    assert documented() == [(c.scheme, c.bits, c.granularities, c.modes, c.minimum_os, c.note) for c in SCHEMES]


LEGAL = {
    (scheme, bits, grain, mode): os
    for scheme, all_bits, grains, modes, os, _ in documented()
    for bits, grain, mode in itertools.product(all_bits, grains, modes)
}
PRUNED = ("pruning", "joint")


def test_no_cell_is_listed_twice() -> None:
    assert len(LEGAL) == sum(len(cell.bits) * len(cell.granularities) * len(cell.modes) for cell in SCHEMES)
    assert {scheme for scheme, *_ in LEGAL} == set(get_args(Scheme))


@pytest.mark.parametrize(("scheme", "bits"), [*itertools.product(get_args(Scheme), BITS)])
def test_every_cell_is_legal_by_the_table_or_refused_with_the_way_out(scheme: Scheme, bits: int) -> None:
    for grain, mode in itertools.product(get_args(Granularity), get_args(Mode)):
        compression = Compression(
            scheme=scheme, bits=bits, granularity=grain, mode=mode,
            group_size=16 if grain in ("block", "group") else 0, sparsity=0.5 if scheme in PRUNED else 0.0,
            average_bits=4 if scheme == "mixed" else 0,
        )  # fmt: skip
        if (scheme, bits, grain, mode) in LEGAL:
            assert minimum_os(check(compression)) == LEGAL[scheme, bits, grain, mode]
            continue
        with pytest.raises(UserError) as refused:
            check(compression)
        rule, _, ways = str(refused.value).partition(f"; legal for {scheme}: ")
        said = "" if mode == "usual" else f"{mode} "
        assert rule == f"Core ML has no {said}{scheme} with {bits} bits per {grain}"
        for way in ways.removesuffix(".").split(", "):
            assert parse(way).scheme == scheme


def test_published_minimum_systems() -> None:
    """Apple, Core ML Tools guide, "Optimization overview": what each iOS added."""
    expected = {
        "fp16": 15, "int8/channel": 16, "palette-4/tensor": 16, "pruning-50": 16, "w8a8": 17,
        "int8/channel/asymmetric": 16, "pruning-2:4": 16, "pruning-50+palette-4": 18, "int8/block-32": 18,
        "int4/block-32": 18, "int4/channel": 18, "palette-3/tensor": 18, "palette-4/group-16": 18,
    }  # fmt: skip
    assert {text: minimum_os(parse(text)) for text in expected} == expected


@pytest.mark.parametrize("compression", ALL, ids=spell)
def test_what_is_spelled_is_parsed_back(compression: Compression) -> None:
    assert parse(spell(compression)) == compression
    assert parse(f"  {spell(compression).upper()} ") == compression


def test_every_legal_cell_is_offered_once() -> None:
    assert {(c.scheme, c.bits, c.granularity, c.mode) for c in ALL} == set(LEGAL)
    assert len({spell(c) for c in ALL}) == len(ALL) == len(LEGAL) + 1  # two shares of pruning


@given(st.sampled_from(ALL), st.integers(1, 512), st.integers(1, 99))
def test_round_trip_at_any_size_and_share(row: Compression, size: int, percent: int) -> None:
    grouped = {"group_size": size} if row.group_size else {}
    pruned = {"sparsity": percent / 100} if row.sparsity else {}
    if row.scheme == "pruning" and row.group_size:
        of = 2 + size % 63
        grouped, pruned = {"group_size": of}, {"sparsity": (1 + percent % (of - 1)) / of}
    compression = row.model_copy(update={**grouped, **pruned})
    assert parse(spell(compression)) == compression


@given(st.text(alphabet="abfilnprtuw0123468-/+: ", max_size=18))
def test_any_text_is_parsed_or_refused_for_people(text: str) -> None:
    try:
        assert parse(spell(parse(text))) == parse(text)
    except UserError as refusal:
        assert 20 < len(str(refusal)) < 900


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("int9", "int8/channel"), ("", "fp16"), ("palette", "palette-4"), ("pruning", "pruning-50"),
        ("int8-4", "int8/channel"), ("pruning-0", "pruning-50"), ("pruning-100", "pruning-50"),
        ("palette-4/group", "palette-4/group-16"), ("int4/block", "int4/block-32"), ("int8/channel-16", "int4/block-32"),
        ("palette-5/tensor", "palette-4/tensor"), ("fp16/channel", "fp16"), ("int4/tensor", "int4/channel"),
        ("int4/block-0", "int4/block-32"), ("joint", "pruning-50\\+palette-4"), ("int8/channel/odd", "asymmetric"),
        ("pruning-4:4", "pruning-2:4"), ("pruning-50/channel", "pruning-2:4"), ("pruning-50+palette-5", "palette-4"),
        ("palette-4/tensor/asymmetric", "palette-4/tensor"), ("fp16-2:4", "fp16"),
    ],
)  # fmt: skip
def test_refusals_show_the_way_out(text: str, way_out: str) -> None:
    with pytest.raises(UserError, match=way_out):
        parse(text)


@pytest.mark.parametrize("compression", ALL, ids=spell)
def test_a_scheme_runs_from_its_system_on(compression: Compression) -> None:
    oldest = minimum_os(compression)
    assert check(compression, os=oldest) is compression
    with pytest.raises(UserError, match=f"needs iOS {oldest}, the study asks for iOS {oldest - 1}: .*--ios {oldest}"):
        check(compression, os=oldest - 1)


def test_only_w8a8_is_calibrated() -> None:
    assert {c.scheme for c in ALL if c.calibration_images} == {"w8a8"}
    assert parse("w8a8").calibration_images == schemes.CALIBRATION_IMAGES
    assert cell_of(parse("w8a8")).granularities == ("channel",)


@pytest.mark.parametrize(
    ("text", "bits", "size", "canonical"),
    [
        ("mixed-4", 4.0, 0, "mixed-4"),
        ("mixed-4.5/group-16", 4.5, 0, "mixed-4.5/group-16"),
        ("mixed-500KB", 0.0, 500_000, "mixed-500KB"),
        ("mixed-1.25mb/tensor", 0.0, 1_250_000, "mixed-1.25MB"),
        ("mixed-1500kb", 0.0, 1_500_000, "mixed-1.5MB"),
    ],
)
def test_mixed_precision_has_bits_or_bytes_to_spend(text: str, bits: float, size: int, canonical: str) -> None:
    mixed = parse(text)
    assert (mixed.average_bits, mixed.target_bytes) == (bits, size)
    assert spell(mixed) == canonical
    assert parse(canonical) == mixed


@given(st.integers(1, 10**9), st.sampled_from(["", "/group-8"]))
def test_any_number_of_bytes_reads_back(size: int, tail: str) -> None:
    mixed = parse(f"mixed-4{tail}").model_copy(update={"average_bits": 0.0, "target_bytes": size})
    assert parse(spell(mixed)) == mixed


@pytest.mark.parametrize("text", ["mixed", "mixed-0", "mixed-17", "mixed-4/channel", "mixed-4/group", "mixed-0KB"])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="mixed"):
        parse(text)


def test_people_are_told_of_calibration_and_fine_tuning() -> None:
    tuned = parse("w8a8").model_copy(update={"fine_tune_epochs": 2, "calibration": "percentile"})
    assert schemes.describe(tuned) == "w8a8, percentile of 128 images, fine-tuned 2 epochs"
    assert schemes.describe(parse("palette-4/tensor")) == "palette-4/tensor"


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("palete-4/tensor", "palette-4/tensor"), ("pallete-2", "palette-2"), ("w8a", "w8a8"), ("int8/chanel", "int8/channel"),
        ("prunning-50", "pruning-50"), ("int4/blok-32", "int4/block-32"), ("palette-4/tensr/uniform", "palette-4/tensor/uniform"),
        ("pruning-50+palete-4", r"pruning-50\+palette-4"), ("int9", "int8"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_answered_by_the_nearest_first(text: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"No compression is called '[^']*'; nearest: {near}[,;]"):
        parse(text)


def test_what_is_near_to_nothing_has_no_nearest() -> None:
    with pytest.raises(UserError, match="No compression is called 'qat'; the schemes are: fp32, fp16, "):
        parse("qat")


@pytest.mark.parametrize("compression", ALL, ids=spell)
def test_every_form_that_is_called_nearest_is_legal(compression: Compression) -> None:
    told = schemes._nearest(spell(compression) + "x").removeprefix("; nearest: ").split(", ")
    assert spell(compression) in told
    assert all(parse(form) for form in told)
