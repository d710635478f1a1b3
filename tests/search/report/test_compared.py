"""What is said of a comparison: one sentence, no difference where none is shown, and the order of signs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from coreml_pareto.objectives.energy_ratio import Ratio
from coreml_pareto.objectives.paired import compare
from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search.comparison import Agreement, Answers, Comparison, Contender, Disputed, Pair, _by_class
from coreml_pareto.search.report.compared import (
    as_json,
    differences,
    pairs_table,
    readings_side_by_side,
    times,
    verdict,
)

NASTY = "<script>alert('x')</script> [red] שלום 🦜"
RATIOS: Mapping[str, Ratio] = {
    "latency": Ratio(0.98, 0.9, 1.1), "size": Ratio(0.5, 0.5, 0.5), "memory": Ratio(0.6, 0.5, 0.7),
    "energy": Ratio(1.3, 1.1, 1.6),
}  # fmt: skip


def pair(only_first: int, only_second: int, images: int = 300, ratios: Mapping[str, Ratio] = RATIOS) -> Pair:
    """The first of the images only one of two has right, the next only the other; the rest both."""
    program: Any = None
    targets = np.zeros(images, np.int64)
    first, second = targets.copy(), targets.copy()
    second[:only_first] = 1
    first[only_first : only_first + only_second] = 1
    top1 = compare(second == targets, first == targets)
    both = images - only_first - only_second
    return Pair(
        Contender("A", "a", program), Contender("B", "b", program), top1, top1.p_value,
        Agreement(both, only_first, only_second, 0, both), ratios, _by_class(first, second, targets, (NASTY, "b")),
        (Disputed(NASTY, NASTY, "b", NASTY),),
    )  # fmt: skip


def test_who_is_right_more_often_and_what_it_takes() -> None:
    told = verdict(pair(2, 30))
    assert told.startswith("B is right more often than A: +9.3 points of top-1 (95 %: +5.")
    assert "p < 0.0001" in told and "300 images" in told
    assert told.endswith(
        "B takes 0.500 × the size, ~0.600 × the memory and ~1.30 × the energy, no difference shown in latency."
    )
    assert verdict(pair(30, 2)).startswith("B is right less often than A: −9.3 points of top-1")


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 3), (5, 2), (0, 5)])
def test_no_difference_is_said_with_what_is_left_open(only_first: int, only_second: int) -> None:
    one = pair(only_first, only_second)
    assert one.top1.p_value >= 0.05
    told = verdict(one)
    assert told.startswith("No difference in top-1 shown between B and A:")
    assert f"about ±{100 * one.resolution:.1f} points open" in told
    assert "-" not in told.split("(")[0].replace("top-1", "")  # a minus as in print


def test_holm_may_take_a_difference_back() -> None:
    from dataclasses import replace

    assert pair(2, 10).shown and not replace(pair(2, 10), p_value=0.2).shown
    assert verdict(replace(pair(2, 10), p_value=0.2)).startswith("No difference")


def test_nothing_but_size() -> None:
    told = verdict(pair(0, 0, ratios={"size": Ratio(1.0, 1.0, 1.0)}))
    assert told.endswith("; no difference shown in size.")


def test_times() -> None:
    assert times(Ratio(0.5, 0.5, 0.5)) == "0.500 ×" and times(Ratio(0.5, 0.4, 0.7)) == "~0.500 × (80 %: 0.400–0.700)"


def printed(*parts: Any) -> str:
    console = Console(file=io.StringIO(), width=140)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_names_that_look_like_markup_stay_as_they_are() -> None:
    text = printed(differences(pair(2, 30)))
    assert text.count(NASTY) == 4  # the class, the image, its class, the second's answer
    assert "only A 2, only B 30" in text and "the same answer to 268 of 300 (89.3 %" in text


def test_tables_and_json_tell_the_same() -> None:
    score = {"top1": Reading(0.9, "share", 0.88, 0.92, "measured"), "size_bytes": exact(5e5, "B")}
    program: Any = None
    answers = tuple(Answers(Contender(x, x, program), score, ("note",), np.zeros(300, np.int64)) for x in "AB")
    found = Comparison(answers, (pair(2, 30),))
    text = printed(readings_side_by_side(found), pairs_table(found))
    assert "+9.3 points" in text and "B against A" in text and "0.500 MB" in text and "89.3 %" in text
    told = as_json(found, [{"top1": 0.9}, {"top1": 0.9}])
    (one,) = told["pairs"]
    assert one["top1"]["only_first"] == 2 and one["top1"]["only_second"] == 30
    assert one["top1"]["value"] == pytest.approx(28 / 300) and one["difference_shown"]
    assert one["classes"][0]["label"] == NASTY and one["agreement"]["share"] == pytest.approx(268 / 300)
    assert told["notes"].count("note") == 1
