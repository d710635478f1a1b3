"""Characters that any page bears, and charts that come out the same everywhere."""

from __future__ import annotations

import io
import unicodedata
from xml.etree import ElementTree

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from coreml_pareto.search.report.ink import png, printable, printed, sheet, shortened, svg


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_printable_text_is_xml_on_one_line(text: str) -> None:
    shown = printable(text)
    (element,) = ElementTree.fromstring(
        f"<a><b>{''.join(f'&#{ord(c)};' for c in shown)}</b></a>"
    )  # XML 1.0's own check
    assert (element.text or "") == shown
    assert not any(
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "\u202a\u202e\u2066\u2069" for c in shown
    )
    assert printable(shown) == shown


@pytest.mark.parametrize(
    "text", ["cat", "עברית", "العربية", "日本語", "🚀 rocket", "e\u0301", 'a "b" <c> & $d$ #e', "👩‍🔬"]
)
def test_letters_of_every_script_stay(text: str) -> None:
    assert printable(text) == text


def test_control_and_override_characters_are_seen() -> None:
    assert printable("a\x00b\u202ec\nd") == "a\ufffdb\ufffdc d"


@given(st.text(max_size=60), st.integers(2, 30))
def test_shortened_text_keeps_its_beginning(text: str, most: int) -> None:
    shown = shortened(text, most).removesuffix("\u200e")
    assert len(shown) <= most
    assert shown == printable(text) or (shown.endswith("…") and printable(text).startswith(shown[:-1]))


@printed
def _written(text: str) -> object:
    figure = sheet(1.0, 3.0)
    figure.subplots().set_title(text)
    return figure


def test_names_are_no_formulas_and_the_callers_settings_stay() -> None:
    before = dict(matplotlib.rcParams)
    first, second = (svg(_written("$x^{2}$ 日本 🚀 \\frac")) for _ in range(2))
    assert first == second
    ElementTree.fromstring(first)
    assert dict(matplotlib.rcParams) == before


def test_png_has_the_figures_size() -> None:
    assert Image.open(io.BytesIO(png(_written("x"), dpi=100))).size == (300, 100)
