"""Text that fits its box: measured by Pillow itself, a second way of adding up letters."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from coreml_pareto.search.report.fitting import BETWEEN, LEADING, breadth, fit, needed, shorten, wrapped
from coreml_pareto.search.report.ink import printable

WORDS = st.text(st.sampled_from("abc defg WWW iii 漢字 é"), max_size=200)


def test_breadth_is_at_least_pillows() -> None:
    face = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 24)
    for text in ("Take trial 18: squeezenet", "29.0 % top-1 at ~0.138 ms", "WWWWiiii", "e\u0301\u0301"):
        assert breadth(text, 24) >= face.getlength(text) - 1  # kerning only draws letters together
    assert breadth("漢字", 20) == 40
    assert breadth("ሀሁ", 20) == breadth("क", 20) * 2 == 40  # letters that DejaVu Sans lacks


@given(WORDS, st.floats(60, 400), st.integers(18, 36))
def test_lines_are_narrow_and_lose_nothing(text: str, width: float, size: int) -> None:
    lines = wrapped(text, width, size)
    assert all(breadth(line, size) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.lists(WORDS.map(str.strip), min_size=1, max_size=4), st.floats(100, 500), st.floats(50, 300))
def test_what_is_fitted_fits_and_begins_as_it_was(texts: list[str], width: float, height: float) -> None:
    fitted = fit(texts, width, height, 30, 18)
    assert needed(fitted.paragraphs, width, fitted.size) <= height + 1e-6
    assert 18 <= fitted.size <= 30
    if fitted.whole:
        assert list(fitted.paragraphs) == [printable(text) for text in texts]
    else:
        for shown, text in zip(fitted.paragraphs, texts, strict=False):
            kept = "".join(shown.rstrip("…").split())
            assert "".join(printable(text).split()).startswith(kept)


def test_the_largest_size_that_fits_is_taken() -> None:
    line = "one line"
    assert fit([line], 400, 40, 30, 18).size == 30
    assert fit([line], 400, 25 * LEADING, 30, 18).size == 25
    cut = fit(["word " * 300], 400, 100, 30, 18)
    assert cut.size == 18 and not cut.whole and cut.paragraphs[0].endswith("…")


def test_paragraphs_stand_apart() -> None:
    assert needed(["a", "b"], 100, 20) == pytest.approx(20 * (2 * LEADING + BETWEEN))


@given(st.text(max_size=80), st.floats(40, 300))
def test_shortened_lines_fit(text: str, width: float) -> None:
    shown = shorten(text, width, 18)
    assert breadth(shown, 18) <= width
    assert shown == printable(text) or shown.endswith("…")
