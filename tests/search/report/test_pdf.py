"""The PDF, asked through typst's own query of the set document, and its bytes."""

from __future__ import annotations

import json
import re
import sys
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typst
from PIL import Image

from coreml_pareto.search.inspection import Bytes, Inspection, Row
from coreml_pareto.search.report.class_prints import MATRIX
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.ink import printable
from coreml_pareto.search.report.paper import TEMPLATE, Grid, Paper, Section, Shots, Words, breakable, compiled, lay_out
from coreml_pareto.search.report.pdf import ROWS, front_rows, paper_of, write_pdf
from coreml_pareto.spaces.errors import UserError


def asked(paper: Paper, folder: Path, *selectors: str) -> list[list[dict[str, Any]]]:
    """Elements of the document as typst set it, by selector."""
    lay_out(paper, folder)
    compiler = typst.Compiler(str(folder / TEMPLATE), root=str(folder))
    return [json.loads(compiler.query(selector)) for selector in selectors]


def words_of(content: Any) -> str:
    """All text in a queried element, in order."""
    if isinstance(content, dict):
        return "".join(words_of(value) for key, value in content.items() if key not in ("func", "alt", "source"))
    return "".join(map(words_of, content)) if isinstance(content, list) else content if isinstance(content, str) else ""


def bare(text: str) -> str:
    return text.replace("\u200b", "")


def headings(found: list[dict[str, Any]]) -> list[str]:
    return [heading["body"]["text"] for heading in found]


def pages(content: bytes) -> int:
    return max(int(count) for count in re.findall(rb"/Count (\d+)", content))


def test_a_report_has_every_part_that_there_are_facts_for(draw_facts: Callable[..., Facts], tmp_path: Path) -> None:
    facts = draw_facts(24, classes=list("abc"))
    assert facts.pictures is not None
    told, charts = asked(paper_of(facts), tmp_path, "heading", "image")
    assert headings(told) == [
        f"The front: {len(facts.front)} packages that nothing beats", "Accuracy against what it costs", "Five ways to choose",
        "How the search went", "What it gets right and wrong", "Class by class", "Diagnosis", "What may not be concluded",
        "Conditions",
    ]  # fmt: skip
    assert sum(chart["alt"].startswith("Top-1 against") for chart in charts) == 4
    others = 1 + (facts.growth is not None) + bool(facts.importances) + 2  # anchors, …, confusion, classes
    assert len(charts) == 4 + others + len(facts.pictures.samples)


@pytest.mark.parametrize("count", [0, 12])
def test_without_a_package_within_the_limits_it_says_so(
    draw_facts: Callable[..., Facts], tmp_path: Path, count: int
) -> None:
    facts = draw_facts(count, {"size": 1e4} if count else None)
    assert facts.chosen is None
    paper = paper_of(facts)
    told = headings(*asked(paper, tmp_path, "heading"))
    assert not any(head.startswith(("The front", "Five")) for head in told) and "Conditions" in told
    cover = paper.cover[0]
    assert isinstance(cover, Words)
    assert cover.text == ("No package keeps size ≤ 10KB." if count else "No package came out of 2 trials.")


def test_the_table_has_each_members_readings(draw_facts: Callable[..., Facts], tmp_path: Path) -> None:
    facts = draw_facts(12)
    (tables,) = asked(paper_of(facts), tmp_path, "table")
    table = next(found for found in tables if "network" in words_of(found))
    told = words_of(table)
    for result in facts.front:
        assert f"{100 * result.score['top1'].value:.1f}" in told and bare(result.candidate.network.label) in bare(told)
    assert len(facts.front) == len(front_rows(facts))


def test_of_a_long_front_the_anchors_are_shown(draw_facts: Callable[..., Facts]) -> None:
    facts = draw_facts(300)
    assert len(facts.front) > ROWS
    shown = front_rows(facts)
    trials = {result.trial for result in shown}
    assert len(shown) == ROWS and trials >= {anchor.result.trial for anchor in facts.anchors}
    accuracies = [result.score["top1"].value for result in shown]
    assert accuracies == sorted(accuracies, reverse=True)


def test_hostile_names_are_set_and_never_run(
    draw_facts: Callable[..., Facts], hostile_names: tuple[str, ...], tmp_path: Path
) -> None:
    title = " ".join(hostile_names)
    facts = draw_facts(3, classes=hostile_names, title=title, client='#read("data.json") <b> العربية')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (images,) = asked(paper_of(facts), tmp_path, "image")
    assert facts.pictures is not None
    told = bare(" ".join(found["alt"] for found in images))
    shown = {shot.truth for shot in facts.pictures.samples}
    assert len(shown) > 8
    assert all(printable(name)[:39] in told for name in shown)


def test_data_reaches_the_template_as_strings(tmp_path: Path) -> None:
    paper = Paper(
        "Kind", "#panic()", None, "2026", "about", (Words("*a* #b $c$ \x00"),), (Section("= <h>", (Words("x"),)),)
    )
    lay_out(paper, tmp_path)
    assert json.loads((tmp_path / "data.json").read_text())["cover"][0]["text"] == "*a* #b $c$ �"
    assert headings(*asked(paper, tmp_path, "heading")) == ["= <h>"]


def test_where_a_command_may_break_nothing_is_copied() -> None:
    """A shell would take a character without width for a part of the name."""
    told = "`coreml-pareto compare /data/runs/of/a/long/name:11 b`"
    content = compiled(Paper("Kind", "title", None, "2026", "about", (Words(told),), ()))
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    shown = b"".join(map(_unpacked, streams))
    assert (
        b"beginbfchar" in shown and b"200B" not in shown.upper()
    )  # what the letters stand for, for those who copy them


def _unpacked(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:  # a picture, a font
        return b""


def test_a_word_longer_than_pages_is_broken() -> None:
    assert pages(compiled(Paper("Kind", "title", None, "2026", "about", (Words("x" * 12000),), ()))) > 1


def test_differences_have_a_sign_for_minus(draw_facts: Callable[..., Facts]) -> None:
    facts = replace(draw_facts(12), correlations=((1.0, -0.5, -0.001, 0.0, 0.0),) * 5)
    grids = [part for section in paper_of(facts).sections for part in section.parts if isinstance(part, Grid)]
    (table,) = [grid for grid in grids if grid.caption.startswith("Do the axes")]
    assert table.rows[0][1:4] == ("+1.00", "−0.50", "+0.00")


def test_long_words_may_break_and_keep_their_letters() -> None:
    word = "x" * 100
    assert bare(breakable(f"short {word}")) == f"short {word}" and "\u200b" not in breakable("short words only")
    assert max(map(len, breakable(word).split("\u200b"))) <= 12


def test_a_thousand_classes_and_a_long_front_stay_a_few_pages(draw_facts: Callable[..., Facts], tmp_path: Path) -> None:
    facts = draw_facts(150, classes=[f"n{i:08} a class with a long name, {'x' * 50}" for i in range(1000)])
    assert facts.pictures is not None and len(facts.pictures.classes) > MATRIX
    write_pdf(facts, tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-") and 5 <= pages(content) <= 12


def test_what_compression_did_is_told(draw_facts: Callable[..., Facts], tmp_path: Path) -> None:
    row = Row("w", (4, 4), 16, "int8", "int8", 8.5, 17, 40.0, "", True, True)
    plain = replace(
        row, name="b", asked=None, applied="fp16", bits_per_weight=16, stored_bytes=32, snr_db=None, layer=False
    )
    found = Inspection((row, plain), Bytes(49, 0, 11, 900, 40, 0, 0), "int8", "", ())
    facts = replace(draw_facts(1), inspection=found)
    heads, tables = asked(paper_of(facts), tmp_path, "heading", "table")
    assert "What the compression did" in headings(heads)
    told = " ".join(map(words_of, tables))
    assert "int8" in told and "8.50" in told and "1,000" in told  # bits per weight; all bytes


def test_photographs_keep_their_proportions(tmp_path: Path) -> None:
    shots = Shots(((np.zeros((12, 8, 3), np.uint8), "small", ""), (np.zeros((300, 200, 3), np.uint8), "large", "")))
    lay_out(Paper("Kind", "title", None, "2026", "about", (shots,), ()), tmp_path)
    sizes = []
    for file in sorted(tmp_path.glob("*.png")):
        with Image.open(file) as image:
            sizes.append(image.size)
    assert sizes == [(107, 160), (200, 300)]


def test_pages_can_be_had_as_pictures(draw_facts: Callable[..., Facts]) -> None:
    shown = compiled(paper_of(draw_facts(0)), format="png", ppi=20)
    first = shown[0] if isinstance(shown, list) else shown
    assert np.frombuffer(first[:8], np.uint8).tobytes() == b"\x89PNG\r\n\x1a\n"


def test_errors_say_the_way_out(
    draw_facts: Callable[..., Facts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = draw_facts(0)
    with pytest.raises(UserError, match="name another place"):
        write_pdf(facts, tmp_path / "no" / "report.pdf")
    monkeypatch.setitem(sys.modules, "typst", None)
    monkeypatch.setattr(
        "coreml_pareto.search.report.paper.find_spec", lambda name: None if name == "typst" else object()
    )
    with pytest.raises(
        UserError, match=r"PDF needs typst, which is not installed; pip install 'coreml-pareto\[report\]'"
    ):
        write_pdf(facts, tmp_path / "report.pdf")
