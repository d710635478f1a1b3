"""What is printed is what was meant: names and causes are text, never markup."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from coreml_pareto.search import screen as screens
from coreml_pareto.search.outcome import Failed, Infeasible, Scored
from coreml_pareto.search.report.progress import State
from coreml_pareto.search.run import Result
from coreml_pareto.search.screen import Screen
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe
from coreml_pareto.spaces.compression import parse

CANDIDATE = Candidate(
    network=Network(family="squeezenet", backbone="squeezenet1_1", resolution=32, classes=2),
    recipe=Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.0, teacher="runs/[red]/store/train/1"),
    compression=Compression(),
)


def _printed(use: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    screen = Screen(console)
    use(screen)  # type: ignore[operator]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_square_brackets_are_kept() -> None:
    told = _printed(lambda screen: screen.say("broken: img[edited].jpg, br[red]k, [/tmp/x]"))
    assert told == "broken: img[edited].jpg, br[red]k, [/tmp/x]\n"
    failed = Result(4, CANDIDATE, Failed("package", "OSError: [/tmp/x] is [bold]full"), seconds=3.0)
    told = _printed(lambda screen: screen.result(failed, (), "3/9"))
    assert told.startswith(
        "trial 4 (3/9) squeezenet1_1 @32, fp16, taught by runs/[red]/store/train/1: failed in package"
    )
    assert "OSError: [/tmp/x] is [bold]full (3 s)" in told


def test_an_infeasible_trial_says_which_limits() -> None:
    told = _printed(lambda screen: screen.result(Result(0, CANDIDATE, Infeasible(("size",), {})), ("size",), ""))
    assert told == (
        "trial 0 squeezenet1_1 @32, fp16, taught by runs/[red]/store/train/1: over the limit of size, not trained (0 s)\n"
    )


def _scored(result_at: Callable[..., Result], backbone: str, compression: str, width: float = 1.0) -> Result:
    """A trial whose package lies in a folder named after its backbone."""
    drawn = result_at(0, (0.9, 1.0, 1e6, 1e6, 1.0))
    assert isinstance(drawn.outcome, Scored)
    network = Network(family="mobilenet", backbone=backbone, width=width, resolution=32, classes=2)
    changed = CANDIDATE.model_copy(update={"network": network, "compression": parse(compression)})
    return replace(drawn, candidate=changed, outcome=replace(drawn.outcome, package=Path(backbone) / "model.mlpackage"))


def test_layers_that_are_not_as_asked_are_told_once_for_each_backbone_and_compression(
    result_at: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "otherwise", lambda package: f"Asked [x] of {package.parent}: 1 layer otherwise")

    def use(screen: Screen) -> None:
        for backbone, compression, width in (
            ("a", "w8a8", 1), ("a", "w8a8", 0.5), ("a", "int8/channel", 1), ("b", "w8a8", 1), ("a", "w8a8", 1),
        ):  # fmt: skip
            screen.result(_scored(result_at, backbone, compression, width), (), "")
        screen.result(Result(4, CANDIDATE, Failed("package", "full"), seconds=3.0), (), "")

    lines = _printed(use).splitlines()
    assert [bool(line.startswith("  Asked [x] of ")) for line in lines] == [
        False, True, False, False, True, False, True, False, False,
    ]  # fmt: skip
    assert lines[1] == "  Asked [x] of a: 1 layer otherwise" and "of b:" in lines[6]


def test_a_package_that_is_gone_breaks_nothing(result_at: Callable[..., Result]) -> None:
    told = _printed(lambda screen: screen.result(_scored(result_at, "a", "w8a8"), (), ""))
    assert told.count("\n") == 1 and "top-1 90.0%" in told


def _state(result_at: Callable[..., Result]) -> State:
    front = (result_at(3, (0.978, 0.2, 4e5, 1e6, 1.0)), result_at(9, (0.9, 0.3, 1e5, 1e6, 1.0)))
    counts = {"scored": 12, "infeasible": 0, "failed": 1}
    return State(counts, 12, 26, 250.0, 300.0, front, ((60.0, 0.2), (200.0, 0.412)), 5)


def test_plain_lines_sum_up_after_ten_trials_or_ten_minutes(
    result_at: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(screens.time, "monotonic", lambda: now[0])

    def use(screen: Screen) -> None:
        failed = Result(4, CANDIDATE, Failed("package", "full"), seconds=3.0)
        for number in range(23):
            now[0] += 601.0 if number == 21 else 1.0
            screen.result(failed, (), "")
            screen.standing(_state(result_at))
        screen.standing(_state(result_at))

    lines = _printed(use).splitlines()
    summed = [number for number, line in enumerate(lines) if line.startswith("  so far: ")]
    assert summed == [10, 21, 24]
    assert lines[10] == (
        "  so far: 12 scored from 5 trainings, 1 failed (12 of 26); 4 min 10 s, about 5 min 00 s left; front: 2 packages · "
        "best top-1 97.8 % (trial 3) · smallest 0.100 MB (trial 9) · fastest ~0.200 ms (trial 3); hypervolume 0.412"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_how_far_the_run_is_and_what_each_trial_does(
    result_at: Callable[..., Result], width: int
) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with Screen(console) as screen:
        screen.note("planning")
        screen.note("training mobilenetv3_small×0.35 @32 stem/1, 12 epochs", trial=12)
        screen.step(3.2, 12, 0.31, 0.931, 20.0, trial=12)
        screen.note("training squeezenet1_1 @48, 12 epochs", trial=13)
        screen.standing(_state(result_at))
        shown = Console(file=io.StringIO(), width=width)
        shown.print(screen.picture())
        screen.ended(13)
        later = Console(file=io.StringIO(), width=width)
        later.print(screen.picture())
    assert isinstance(shown.file, io.StringIO) and isinstance(later.file, io.StringIO)
    text = shown.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines()) and "planning" not in text
    for part in (
        "12 scored from 5 trainings, 1 failed (12 of 26)",
        "5 min 00 s left",
        "0.412",
        "trial 12: train",
        "epoch 4/12",
        "trial 13",
    ):
        assert part in text
    assert "trial 13" not in later.file.getvalue() and "trial 12" in later.file.getvalue()
