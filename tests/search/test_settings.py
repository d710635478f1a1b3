"""`--set KEY=VALUE`: nested sections, YAML's values, and what is refused."""

from __future__ import annotations

import pytest

from coreml_pareto.search.config import load_plan
from coreml_pareto.search.settings import merged, settings_of
from coreml_pareto.spaces.errors import UserError


def test_keys_are_nested_and_values_are_yaml() -> None:
    found = settings_of(
        ["networks.width=[0.5, 1.0]", "networks.pretrained=false", "name=a=b", "training.images=null", "strict=true"]
    )
    assert found == {
        "networks": {"width": [0.5, 1.0], "pretrained": False}, "name": "a=b", "training": {"images": None},
        "strict": True,
    }  # fmt: skip


def test_the_last_one_counts() -> None:
    assert settings_of(["seed.a=1", "seed.b=2", "seed.a=3"]) == {"seed": {"a": 3, "b": 2}}


@pytest.mark.parametrize("text", ["", "width", "=1", "a..b=1", ".a=1", "a={", "a=[1", "a=2026-13-01"])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="KEY=VALUE"):
        settings_of([text])


def test_they_are_laid_over_a_study_that_refuses_unknown_keys() -> None:
    plan = load_plan("quickstart", settings_of(["networks.width=[0.35]", "search.trials=3"]))
    assert plan.networks.width == (0.35,) and plan.search.trials == 3
    with pytest.raises(UserError, match="wdth"):
        load_plan("quickstart", settings_of(["networks.wdth=[0.35]"]))


def test_what_lies_below_stays() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}}) == {"a": {"b": 9, "c": 2}, "d": 3}
