"""The command line: `coreml-pareto COMMAND`.

Everything heavy is imported inside the commands, so that `--help` answers at once. Errors that are meant for people
are one line on stderr and exit code 2; a traceback comes only with `--debug`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from coreml_pareto.search.commands.ablate import ablate_command
from coreml_pareto.search.commands.best import best_command
from coreml_pareto.search.commands.compare import compare_command
from coreml_pareto.search.commands.dashboard import dashboard_command
from coreml_pareto.search.commands.deliver import deliver_command
from coreml_pareto.search.commands.device_kit import device_kit_command
from coreml_pareto.search.commands.devices import devices_command
from coreml_pareto.search.commands.diagnose import diagnose_command
from coreml_pareto.search.commands.estimate import estimate_command
from coreml_pareto.search.commands.evaluate import evaluate_command
from coreml_pareto.search.commands.front import front_command
from coreml_pareto.search.commands.import_measurements import import_measurements_command
from coreml_pareto.search.commands.inspect import inspect_command
from coreml_pareto.search.commands.measure import measure_command
from coreml_pareto.search.commands.report import report_command
from coreml_pareto.search.commands.search import search_command
from coreml_pareto.search.commands.sensitivity import sensitivity_command
from coreml_pareto.search.commands.space import space_command
from coreml_pareto.search.commands.status import status_command
from coreml_pareto.search.commands.store import store_app
from coreml_pareto.search.commands.verify import verify_command
from coreml_pareto.spaces.errors import UserError

NAME = "coreml-pareto"
USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130
_RUNS, _PACKAGES, _REFERENCE = "Search and choose", "Any package", "Look up"

app = typer.Typer(
    name=NAME,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("search", rich_help_panel=_RUNS)(search_command)
app.command("status", rich_help_panel=_RUNS)(status_command)
app.command("front", rich_help_panel=_RUNS)(front_command)
app.command("best", rich_help_panel=_RUNS)(best_command)
app.command("ablate", rich_help_panel=_RUNS)(ablate_command)
app.command("dashboard", rich_help_panel=_RUNS)(dashboard_command)
app.command("deliver", rich_help_panel=_RUNS)(deliver_command)
app.command("diagnose", rich_help_panel=_RUNS)(diagnose_command)
app.command("report", rich_help_panel=_RUNS)(report_command)
app.command("device-kit", rich_help_panel=_RUNS)(device_kit_command)
app.command("import-measurements", rich_help_panel=_RUNS)(import_measurements_command)
app.add_typer(store_app, name="store", rich_help_panel=_RUNS)
app.command("evaluate", rich_help_panel=_PACKAGES)(evaluate_command)
app.command("compare", rich_help_panel=_PACKAGES)(compare_command)
app.command("estimate", rich_help_panel=_PACKAGES)(estimate_command)
app.command("inspect", rich_help_panel=_PACKAGES)(inspect_command)
app.command("sensitivity", rich_help_panel=_PACKAGES)(sensitivity_command)
app.command("measure", rich_help_panel=_PACKAGES)(measure_command)
app.command("verify", rich_help_panel=_PACKAGES)(verify_command)
app.command("devices", rich_help_panel=_REFERENCE)(devices_command)
app.command("space", rich_help_panel=_REFERENCE)(space_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"{NAME} {version(NAME)}")
        except PackageNotFoundError:
            typer.echo(f"{NAME}, not installed (run from its source)")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Search networks, distillation and compression together; end with real, verified Core ML packages.

    Start with `coreml-pareto search quickstart`, then `coreml-pareto best runs/quickstart`.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 (a defect), 2 (bad input), 3 (nothing fits), 130 (Ctrl-C)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    logging.getLogger("coremltools").setLevel(logging.ERROR)  # its import warns of what does not concern us
    try:
        app([argument for argument in given if argument != "--debug"], prog_name=NAME)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0 if leave.code is None else FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed it: `coreml-pareto front RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except Exception as error:
        if debug:
            raise
        told = " ".join(str(error).split()) or "no message"
        print(f"error: {type(error).__name__}: {told} (a defect; --debug shows where)", file=sys.stderr)
        return FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main())
