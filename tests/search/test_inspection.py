"""What is said of a package's weights, on rows made by hand."""

from __future__ import annotations

import pytest

from coreml_pareto.search.inspection import Bytes, Inspection, Row, warning


def row(asked: str | None, applied: str, elements: int = 100, *, name: str = "w", layer: bool = True) -> Row:
    plain = applied in ("fp16", "fp32")
    bits = 16.0 if plain else 4.5
    return Row(
        name=name, shape=(elements,), elements=elements, asked=asked, applied=applied, bits_per_weight=bits,
        stored_bytes=round(bits * elements / 8), snr_db=None, reason="", layer=layer, compressed=not plain,
    )  # fmt: skip


BIAS = row(None, "fp16", 40, layer=False)


@pytest.mark.parametrize(
    ("asked", "rows", "said"),
    [
        ("int4/block-32", [row("int4/block-32", "int4/block-32"), BIAS], ""),
        (
            "int4/block-32",
            [
                *(row("int4/block-32", form, name=form) for form in ("int4/block-32", "int4/block-24", "fp16")),
                row("int4/block-32", "fp16", name="last"),
                BIAS,
            ],
            "Asked int4/block-32: 3 of 4 layers otherwise, 2 of them not compressed (50.0 % of the elements): "
            "int4/block-24, fp16, last",
        ),
        (
            "int4/block-32",
            [row("int4/block-32", "int4/block-24")] * 4,  # too many to be named
            "Asked int4/block-32: 4 of 4 layers otherwise",
        ),
        (
            "w8a8",
            [row("w8a8", "w8a8"), row("w8a8", "int8/channel", name="head")],
            "Asked w8a8: 1 of 2 layers otherwise: head",
        ),
        ("fp16", [row("fp16", "fp16"), BIAS], ""),
        (None, [row(None, "fp16"), row(None, "fp16"), BIAS], ""),
        (None, [row(None, "int8/channel"), BIAS], ""),
        (
            None,
            [row(None, "int8/channel", 300), row(None, "fp16"), BIAS],
            "1 of 2 layers not compressed (25.0 % of the elements)",
        ),
        (None, [BIAS], ""),
        (None, [], ""),
    ],
)
def test_warning(asked: str | None, rows: list[Row], said: str) -> None:
    assert warning(rows, asked) == said


def test_totals() -> None:
    sizes = Bytes(weights=500, constants=20, framing=80, program=300, other=100, inline=6, shared=4)
    assert (sizes.total, sizes.rows) == (1000, 510)
    found = Inspection((row("int4/channel", "int4/channel"), BIAS), sizes, "int4/channel", "", ())
    assert found.elements == 140
    assert found.bits_per_weight == pytest.approx(8 * (56 + 80) / 140)
    assert Inspection((), sizes, None, "", ()).bits_per_weight is None
