"""Blocks as Markdown and as a PDF: text stays text, whatever it holds."""

from __future__ import annotations

import html
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import typst
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from coreml_pareto.search.delivery.document import (
    Block,
    Code,
    Heading,
    Listing,
    Table,
    as_data,
    items,
    markdown,
    paragraph,
    plain,
)
from coreml_pareto.search.delivery.printing import print_pdf

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TEXT = st.text(st.characters(exclude_categories=["Cs", "Co", "Cn"]), max_size=40)


def shown(blocks: list[Block]) -> str:
    """What a reader sees: rendered, tags away, entities read."""
    rendered = READER.render(markdown(blocks))
    return html.unescape(re.sub(r"<[^>]*>", "", rendered))


def same(one: str, other: str) -> bool:
    return " ".join(one.split()) == " ".join(plain(other).split())


@given(TEXT)
@example("*a* _b_ ~~c~~ `d` [e](f) <g> &amp; | $h$ # i")
@example("# a")
@example("1. a")
@example("- a")
@example("---")
@example("\\")
@example("a_b_c")
@example("~0.1 (best ~0.2)")
@example("<script>alert('x')</script>")
@example("a\n\n# b")
def test_a_text_is_shown_as_it_is(text: str) -> None:
    assert same(shown([paragraph(text)]), text)
    assert same(shown([items((text,))]), text)
    tags = READER.render(markdown([paragraph(text)]))
    assert re.findall(r"<(\w+)", tags) in (["p"], [])


@given(TEXT)
@example("`a``b`")
@example("|")
@example("`")
def test_a_word_of_a_machine_is_shown_as_it_is(text: str) -> None:
    assert same(shown([paragraph("x ", Code(text), " y")]), f"x {text} y") or "|" in text


@given(TEXT)
@example("a | b \\| c")
def test_a_cell_is_one_cell(text: str) -> None:
    rendered = READER.render(markdown([Table(("name", "n"), ((text, "1"),), frozenset({1}))]))
    cells = [html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", rendered, re.S)]
    assert len(cells) == 2 and same(cells[0], text) and cells[1] == "1"


def test_a_listing_is_fenced_by_more_than_it_holds() -> None:
    rendered = READER.render(markdown([Listing("a\n````\n<b>", "swift")]))
    assert "a\n````\n&lt;b&gt;" in rendered and rendered.count("<pre>") == 1


def test_typst_shows_strings_and_runs_nothing(tmp_path: Path) -> None:
    evil = '#panic("run") *b* $x$ @ref <label> \\ `c` #include "x" שלום 🐦 "'
    blocks: list[Block] = [
        Heading(1, evil), paragraph(evil, Code(evil)), items(evil, Code(evil)), items(evil, style="boxes"),
        items(evil, style="numbered"), Table((evil, "n"), ((evil, "1"), ("x" * 400, "2")), frozenset({1})),
        Listing(evil),
    ]  # fmt: skip
    print_pdf(blocks, evil, evil, tmp_path / "a.pdf")
    print_pdf(blocks, evil, evil, tmp_path / "b.pdf")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    given_data = json.dumps({"title": evil, "footer": evil, "blocks": as_data(blocks)})
    template = str(files("coreml_pareto.search.delivery") / "guide.typ")
    found = json.loads(typst.query(template, "heading", sys_inputs={"document": given_data}))
    assert [heading["body"]["text"] for heading in found] == [plain(evil)]


@pytest.mark.parametrize("text", ["a\u202eb", "\u2066x\u2069"])
def test_signs_that_turn_the_line_are_left_out(text: str) -> None:
    assert not set(plain(text)) & set("\u202e\u2066\u2069")
