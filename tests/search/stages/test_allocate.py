"""An allocation against brute force, and against what any uniform choice gives."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coreml_pareto.search.stages.allocate import UNITS, Option, allocate, least_bits

OPTION = st.builds(
    Option, st.sampled_from(["a", "b", "c", None]), st.integers(1, 50).map(float), st.floats(0, 1, width=32)
)
LAYERS = st.lists(st.lists(OPTION, min_size=1, max_size=4), min_size=1, max_size=5).map(
    lambda rows: {f"layer {place}": row for place, row in enumerate(rows)}
)


@settings(max_examples=60, deadline=None)
@given(LAYERS, st.floats(1, 1.5))
def test_no_other_choice_within_the_budget_harms_less(layers: dict[str, list[Option]], room: float) -> None:
    budget = room * least_bits(layers)
    chosen = allocate(layers, budget)
    assert chosen.keys() == layers.keys()
    assert all(option in layers[name] for name, option in chosen.items())
    assert sum(option.bits for option in chosen.values()) <= budget * (1 + 1e-6)
    every = itertools.product(*layers.values())
    best = min(sum(o.harm for o in way) for way in every if sum(o.bits for o in way) <= budget)
    assert sum(option.harm for option in chosen.values()) <= best + 1e-9


def test_bits_go_to_the_layer_that_needs_them() -> None:
    def layer(harm: float) -> list[Option]:
        return [Option(None, 16, 0), Option("8", 8, harm / 256), Option("4", 4, harm)]

    chosen = allocate({"sensitive": layer(1.0), "dull": layer(0.01)}, 12)
    assert {name: option.form for name, option in chosen.items()} == {"sensitive": "8", "dull": "4"}


def test_too_small_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="smallest forms take 4 bits, the budget is 3"):
        allocate({"one": [Option("4", 4, 0.1)]}, 3)


def test_large_budgets_lose_next_to_nothing_by_rounding() -> None:
    """Fifty layers whose harm falls by 6 dB a bit; without rounding every bit more would lower it."""
    layers = {
        f"layer {place}": [Option(str(b), 12345.6 * (place + 1) * b, 4.0**-b / (place + 1)) for b in (1, 2, 3, 4, 6, 8)]
        for place in range(50)
    }
    budget = 4 * 12345.6 * sum(range(1, 51))
    chosen = allocate(layers, budget)
    spent = sum(option.bits for option in chosen.values())
    assert budget * (1 - 100 / UNITS) <= spent <= budget
    uniform = sum(own[3].harm for own in layers.values())
    assert sum(option.harm for option in chosen.values()) < uniform
    tighter = allocate(layers, spent * (1 + 1e-12))
    assert sum(option.harm for option in tighter.values()) <= sum(option.harm for option in chosen.values()) * 1.01


def test_rounding_never_refuses_what_fits_exactly() -> None:
    layers = {f"layer {place}": [Option("a", 1e6 / 3, 1.0), Option("b", 1e6, 0.0)] for place in range(3)}
    chosen = allocate(layers, 1e6)
    assert [option.form for option in chosen.values()] == ["a", "a", "a"]
