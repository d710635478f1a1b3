"""`coreml-pareto verify`: whether Core ML, on every compute unit, answers as the executor does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from coreml_pareto.objectives.measuring.agreement import Agreement, Expected
    from coreml_pareto.objectives.program import Program
    from coreml_pareto.search.data import DataSet

ALL_UNITS = "ALL,CPU_AND_NE,CPU_AND_GPU,CPU_ONLY"
_PATIENCE = "Seconds after which Core ML is given up on one choice of units."


def verify_command(
    package: options.Package,
    data: options.Data,
    split: options.SplitName = "test",
    seed: options.Seed = None,
    units: options.UnitsList = ALL_UNITS,
    images: Annotated[int, typer.Option(help="So many pictures of the split at most.")] = 128,
    least: Annotated[float, typer.Option("--min-snr", help="Decibels below which a value differs.")] = 30,
    patience: Annotated[float, typer.Option(help=_PATIENCE)] = 600,
    mean: options.Mean = None,
    std: options.Std = None,
    labels: options.Labels = None,
    as_json: options.Json = False,
) -> None:
    """Compare Core ML with the executor on each compute unit: logits, top-1, the first operation that differs. macOS only.

    All accuracies of a search are the executor's; this shows whether they hold for Core ML.

    Example: `coreml-pareto verify model.mlpackage --data ./photos`
    """
    from coreml_pareto.objectives.measuring.local import require_macos

    require_macos("verify", "run the package's own arithmetic with `coreml-pareto evaluate`")
    from coreml_pareto.objectives.program import load, require_finite
    from coreml_pareto.search import evaluation

    names = options.units_of(units)
    name = evaluation.split_named(split)
    program = load(package)
    require_finite(program)
    pictures = evaluation.load_pictures(data, evaluation.splitting_of(program, seed))
    reference = _reference(program, pictures, name, images, (mean, std), labels)
    found, refused = _all(program, reference, names, least, patience)
    if as_json:
        options.print_json(_described(program, pictures, split, least, found))
    elif found:
        _show(program, pictures, split, least, found)
    if refused:
        raise UserError(f"{len(refused)} of {len(names)} choices of units failed: {' | '.join(refused)}")


def _all(
    program: Program, reference: Expected, names: Sequence[str], least: float, patience: float
) -> tuple[list[Agreement], list[str]]:
    """What agrees how far, and what was refused: one choice of units that fails, or hangs, does not hide the others."""
    from coreml_pareto.objectives.measuring import worker

    found, refused = list["Agreement"](), list[str]()
    for name in names:
        typer.echo(f"Comparing on {name}", err=True)
        try:
            found.append(worker.compare_apart(program.path, reference, name, least, patience=patience))
        except UserError as error:
            refused.append(str(error))
    return found, refused


def _reference(
    program: Program,
    pictures: DataSet,
    split: Any,
    images: int,
    normalisation: tuple[str | None, str | None],
    labels: Path | None,
) -> Expected:
    """The executor's answers to the first pictures of the split."""
    import numpy as np

    from coreml_pareto.objectives.measuring.agreement import expected
    from coreml_pareto.search import evaluation

    if images < 1:
        raise UserError(f"--images is at least 1; got {images}; leave it out")
    given = None if labels is None else evaluation.read_labels(labels)
    order = evaluation.match_labels(evaluation.labels_of(program, given), pictures.classes)
    rule, _ = evaluation.preprocessing_for(program)
    batches = evaluation.inputs(
        program,
        evaluation.open_split(pictures, split, "verify"),
        rule,
        order,
        evaluation.parse_normalisation(*normalisation),
    )
    taken: list[tuple[Any, Any]] = []
    for batch in batches:
        taken.append(batch)
        if sum(len(inputs) for inputs, _ in taken) >= images:
            break
    if not taken:
        raise UserError(
            f"a comparison needs images; the {split} split of {pictures.name} is empty; name another --split"
        )
    inputs, targets = (np.concatenate(parts)[:images] for parts in zip(*taken, strict=True))
    return expected(program, inputs, targets)


def _described(
    program: Program, pictures: DataSet, split: str, least: float, found: Sequence[Agreement]
) -> dict[str, Any]:
    from dataclasses import asdict

    from coreml_pareto.objectives.measuring.records import this_mac, tool_versions
    from coreml_pareto.objectives.program import content_digest

    return {
        "package": str(program.path.absolute()),
        "digest": content_digest(program),
        **this_mac(),
        "data": pictures.name,
        "split": split,
        "min_snr_db": least,
        "units": [asdict(one) for one in found],
        "tools": tool_versions(),
    }


def _show(program: Program, pictures: DataSet, split: str, least: float, found: Sequence[Agreement]) -> None:
    screen = options.console(markup=False)
    screen.print(
        f"{program.path.name}: Core ML against the executor, {found[0].images} {split} images of {pictures.name}"
    )
    screen.print(_table(found))
    for one in found:
        for sentence in (*_differing(one, least), *one.notes):
            screen.print(f"{one.compute_units}: {sentence}", style="dim")


def _differing(one: Agreement, least: float) -> tuple[str, ...]:
    """What is to be said of logits that are off."""
    first = one.first
    if one.logits_db is None or one.logits_db >= least:
        return ()
    if first is None:
        return ("no value differs once every value is let out: Core ML computes it otherwise when it fuses operations",)
    unseen = f"; {first.unseen} values could not be seen" if first.unseen else ""
    return (f"first operation that differs: {first.kind} -> {first.value}, {first.db:.1f} dB{unseen}",)


def _table(found: Sequence[Agreement]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("units", "same top-1", "top-1 (executor's)", "scores off by", "logits off by", "logits SNR"):
        table.add_column(title)
    for one in found:
        off = "–" if one.logits_off is None else f"{one.logits_off:.3g}"
        ratio = "–" if one.logits_db is None else f"{one.logits_db:.1f} dB"
        accuracy = f"{one.top1:.1%} ({one.executor_top1:.1%})"
        table.add_row(one.compute_units, f"{one.same_top1:.1%}", accuracy, f"{one.scores_off:.3g}", off, ratio)
    return table
