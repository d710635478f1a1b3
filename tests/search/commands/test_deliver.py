"""`deliver` as it is typed: refusals come before anything is computed, with the right exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.search.delivery import handover, subject
from coreml_pareto.search.delivery.handover import Written
from coreml_pareto.search.run import Run


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be handed over; reading and writing are the business of other tests."""
    asked: list[dict[str, Any]] = []

    def opened(run: Run, choice: Any, **options: Any) -> str:
        asked.append({"trial": choice.result.trial, **options})
        return "subject"

    def written(found: str, out: Path, **options: Any) -> Written:
        asked[-1] |= options | {"out": out}
        return Written(out, (("guide.md", "implementation guide"),), ("guide.pdf was left out: no [typst]",))

    monkeypatch.setattr(subject, "open_subject", opened)
    monkeypatch.setattr(handover, "hand_over", written)
    return asked


def test_the_recommended_package_is_handed_over(
    command: Callable[..., Any], recorded: Run, nothing_is_read: list[dict[str, Any]], tmp_path: Path
) -> None:
    answer = command("deliver", "RUN", "--out", str(tmp_path / "out"), "--client", "[red]A & B")
    assert answer.code == 0 and "guide.pdf was left out: no [typst]." in answer.out
    (asked,) = nothing_is_read
    assert asked["client"] == "[red]A & B" and asked["aimodel"] is False and asked["data"] is None
    best = command("best", "RUN", "--json")
    assert f'"trial": {asked["trial"]}' in best.out


def test_a_trial_can_be_named(
    command: Callable[..., Any], recorded: Run, nothing_is_read: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert command("deliver", "RUN", "3", "--out", str(tmp_path / "out"), "--json").code == 0
    assert nothing_is_read[0]["trial"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("RUN", "99"), "does not exist"),
        (("RUN", "12"), "ended infeasible"),
        (("RUN", "--also", "aimodel"), "aimodel"),
    ],
)
def test_refusals(
    arguments: tuple[str, ...], said: str, command: Callable[..., Any], recorded: Run,
    nothing_is_read: list[dict[str, Any]], tmp_path: Path,
) -> None:  # fmt: skip
    answer = command("deliver", *arguments, "--out", str(tmp_path / "out"))
    assert answer.code == 2 and said in answer.err and not nothing_is_read and not list(tmp_path.iterdir())


def test_a_full_folder_is_refused(
    command: Callable[..., Any], recorded: Run, nothing_is_read: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    answer = command("deliver", "RUN", "--out", str(tmp_path))
    assert answer.code == 2 and "empty" in answer.err and not nothing_is_read


def test_where_nothing_fits_the_code_is_3(
    command: Callable[..., Any], recorded_as: Callable[[Run], Run], draw_run: Callable[..., Run], tmp_path: Path
) -> None:
    recorded_as(draw_run(5, limits={"size": 10.0}))
    answer = command("deliver", "RUN", "--out", str(tmp_path / "out"))
    assert answer.code == 3 and "No package keeps" in answer.err
