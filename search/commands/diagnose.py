"""`coreml-pareto diagnose`: excessive quantization, improper distillation, architecture mismatch; evidence and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from coreml_pareto.search.data import DataSet
    from coreml_pareto.search.diagnosis.case import Case
    from coreml_pareto.search.diagnosis.finding import Diagnosis

_WHAT = "A search's folder, RUN:TRIAL, or NAME.mlpackage."
_DATA = "Labelled pictures. [default: those of the run]"
_QUICK = "From the record alone: nothing is run, no pictures are read."
_AGAINST = "For a package without its run: the same network uncompressed, on which --data is judged as well."


def diagnose_command(
    subject: Annotated[str, typer.Argument(metavar="RUN|RUN:TRIAL|PACKAGE", help=_WHAT)],
    data: Annotated[str | None, typer.Option(help=_DATA)] = None,
    quick: Annotated[bool, typer.Option("--quick", help=_QUICK)] = False,
    against: Annotated[Path | None, typer.Option(metavar="PACKAGE", help=_AGAINST)] = None,
    device: options.OtherDevice = None,
    release: options.OtherRelease = None,
    units: options.OtherUnits = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Look for excessive quantization, improper distillation and architecture mismatch; say what to try, and how.

    A failure is told only where its whole interval lies outside of what is healthy. What could not be checked is said.

    Examples: `coreml-pareto diagnose runs/birds`, `coreml-pareto diagnose runs/birds:12`,
    `coreml-pareto diagnose small.mlpackage --against fp16.mlpackage --data ./photos`
    """
    case = _case(subject)
    if case is None:
        found = _of_package(Path(subject), data, against, device, release, units)
    else:
        if against is not None:
            raise UserError(f"--against is for packages without their run; {subject} has its own; leave it out")
        case = replace(
            case, run=replace(case.run, target=options.target_instead(case.run.target, device, release, units))
        )
        found = _of_run(case, data, quick)
    _show(found, subject, as_json=as_json)


def _case(text: str) -> Case | None:
    """The run that is named, or that a package lies in; None of another package."""
    from coreml_pareto.search.diagnosis.case import Case
    from coreml_pareto.search.outcome import Scored
    from coreml_pareto.search.record import begun
    from coreml_pareto.search.study import load_run

    if (named := options.named_trial(text)) is not None:
        return Case(named[0], only=named[1].trial)
    path = Path(text)
    if path.suffix != ".mlpackage":
        return Case(load_run(path))
    above = path.resolve().parents
    if len(above) < 4 or not begun(above[3]):
        return None
    run = load_run(above[3])
    own = (
        one
        for one in run.scored()
        if isinstance(one.outcome, Scored) and one.outcome.package.resolve() == path.resolve()
    )
    result = next(own, None)
    return None if result is None else Case(run, only=result.trial)


def _of_run(case: Case, data: str | None, quick: bool) -> Diagnosis:
    from coreml_pareto.search.diagnosis.examine import examine
    from coreml_pareto.search.storage.packages import bring

    bring(case.front)
    if not quick and case.packages:
        from coreml_pareto.search.diagnosis.measuring import measure

        pictures = _pictures(case, data)
        if pictures is not None:
            with _progress() as tell:
                case = replace(case, measured=measure(case, pictures, tell))
    return examine(case)


def _pictures(case: Case, data: str | None) -> DataSet | None:
    """The pictures of the run, with as many training images as it used; None, and why on stderr, where they are gone."""
    from coreml_pareto.search.preparation import limited, read

    if case.plan is None:
        return None
    plan = case.plan if data is None else case.plan.model_copy(update={"data": data})
    try:
        return limited(read(plan), plan)
    except UserError as refusal:
        if data is not None:
            raise
        typer.echo(f"The pictures of the run cannot be read, so nothing is measured: {refusal}", err=True)
        return None


def _of_package(
    path: Path, data: str | None, against: Path | None, device: str | None, release: int | None, units: str | None
) -> Diagnosis:
    from coreml_pareto.objectives.paired import compare
    from coreml_pareto.objectives.program import load, require_finite
    from coreml_pareto.search.comparison import Contender, common_pictures, contest
    from coreml_pareto.search.diagnosis.examine import Drop, examine_package, require_same_network

    if (data is None) != (against is None):
        raise UserError(
            "a package without its run is judged against another one on pictures; give --against and --data, or neither"
        )
    program = load(path)
    require_finite(program)
    chosen = device or options.DEFAULT_DEVICE
    target = options.target_of(program, chosen, release, units or "ALL")
    if data is None or against is None:
        return examine_package(program, target)
    plain = load(against)
    require_finite(plain)
    require_same_network(program, plain)
    target = max(
        target, options.target_of(plain, chosen, release, units or "ALL"), key=lambda one: one.os
    )  # opens both
    pictures = common_pictures([plain, program], data, "test", None)
    contenders = [Contender("A", str(against), plain), Contender("B", str(path), program)]
    found = contest(contenders, pictures, target)
    targets = pictures.open_test("diagnose").targets
    whole, own = (one.predicted == targets for one in found.answers)
    return examine_package(program, target, Drop(compare(whole, own), str(against), data))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is run; nothing where stderr is no terminal."""
    from rich.console import Console

    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield lambda doing: None
        return
    with screen.status("") as status:
        yield lambda doing: status.update(doing)


def _show(found: Diagnosis, subject: str, *, as_json: bool) -> None:
    from coreml_pareto.search.report import findings

    if as_json:
        options.print_json({"subject": subject, **findings.as_json(found)})
    else:
        options.console(markup=False).print(findings.shown(found), soft_wrap=False)
