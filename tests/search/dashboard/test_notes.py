"""What the dashboard's notes say, read back by another implementation of CommonMark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from coreml_pareto.search.dashboard.notes import plain, study_note, trial_note
from coreml_pareto.search.figures import figure, interval
from coreml_pareto.search.outcome import Failed, Infeasible
from coreml_pareto.search.run import Result, Run

MARKDOWN = MarkdownIt("commonmark").enable("table")


def _text(markdown: str) -> str:
    """What a reader sees of one line of Markdown; anything but text is an error."""
    tokens = [token for token in MARKDOWN.parse(markdown) if token.type not in ("paragraph_open", "paragraph_close")]
    children = [child for token in tokens for child in token.children or ()]
    assert {token.type for token in tokens} <= {"inline"}, tokens
    assert {child.type for child in children} <= {"text", "text_special"}, children
    return "".join(child.content for child in children)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    assert _text(plain(text)) == " ".join(text.split())


def test_a_hostile_cause_is_text(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    hostile = "<script>alert('a')</script> `x` | [y](javascript:z) \u202eטקסט\u202c 🐦\nnext"
    failed = replace(result_at(0, (0.9, 1.0, 5e5, 1e6, 0.1)), outcome=Failed(hostile, hostile))
    (line,) = [line for line in trial_note(failed, run_of((failed,))).splitlines() if line.startswith("Failed")]
    shown = hostile.replace("\n", " ")
    assert _text(line) == f"Failed in {shown}: {shown}"


def test_a_scored_trial_tells_every_objective_with_its_interval(
    result_at: Callable[..., Result], run_of: Callable[..., Run]
) -> None:
    result = result_at(4, (0.9, 1.25, 5e5, 1e6, 0.1))
    note = trial_note(result, run_of((result,), {"size": 4e5}))
    for name, reading in (("accuracy", "top1"), ("latency", "latency_ms"), ("energy", "energy_mj")):
        told = result.score[reading]
        assert f"| {figure(name, told)} | {interval(name, told)} | {told.how} |" in note
    assert "Breaks size ≤ 400KB." in note and "(/packages/4.zip)" in note


def test_one_that_was_not_trained_has_no_package(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    scored = result_at(4, (0.9, 1.25, 5e5, 1e6, 0.1))
    refused = replace(scored, outcome=Infeasible(("size",), {"size_bytes": scored.score["size_bytes"]}))
    note = trial_note(refused, run_of((refused,), {"size": 4e5}))
    assert "known without training" in note and "/packages/" not in note


@pytest.mark.parametrize("limits", [{}, {"size": 1.0}])
def test_the_study_tells_its_front(draw_run: Callable[..., Run], limits: dict[str, float]) -> None:
    from coreml_pareto.search.choose import front

    run = draw_run(12, limits=limits)
    tables: list[Any] = [token for token in MARKDOWN.parse(study_note(run)) if token.type == "tr_open"]
    assert len(tables) == (1 + len(front(run)) if not limits else 0)
    assert ("No package keeps the limits" in study_note(run)) == bool(limits)
