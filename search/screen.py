"""What a person sees while a search runs.

On a terminal each finished trial is a line, and below them stands, live, how far the run is (`report.progress`) and what
is at work: the search's own doing, and one line for each trial where several are. Elsewhere there are plain lines: each
finished trial, and now and then how far the run is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.outcome import Failed, Infeasible, Pruned, Scored
from coreml_pareto.search.report.progress import State, overview, summary
from coreml_pareto.search.report.words import otherwise
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.compression import describe, spell

EVERY_TRIALS, EVERY_SECONDS = 10, 600.0
"""A plain summary line comes after this many trials, or so many seconds after the last one, whichever is first."""

WIDE = 100
"""Columns from which a line at work has a bar and a clock; below, its name needs the room."""


@final
class Screen:
    """Prints what happens; on a terminal, what is at work and how far the run is stay in sight below."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._state: State | None = None
        bar = (BarColumn(bar_width=12), TimeElapsedColumn()) if console.width >= WIDE else ()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(ratio=3, no_wrap=True, overflow="ellipsis")),
            *bar[:1],
            TextColumn("{task.fields[detail]}", table_column=Column(no_wrap=True)),
            *bar[1:],
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._live = Live(console=console, get_renderable=self.picture, transient=True) if console.is_terminal else None
        self._own = self._progress.add_task("", total=None, detail="", visible=False)
        self._of_trials: dict[int, TaskID] = {}
        self._warned: set[tuple[str, str]] = set()
        self._since = self._summed_up = time.monotonic()
        self._unsummed = 0

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def picture(self) -> RenderableType:
        """What stands, live, below the lines: how far the run is now, and a line for whatever is at work."""
        if self._state is None:
            return self._progress
        gone = time.monotonic() - self._since
        left = None if self._state.left is None else self._state.left - gone
        return Group(overview(replace(self._state, elapsed=self._state.elapsed + gone, left=left)), self._progress)

    def standing(self, state: State) -> None:
        """Show how far the run is: at once on a terminal, elsewhere now and then on a plain line."""
        self._state, self._since = state, time.monotonic()
        if self._live or not self._unsummed:
            return
        if self._unsummed >= EVERY_TRIALS or self._since - self._summed_up >= EVERY_SECONDS:
            self.say(f"  so far: {summary(state)}")
            self._unsummed, self._summed_up = 0, self._since

    def show(self, picture: RenderableType) -> None:
        """Print a table or anything else that is drawn."""
        self.console.print(picture)

    def say(self, text: str) -> None:
        """Print a line as it is; where no terminal wraps it, it stays one line."""
        self._print(escape(text))

    def _print(self, marked: str) -> None:
        self.console.print(marked, highlight=False, emoji=False, soft_wrap=not self.console.is_terminal)

    def note(self, text: str, trial: int | None = None) -> None:
        """Name what is being done now, by the search itself or by one of several trials at work."""
        if trial is not None:
            self._progress.update(self._own, visible=False)
            text = f"trial {trial}: {text}"
        self._progress.update(
            self._line(trial), description=escape(text), total=None, completed=0, detail="", visible=True
        )

    def step(
        self, done: float, epochs: int, loss: float, top1: float | None, seconds_left: float, trial: int | None = None
    ) -> None:
        """Show where a training stands: epoch, loss, top-1 (of the torch network, for orientation), time left."""
        reached = "" if top1 is None else f"top-1 {top1:.1%}  "
        running = min(epochs, int(done) + 1)
        detail = f"epoch {running}/{epochs}  loss {loss:.3f}  {reached}{spell_duration(seconds_left)} left"
        self._progress.update(self._line(trial), total=epochs, completed=done, detail=detail)

    def ended(self, trial: int) -> None:
        """Take away the line of a trial that is no longer at work."""
        if trial in self._of_trials:
            self._progress.remove_task(self._of_trials.pop(trial))

    def _line(self, trial: int | None) -> TaskID:
        if trial is None:
            return self._own
        if trial not in self._of_trials:
            self._of_trials[trial] = self._progress.add_task("", total=None, detail="")
        return self._of_trials[trial]

    def result(self, result: Result, over: Sequence[str], count: str) -> None:
        """Print one finished trial on one line; `over`: the limits that it breaks, `count`: how far the search is."""
        self._unsummed += 1
        candidate = result.candidate
        what = f"{candidate.network.label}, {describe(candidate.compression)}"
        if candidate.recipe.teacher:
            what += f", taught by {candidate.recipe.teacher}"
        number = f"trial {result.trial} ({count})" if count else f"trial {result.trial}"
        self._print(
            f"[dim]{number}[/dim] {escape(what)}: {_ending(result, over)} [dim]({spell_duration(result.seconds)})[/dim]"
        )
        self._warn(result)

    def _warn(self, result: Result) -> None:
        """Print below a package how many of its layers are not as asked, once for each backbone and compression.

        Which layers a block, a group or the smallest size leaves out is decided by the backbone's shapes: other widths
        and other trainings of it would only repeat the line, another backbone may be much worse.
        """
        kind = result.candidate.network.backbone, spell(result.candidate.compression)
        if not isinstance(result.outcome, Scored) or kind in self._warned:
            return
        if warning := otherwise(result.outcome.package):
            self._warned.add(kind)
            self._print(f"  [dim]{escape(warning)}[/dim]")


def _ending(result: Result, over: Sequence[str]) -> str:
    match result.outcome:
        case Scored(score, _, _):
            values = (
                f"top-1 {score['top1'].value:.1%}, {score['size_bytes'].value / 1e6:.2f} MB, "
                f"~{score['latency_ms'].value:.2f} ms"
            )
            return values + (f" [yellow]over the limit of {', '.join(over)}[/yellow]" if over else "")
        case Infeasible(limits, _):
            return f"[yellow]over the limit of {', '.join(limits)}[/yellow], not trained"
        case Pruned(reason, _, _):
            return f"stopped: {escape(reason)}"
        case Failed(stage, cause):
            return f"[red]failed in {stage}[/red]: {escape(cause)}"


class Clock:
    """Seconds since a start, and those that earlier sessions of the same run took (`before`)."""

    def __init__(self) -> None:
        self.before = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all sessions."""
        return self.before + time.monotonic() - self._started
