"""`coreml-pareto status`: what a search does now and how far it is, from another shell."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from coreml_pareto.search.commands import options

EVERY = 2.0
"""Seconds between two looks of `--follow`."""
_FOLLOW = "Look again every two seconds, until no search is at work (Ctrl-C leaves)."


def status_command(
    run: options.RunFolder,
    follow: Annotated[bool, typer.Option("--follow", help=_FOLLOW)] = False,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Tell what a search does: at work or not, trials and trainings, time left, front so far, failures, where time went.

    Reads RUN/events.jsonl and the record, writes nothing, and does not disturb a search at work.

    Example: `coreml-pareto status runs/quickstart`
    """
    from rich.live import Live

    from coreml_pareto.search.report.watch import as_data, look, picture

    sight = look(run)
    if as_json:
        options.print_json(as_data(sight))
        return
    screen = options.console(markup=False)
    if not (follow and sight.at_work):
        screen.print(picture(sight))
        return
    with Live(picture(sight), console=screen, auto_refresh=False) as live:
        while sight.at_work:
            time.sleep(EVERY)
            sight = look(run)
            live.update(picture(sight), refresh=True)
