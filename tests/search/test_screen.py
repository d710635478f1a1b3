"""What is printed is what was meant: names and causes are text, never markup."""

from __future__ import annotations

import io

from rich.console import Console

from coreml_pareto.search.outcome import Failed, Infeasible
from coreml_pareto.search.run import Result
from coreml_pareto.search.screen import Screen
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe

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
