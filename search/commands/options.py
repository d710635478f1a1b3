"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.limits import parse_limit
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from coreml_pareto.objectives.devices.catalogue import Target
    from coreml_pareto.objectives.program import Program
    from coreml_pareto.search.run import Result, Run

LIMITS = "Limits"
WHERE = "Where it is to run"
INPUT = "For packages that do not say it themselves"
DEFAULT_DEVICE = "iPhone 15 Pro"
DEFAULT_OS = 17
NOTHING_FITS = 3
"""The exit code when no package keeps the limits."""
NARROWEST = 100

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a search, such as runs/quickstart.")]
Package = Annotated[Path, typer.Argument(metavar="PACKAGE", help="A Core ML package, NAME.mlpackage.")]
MaxSize = Annotated[str | None, typer.Option(metavar="SIZE", rich_help_panel=LIMITS, help="10MB, 500KB (10^6 bytes).")]
MaxLatency = Annotated[str | None, typer.Option(metavar="TIME", rich_help_panel=LIMITS, help="5ms.")]
MaxMemory = Annotated[str | None, typer.Option(metavar="SIZE", rich_help_panel=LIMITS, help="20MB, at the peak.")]
MaxEnergy = Annotated[str | None, typer.Option(metavar="ENERGY", rich_help_panel=LIMITS, help="1mJ per inference.")]
MinTop1 = Annotated[str | None, typer.Option(metavar="SHARE", rich_help_panel=LIMITS, help="0.9 or 90% (validation).")]
Strict = Annotated[
    bool, typer.Option("--strict", rich_help_panel=LIMITS, help="Hold limits against the worse end of each interval.")
]
DeviceName = Annotated[
    str, typer.Option("--device", metavar="NAME", rich_help_panel=WHERE, help="As in `coreml-pareto devices`.")
]
Release = Annotated[
    int | None,
    typer.Option(
        "--ios", "--os", metavar="N", rich_help_panel=WHERE, show_default="17, or what the package needs",
        help="Release that it runs; macOS 14 counts as 17.",
    ),
]  # fmt: skip
Units = Annotated[
    str, typer.Option("--compute-units", rich_help_panel=WHERE, help="ALL, CPU_AND_NE, CPU_AND_GPU or CPU_ONLY.")
]
OtherDevice = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="NAME", rich_help_panel=WHERE, help="Another device than the search's; see `devices`."
    ),
]
OtherRelease = Annotated[
    int | None,
    typer.Option("--ios", "--os", metavar="N", rich_help_panel=WHERE, help="Release that it runs. [the search's]"),
]
OtherUnits = Annotated[
    str | None,
    typer.Option(
        "--compute-units", rich_help_panel=WHERE, help="ALL, CPU_AND_NE, CPU_AND_GPU or CPU_ONLY. [the search's]"
    ),
]
UnitsList = Annotated[
    str,
    typer.Option(
        "--compute-units", rich_help_panel=WHERE, help="One or more of ALL, CPU_AND_NE, CPU_AND_GPU, CPU_ONLY."
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="Pictures: a folder with one folder per class, its .tar, a .csv of paths and labels, hf:NAME, or `digits`."
    ),
]
SplitName = Annotated[str, typer.Option(help="train, validation or test.")]
Seed = Annotated[
    int | None, typer.Option(help="Draws splits that the data does not bring. [default: the package's own, else 0]")
]
Mean = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=INPUT,
        help="Tensor inputs: subtracted from pixels in 0..1; one number or three, 0.485,0.456,0.406.",
    ),
]
Std = Annotated[str | None, typer.Option(rich_help_panel=INPUT, help="Tensor inputs: divided by; one number or three.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=INPUT,
        help="Packages without labels: one class per line, in the order of the outputs.",
    ),
]  # fmt: skip
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage", metavar="URL", callback=lambda url: _remember(url),
        help="Of a run that machines share: where its study lies, password included, as in COREML_PARETO_STORAGE.",
    ),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def _remember(url: str | None) -> str | None:
    """Give this command the environment that the option stands for."""
    if url is not None:
        from coreml_pareto.search.storage.address import VARIABLE, parse

        parse(url)
        os.environ[VARIABLE] = url
    return url


def named_trial(text: str) -> tuple[Run, Result] | None:
    """Return the run and the trial that RUN:TRIAL names; None of any other text, and where a file has that name.

    Raises:
        UserError: there is no such run, or its trial has no package.
    """
    from coreml_pareto.search.study import load_run

    folder, _, number = text.rpartition(":")
    if Path(text).exists() or not folder or not number.isdecimal():
        return None
    run = load_run(Path(folder))
    result = next((one for one in run.scored() if one.trial == int(number)), None)
    if result is None:
        known = ", ".join(str(one.trial) for one in run.scored()[:10]) or "none"
        raise UserError(
            f"RUN:TRIAL names a trial that ended with a package; {text} did not; those that did: {known}, …"
        )
    return run, result


def limits_of(
    *,
    max_size: str | None,
    max_latency: str | None,
    max_memory: str | None,
    max_energy: str | None,
    min_top1: str | None,
) -> dict[str, float]:
    """The limits that were given, by objective, in the unit of its reading."""
    texts = {
        "size": max_size, "latency": max_latency, "memory": max_memory, "energy": max_energy, "accuracy": min_top1,
    }  # fmt: skip
    return {name: parse_limit(name, text) for name, text in texts.items() if text is not None}


def target_of(program: Program, device: str, release: int | None, units: str) -> Target:
    """Where a package is to run; without a release iOS 17, or the nearest that device and package allow."""
    from typing import cast

    from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target, find_device

    found = find_device(device)
    if release is None:
        release = max(DEFAULT_OS, oldest_release(program) or 0, found.os_first or 0)
        release = min(release, found.os_latest or release)
    return Target(found, release, cast("ComputeUnits", units))


def target_instead(own: Target, device: str | None, release: int | None, units: str | None) -> Target:
    """A search's target with what was given replaced; without a release the nearest to its own that the device runs."""
    from typing import cast

    from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target, find_device

    found = own.device if device is None else find_device(device)
    if release is None:
        release = min(max(own.os, found.os_first or own.os), found.os_latest or own.os)
    return Target(found, release, own.compute_units if units is None else cast("ComputeUnits", units))


def units_of(text: str) -> tuple[str, ...]:
    """`ALL,CPU_ONLY` as names, each once."""
    from coreml_pareto.objectives.program.coreml import COMPUTE_UNITS

    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in COMPUTE_UNITS]
    if unknown or not names:
        got = ", ".join(unknown) or "none"
        raise UserError(
            f"--compute-units names one or more of {', '.join(COMPUTE_UNITS)}; got {got}; separate with commas"
        )
    return names


def oldest_release(program: Program) -> int | None:
    """The oldest iOS release that opens the package; None where its specification is not known."""
    oldest = program.minimum_os.removeprefix("iOS")
    return int(oldest) if oldest.isdigit() else None


def console(*, markup: bool = True) -> Console:
    """A console for stdout that does not squeeze tables when it is piped into a file.

    Without `markup`, brackets and colons in names of folders, files and classes are printed as they are.
    """
    from rich.console import Console

    screen = Console(highlight=False, markup=markup, emoji=markup)
    if screen.is_terminal:
        return screen
    return Console(highlight=False, markup=markup, emoji=markup, width=max(NARROWEST, screen.width))


def print_json(value: Any) -> None:
    """JSON on stdout and nothing else; numbers that JSON has no word for are refused."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_notes(notes: Iterable[str], *, as_json: bool) -> None:
    """Sentences before a result; on stderr where stdout is for machines."""
    for note in notes:
        typer.echo(note, err=as_json)


def names_of(text: str | None) -> tuple[str, ...] | None:
    """`accuracy,size` as names."""
    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise UserError("--objectives names one or more of accuracy, latency, size, memory, energy; got none")
    return names
