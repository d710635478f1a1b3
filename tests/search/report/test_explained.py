"""What is said about methods: of the right priority, with the sign that helps, and nothing that was not tried."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.methods import KINDS, Change, Effect, Kind, Methods
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report.explained import as_data, explained, sentences
from coreml_pareto.search.run import Result

Make = Callable[..., Any]
FORMS: Mapping[Kind, str] = {
    "distillation": "resnet18", "quantization": "int8/channel", "pruning": "pruning-50", "resolution": "64 → 32",
    "width": "1 → 0.5", "architecture": "mobilenetv2 → squeezenet1_1",
}  # fmt: skip


@pytest.fixture
def effect(result_at: Make) -> Callable[..., Effect]:
    """effect(kind, points, (low, high), size's ratio)."""

    def make(kind: Kind, points: float, ends: tuple[float, float], ratio: float = 1.0, other: int = 0) -> Effect:
        changes = {
            "accuracy": Change(OBJECTIVES["accuracy"], points, *ends, None),
            "size": Change(OBJECTIVES["size"], (ratio - 1) * 1e6, (ratio - 1) * 1e6, (ratio - 1) * 1e6, ratio),
        }
        pair = result_at(0, (0.9, 1.0, 1e6, 1e6, 0.1)), result_at(1, (0.9, 1.0, ratio * 1e6, 1e6, 0.1))
        return Effect(kind, FORMS[kind], (pair,), 1, changes, other)

    return make


def _methods(*effects: Effect, unpaired: tuple[Kind, ...] = ()) -> Methods:
    has = {effect.kind for effect in effects} | set(unpaired)
    return Methods(effects, unpaired, tuple(kind for kind in KINDS if kind not in has))


def test_the_rule_of_thumb_that_held_is_said_once(effect: Make) -> None:
    found = _methods(effect("distillation", 0.02, (0.01, 0.03)), effect("quantization", -0.01, (-0.02, 0.0), 0.5))
    (told, untried) = sentences(found, "accuracy")
    assert told == (
        "For top-1 most was gained by distillation resnet18, as the rule of thumb says: +2.0 points of top-1 "
        "(95 %: +1.0 to +3.0), 1 comparison."
    )
    assert untried == "Not tried on this run: pruning, resolution, width, architecture."


def test_the_rule_of_thumb_that_did_not_hold_is_said_with_its_figures(effect: Make) -> None:
    found = _methods(effect("distillation", 0.002, (-0.01, 0.014)), effect("resolution", -0.08, (-0.09, -0.07), 0.9))
    first, second, _ = sentences(found, "accuracy")
    assert first.startswith(
        "For top-1 most was gained by resolution 32 → 64: +8.0 points of top-1 (95 %: +7.0 to +9.0)"
    )
    assert second.startswith(
        "The rule of thumb for top-1, distillation, shows no difference here: resnet18, +0.2 points"
    )


def test_size_tells_what_it_costs(effect: Make) -> None:
    found = _methods(effect("quantization", -0.011, (-0.016, -0.006), 0.25), unpaired=("distillation",))
    told = list(sentences(found, "size"))
    assert "−0.750 MB (−75 %), with −1.1 points of top-1 (95 %: −1.6 to −0.6)" in told[0]
    assert told[2] == "Tried, but without a counterpart that differs in nothing else: distillation."


def test_balanced_answers_for_both_ends_and_nothing_gained_is_said(effect: Make) -> None:
    told = list(sentences(_methods(effect("quantization", -0.011, (-0.016, -0.006), 0.25)), "balanced"))
    assert told[0] == "For top-1 no method that was compared gained anything." and told[1].startswith("For size most")


def test_estimates_are_marked_in_sentences_and_measurements_are_not(effect: Make) -> None:
    made = effect("quantization", 0.0, (-0.01, 0.01), 0.5)
    latency = Change(OBJECTIVES["latency"], -0.5, -0.5, -0.5, 0.5)
    guessed = replace(made, changes={**made.changes, "latency": latency})
    assert "~−0.500 ms (−50 %)" in next(sentences(_methods(guessed), "latency"))

    def timed(one: Result) -> Result:
        assert isinstance(one.outcome, Scored)
        clock = replace(one.score["latency_ms"], how="measured")
        return replace(one, outcome=replace(one.outcome, score={**one.score, "latency_ms": clock}))

    ((before, after),) = guessed.pairs
    clocked = replace(guessed, pairs=((timed(before), timed(after)),))
    assert "by quantization int8/channel: −0.500 ms" in next(sentences(_methods(clocked), "latency"))


def test_nothing_is_said_of_gains_where_nothing_can_be_compared() -> None:
    told = list(sentences(_methods(unpaired=("quantization",)), "size"))
    assert told[0].startswith("For size no method can be compared") and "gained" not in told[0]


def test_other_first_weights_are_told(effect: Make) -> None:
    told = list(sentences(_methods(effect("distillation", 0.02, (0.01, 0.03), other=1)), "accuracy"))
    assert any("began with other weights: distillation resnet18 (1 of 1)" in line for line in told)


def test_the_table_marks_the_chosen_form_and_fits(effect: Make, result_at: Make) -> None:
    found = _methods(*(effect(kind, -0.01, (-0.02, 0.01), 0.5) for kind in KINDS))
    chosen = result_at(1, (0.9, 1.0, 5e5, 1e6, 0.1))
    console = Console(file=io.StringIO(), width=100)
    console.print(explained(found, chosen, "size"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(kind in text for kind in KINDS if kind != "architecture") and "−1.0 (−2.0 to +1.0)" in text
    assert "architecture  " not in text  # no backbone was compared with the chosen one's
    assert max(map(len, text.splitlines())) <= 100


def test_a_run_without_pairs_says_only_what_was_not_tried(result_at: Make) -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(explained(_methods(), result_at(0, (0.9, 1.0, 1e6, 1e6, 0.1)), "latency"))
    assert console.file.getvalue().split("\n")[-2].startswith("Not tried")  # type: ignore[attr-defined]


def test_for_machines(effect: Make) -> None:
    data = as_data(_methods(effect("quantization", -0.01, (-0.02, 0.0), 0.5)))
    (told,) = data["effects"]
    assert told["pairs"] == [[0, 1]] and told["changes"]["size_bytes"]["ratio"] == 0.5
    assert told["changes"]["top1"] == {
        "change": -0.01,
        "low": -0.02,
        "high": 0.0,
        "ratio": None,
        "ends": "95 % interval",
    }
    assert "distillation" in data["not_tried"]
