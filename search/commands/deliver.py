"""`coreml-pareto deliver`: everything that an iOS developer needs to ship a package of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from coreml_pareto.search.commands import options

_TRIAL = "A trial with a package. [the recommended one]"
_OUT = "A folder that does not exist yet, or is empty."
_ALSO = "aimodel: the same network for Apple's Core AI (beta; needs the extra `aimodel`)."
_DATA = "Where the run's pictures are now. [as in its study]"


def deliver_command(
    run: options.RunFolder,
    out: Annotated[Path, typer.Option(metavar="DIR", help=_OUT)],
    trial: Annotated[int | None, typer.Argument(metavar="[TRIAL]", help=_TRIAL, show_default=False)] = None,
    also: Annotated[Literal["aimodel"] | None, typer.Option(help=_ALSO)] = None,
    client: Annotated[str | None, typer.Option(metavar="NAME", help="For whom; shown in the papers.")] = None,
    data: Annotated[str | None, typer.Option(help=_DATA, show_default=False)] = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Hand a package over: the model, a Swift package around it with tests, guide, report, model card, checksums.

    The package answers the run's validation pictures once more: thresholds, samples and expected answers come from that.
    Exit code 3 where no package keeps the limits.

    Example: `coreml-pareto deliver runs/birds --out handover --client "Bird Society"`
    """
    from coreml_pareto.search.delivery.handover import as_rows, check, hand_over
    from coreml_pareto.search.delivery.subject import Choice, choose, open_subject
    from coreml_pareto.search.report.words import model_name, refusal
    from coreml_pareto.search.study import load_run

    record = load_run(run)
    choice = choose(record, trial)
    if not isinstance(choice, Choice):
        typer.echo("\n".join(refusal(record, choice)), err=True)
        raise typer.Exit(options.NOTHING_FITS)
    check(record, choice, out, aimodel=also is not None)
    screen = options.console(markup=False)
    with screen.status("reading the pictures"):
        subject = open_subject(record, choice, data=data, client=client)
    with screen.status("writing"):
        written = hand_over(subject, out, aimodel=also is not None)
    if as_json:
        options.print_json(as_rows(written) | {"trial": choice.result.trial})
        return
    typer.echo(f"Wrote {out}: {model_name(choice.result)}, trial {choice.result.trial}.")
    for name, what in written.contents:
        typer.echo(f"  {name:24} {what}")
    options.print_notes([f"{note}." for note in written.notes], as_json=as_json)
