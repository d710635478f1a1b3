"""Markdown: what a name says stays text, also between our own commands, and what it turns or breaks stays in place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.search.report.limitations import Limitation
from coreml_pareto.search.report.markdown import _sentence, plain, write_markdown

Make = Callable[..., Any]
EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    "name",
    [f"```{EVIL}", f"``{EVIL}``", f"`a``{EVIL}", f"`\n\n{EVIL}`", f"x`\r\n\r\n{EVIL}", f"````{EVIL}`", EVIL],
)
def test_a_name_is_no_markup_beside_a_command(name: str) -> None:
    """A tag is escaped, or stands in a code span: a single backtick on either side, on one line."""
    said = _sentence(f"Of {name}: `coreml-pareto verify` compares.")
    assert "\n" not in said and "\r" not in said
    bare = re.sub(r"\\\\.", "", said)  # what is escaped is no delimiter
    assert "<img" not in re.sub(r"(?<!`)`[^`]+`(?!`)", "", bare)
    assert "coreml-pareto verify" in said


def test_our_own_commands_stay_code_and_blanks_stay() -> None:
    assert _sentence("Try `a <b>` or `c`, now.") == "Try `a <b>` or `c`, now."


def test_what_turns_a_line_goes_and_letters_stay() -> None:
    assert "\u202e" not in plain("\u202eמילה\x00") and "\x00" not in plain("a\x00") and "מילה" in plain("\u202eמילה")


def test_a_file_with_a_hostile_reservation(draw_run: Make, facts_of: Make, tmp_path: Path) -> None:
    facts = replace(facts_of(draw_run(3)), limitations=(Limitation("So.", f"Because ```{EVIL}"),), front=(), anchors=())
    write_markdown(facts, tmp_path / "report.md")
    assert EVIL not in (tmp_path / "report.md").read_text("utf-8")
