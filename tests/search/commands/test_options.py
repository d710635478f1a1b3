"""Options that `front` and `best` share: each limit reaches the objective of its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coreml_pareto.search import choose
from coreml_pareto.search.commands.options import limits_of
from coreml_pareto.search.run import Run
from coreml_pareto.spaces.errors import UserError

NAMES = {
    "max_size": ("3MB", {"size": 3e6}),
    "max_latency": ("4ms", {"latency": 4.0}),
    "max_memory": ("5MB", {"memory": 5e6}),
    "max_energy": ("6mJ", {"energy": 6.0}),
    "min_top1": ("0.7", {"accuracy": 0.7}),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_is_that_of_its_objective(name: str) -> None:
    text, limit = NAMES[name]
    assert limits_of(**dict.fromkeys(NAMES) | {name: text}) == limit
    assert limits_of(**dict.fromkeys(NAMES)) == {}
    with pytest.raises(UserError, match=f"limit on {next(iter(limit))}"):
        limits_of(**dict.fromkeys(NAMES) | {name: "much"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("asking", "function"), [("front", "front"), ("best", "recommend")])
def test_a_flag_is_that_limit(
    command: Callable[..., Any], recorded: Run, monkeypatch: pytest.MonkeyPatch, asking: str, function: str, name: str
) -> None:
    """It stands beside those of the study, or in place of one."""
    text, limit = NAMES[name]
    asked: list[object] = []

    def capture(*arguments: object) -> None:
        asked.extend(argument for argument in arguments if isinstance(argument, dict))
        raise UserError("captured")

    monkeypatch.setattr(choose, function, capture)
    assert "captured" in command(asking, "RUN", f"--{name.replace('_', '-')}", text).err
    assert asked == [{"size": 5e6} | limit]
