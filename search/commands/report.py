"""`coreml-pareto report`: what a search found, as a page, in print, as slides, for a client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

_FORMAT = "One or more of html, pdf, pptx, png, md, by commas; all but html need the extra `report`."
_OUT = "Folder of the report; made if it is not there. [default: RUN/report]"
_TITLE = "On the first page. [default: the study and its device]"


def report_command(
    run: options.RunFolder,
    formats: Annotated[str, typer.Option("--format", metavar="NAMES", help=_FORMAT)] = "html",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help=_OUT)] = None,
    client: Annotated[str | None, typer.Option(metavar="NAME", help="For whom it is.")] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help=_TITLE)] = None,
    storage: options.Storage = None,
) -> None:
    """Write a report: recommendation, trade-off, five anchors, photographs, what compression did, what is not shown.

    The photographs are those of the test split where the search read it, else those of validation; the report says which.

    Example: `coreml-pareto report runs/birds --format html,pdf,pptx --client "Acme Ltd"`
    """
    from coreml_pareto.search.report.formats import formats_of, prepare_folder, write
    from coreml_pareto.search.study import load_run

    names = formats_of(formats)
    record = load_run(run)
    if not record.results:
        raise UserError(f"a report needs at least one finished trial; {run} has none; search on")
    folder = run / "report" if out is None else out
    prepare_folder(folder)

    from coreml_pareto.search.report.gathering import gather

    facts = gather(record, title=title, client=client)
    for line in facts.missing:
        typer.echo(line, err=True)
    for path in write(facts, names, folder):
        typer.echo(f"Wrote {path}")
