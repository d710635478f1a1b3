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


def test_on_a_terminal_each_trial_at_work_has_a_line_until_it_ends() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)

    def lines() -> list[str]:
        shown = Console(file=io.StringIO(), width=120)
        shown.print(screen._progress.get_renderable())
        assert isinstance(shown.file, io.StringIO)
        return [line.strip() for line in shown.file.getvalue().splitlines() if line.strip()]

    screen = Screen(console)
    screen.note("reading [pictures]")
    assert len(lines()) == 1 and "reading [pictures]" in lines()[0]
    screen.note("training a[b]", 7)
    screen.step(0.5, 4, 2.0, 0.25, 8.0, 12)
    screen.step(1.5, 4, 1.0, None, 9.0, 7)
    first, second = lines()
    assert "trial 7: training a[b]" in first and "epoch 2/4  loss 1.000  9 s left" in first
    assert "epoch 1/4  loss 2.000  top-1 25.0%  8 s left" in second
    screen.ended(7)
    screen.ended(7)
    (left,) = lines()
    assert "loss 2.000" in left
    screen.ended(12)
    screen.note("test accuracy of trial 12")
    assert len(lines()) == 1 and "test accuracy" in lines()[0]
