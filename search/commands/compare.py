"""`coreml-pareto compare`: packages against each other on the same images, with a verdict in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.objectives.devices.catalogue import Target
    from coreml_pareto.objectives.program import Program
    from coreml_pareto.search.comparison import Comparison, Contender
    from coreml_pareto.search.run import Run

_PACKAGES = (
    "Two or more: NAME.mlpackage, or RUN:TRIAL, a trial of a search. The first is what others are compared with."
)
_DATA = "Labelled pictures, as for `evaluate`. [default: those of the run, where a trial is named]"
_ALL = "Compare every two of them, not each with the first alone."
_IMAGES = "How many images with different answers are shown; --json has all."
TOLD = 8
"""Pairs, up to which each has its sentence; beyond, the table and --json tell."""


def compare_command(
    packages: Annotated[list[str], typer.Argument(metavar="PACKAGE|RUN:TRIAL…", help=_PACKAGES)],
    data: Annotated[str | None, typer.Option(help=_DATA)] = None,
    split: options.SplitName = "test",
    seed: options.Seed = None,
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help=_ALL)] = False,
    images: Annotated[int, typer.Option(min=0, help=_IMAGES)] = 10,
    device: options.OtherDevice = None,
    release: options.OtherRelease = None,
    units: options.OtherUnits = None,
    mean: options.Mean = None,
    std: options.Std = None,
    labels: options.Labels = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Compare packages on the same images: accuracy by McNemar's exact test, the rest by ratios with intervals.

    Each package is fed as it asks to be: own input size, pre-processing and order of labels. Where no difference is
    shown, the verdict says so, and what size of difference the images leave open.

    Examples: `coreml-pareto compare old.mlpackage new.mlpackage --data ./photos`,
    `coreml-pareto compare runs/birds:12 runs/birds:40 --split validation`
    """
    from coreml_pareto.search import comparison, evaluation

    part = evaluation.split_named(split)
    normalisation = evaluation.parse_normalisation(mean, std)
    given = None if labels is None else evaluation.read_labels(labels)
    contenders, run = _contenders(packages)
    target = _target([one.program for one in contenders], run, device, release, units)
    pictures = comparison.common_pictures([one.program for one in contenders], _data(data, run), part, seed)
    found = comparison.contest(
        contenders, pictures, target, split=part, all_pairs=all_pairs, normalisation=normalisation, labels=given
    )
    facts = (f"{len(found.answers[0].predicted)} {part} images of {pictures.name}", _seen(part))
    if as_json:
        _print_json(found, target, facts)
    else:
        _show(found, target, facts, images)


def _contenders(texts: Sequence[str]) -> tuple[list[Contender], Run | None]:
    """The packages by letters, and the first run that is named."""
    from coreml_pareto.objectives.program import load, require_finite
    from coreml_pareto.search.comparison import MOST, Contender

    if not 2 <= len(texts) <= MOST:
        raise UserError(f"a comparison is of 2 to {MOST} packages; got {len(texts)}; name as many")
    found: list[Contender] = []
    runs: list[Run] = []
    for place, text in enumerate(texts):
        path, name, run = _located(text)
        program = load(path)
        require_finite(program)
        found.append(Contender(chr(ord("A") + place), name, program))
        runs += [] if run is None else [run]
    return found, runs[0] if runs else None


def _located(text: str) -> tuple[Path, str, Run | None]:
    """Where a package lies and what it is called; RUN:TRIAL where no file has that name."""
    from coreml_pareto.search.outcome import Scored
    from coreml_pareto.search.report.words import model_name
    from coreml_pareto.search.storage.packages import bring

    named = options.named_trial(text)
    if named is None:
        return Path(text), text, None
    run, result = named
    bring([result])
    assert isinstance(result.outcome, Scored)
    return result.outcome.package, f"{text}, {model_name(result)}", run


def _data(given: str | None, run: Run | None) -> str:
    """What `--data` names, else the pictures of the run."""
    from coreml_pareto.search.record import PLAN, stored_plan

    if given is not None:
        return given
    data = None if run is None else stored_plan(run.folder / PLAN).data
    if data is None:
        raise UserError(
            "a comparison needs labelled pictures; got none; give --data, or name trials of a run, RUN:TRIAL"
        )
    return str(data)


def _target(
    programs: Sequence[Program], run: Run | None, device: str | None, release: int | None, units: str | None
) -> Target:
    """The run's target with what was given replaced; without a run the usual one, on a system that opens all packages."""
    if run is not None:
        return options.target_instead(run.target, device, release, units)
    chosen = device or options.DEFAULT_DEVICE
    targets = [options.target_of(program, chosen, release, units or "ALL") for program in programs]
    return max(targets, key=lambda target: target.os)


def _seen(split: str) -> str:
    """What choosing by this comparison does to these images."""
    if split == "test":
        return "test images that a choice is made by are no test of what was chosen: choose with --split validation"
    return f"a search that chose by its {split} images has flattered what it found on them: --split test has not"


def _show(found: Comparison, target: Target, facts: Sequence[str], images: int) -> None:
    from coreml_pareto.search.report import compared, words

    screen = options.console(markup=False)
    for one in found.answers:
        screen.print(f"{one.contender.letter}  {one.contender.name}", style="bold")
    for pair in found.pairs if len(found.pairs) <= TOLD else ():
        screen.print(f"\n{compared.verdict(pair)}")
    if len(found.pairs) == 1:
        screen.print(compared.readings_side_by_side(found))
        screen.print(compared.differences(found.pairs[0], images))
    else:
        screen.print(compared.pairs_table(found))
    origins = words.origins(target, [one.score for one in found.answers])
    for note in (*facts, "; ".join(origins), *compared.notes(found)):
        screen.print(note, style="dim")


def _print_json(found: Comparison, target: Target, facts: Sequence[str]) -> None:
    from coreml_pareto.search.commands.estimate import flat, system
    from coreml_pareto.search.report.compared import as_json

    rows = [
        {
            "package": str(one.contender.program.path.absolute()),
            **flat(one.score),
            "minimum_os": system(one.contender.program, target),
        }
        for one in found.answers
    ]
    told = as_json(found, rows)
    options.print_json({**target.conditions, **told, "notes": [*facts, *told["notes"]]})
