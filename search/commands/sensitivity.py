"""`coreml-pareto sensitivity`: each layer alone at each legal scheme, and what that does to the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from coreml_pareto.objectives.program import Program
    from coreml_pareto.search.data import DataSet
    from coreml_pareto.search.evaluation import Normalisation
    from coreml_pareto.search.stages.sensitivity import Calibration, Sensitivity
    from coreml_pareto.search.store import Store
    from coreml_pareto.spaces.candidate import Compression

_DATA = "Pictures: a folder with one folder per class, its .tar, a .csv of paths and labels, hf:NAME, or `digits`."
_IMAGES = "How many training images the package is run on."
_SCHEMES = "Comma-separated, e.g. int8/channel,palette-4/tensor. [default: every legal one]"
_IOS = "Schemes that this release loads."
_PLOT = "Also draw layers against schemes: FILE.html (self-contained) or FILE.png."
_STORE = "Where what was measured is kept. [default: the package's run, else the user's cache]"
LATEST = 18
"""The release that loads every scheme."""

SHOWN = ("int8/channel", "palette-6/tensor", "int4/block-32", "palette-4/tensor", "palette-2/tensor", "pruning-50")
"""The columns of the table where more was measured."""

LOST = 0.03
"""Top-1 lost by one layer alone from which on its cell is marked."""


def sensitivity_command(
    package: options.Package,
    data: Annotated[str, typer.Option(help=_DATA)],
    images: Annotated[int, typer.Option(min=1, help=_IMAGES)] = 128,
    schemes: Annotated[str | None, typer.Option(metavar="NAMES", help=_SCHEMES)] = None,
    release: Annotated[int, typer.Option("--ios", "--os", metavar="N", help=_IOS)] = LATEST,
    mean: options.Mean = None,
    std: options.Std = None,
    labels: options.Labels = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help=_PLOT)] = None,
    store: Annotated[Path | None, typer.Option(metavar="DIR", help=_STORE)] = None,
    as_json: options.Json = False,
) -> None:
    """Compress each layer of an fp16 package alone, by each scheme, and measure what that does to its answers.

    Shown are signal-to-noise ratios of the logits in dB: above 40 nothing is noticed, below 10 the answers change. What
    was measured is kept and paid once. W8A8 is no scheme of one layer and is left out.

    Example: `coreml-pareto sensitivity model.mlpackage --data ./photos --plot layers.html`
    """
    from coreml_pareto.objectives.program import load, require_finite
    from coreml_pareto.search import evaluation
    from coreml_pareto.search.data import load_data
    from coreml_pareto.search.report.charts import check_path, save_figure
    from coreml_pareto.search.stages.sensitivity import sensitivity

    if plot is not None:
        check_path(plot)
    program, kept = load(package), _store(package, store)
    require_finite(program)
    chosen = _chosen(schemes, release)
    _check(program)
    given = None if labels is None else evaluation.read_labels(labels)
    normalisation = evaluation.parse_normalisation(mean, std)
    drawn = evaluation.splitting_of(program, None)
    pictures = load_data(
        data, seed=drawn.seed, validation_share=drawn.validation, test_share=drawn.test,
        max_broken_share=drawn.max_broken, limit=drawn.limit,
    )  # fmt: skip
    calibration = _calibration(program, pictures, images, given, normalisation)
    with _progress(len(chosen)) as tell:
        found = sensitivity(kept, package, calibration, chosen, tell)
    if as_json:
        options.print_json(_described(program, found, calibration))
    else:
        _show(program, found, named=schemes is not None)
    if plot is not None:
        from coreml_pareto.search.report.heatmap import sensitivity_figure
        from coreml_pareto.search.stages.compress import heavy_weights

        save_figure(sensitivity_figure(found, list(heavy_weights(program)), package.name), plot)
        typer.echo(f"Wrote {plot}", err=True)


def _chosen(texts: str | None, release: int) -> tuple[Compression, ...]:
    """The schemes that were named, or all that one layer can have."""
    from coreml_pareto.search.stages.sensitivity import NO_FORM, legal_forms
    from coreml_pareto.spaces.compression import check, parse, spell

    if texts is None:
        if forms := legal_forms(release):
            return forms
        raise UserError(f"Compressed weights need iOS 16; got --ios {release}: give --ios 16 or a later one.")
    found = tuple(dict.fromkeys(check(parse(text), os=release) for text in texts.split(",") if text.strip()))
    if odd := [spell(row) for row in found if row.scheme in NO_FORM]:
        raise UserError(
            f"--schemes names forms of one layer's weight, such as int8/channel; got {', '.join(odd)}: leave out."
        )
    if not found:
        raise UserError("--schemes names one or more, e.g. int8/channel,palette-4/tensor; got none.")
    return found


def _check(program: Program) -> None:
    """Only weights as the conversion made them can be compressed."""
    from coreml_pareto.objectives.program.record import heavy_weights as layers
    from coreml_pareto.objectives.program.record import is_compressed
    from coreml_pareto.search.stages.compress import heavy_weights

    compressed = [name for name in layers(program) if is_compressed(program, name)]
    if compressed or not any(value.dtype == "float16" for value in heavy_weights(program).values()):
        told = f"{len(compressed)} are compressed already" if compressed else "none is in fp16"
        raise UserError(
            f"sensitivity compresses the fp16 weights of convolutions and linear layers; of {program.path.name} {told}: "
            "give the fp16 package of the same network."
        )


def _calibration(
    program: Program,
    data: DataSet,
    images: int,
    labels: Sequence[str] | None,
    normalisation: Normalisation | None,
) -> Calibration:
    """Training images as the package takes them."""
    import numpy as np

    from coreml_pareto.search import evaluation
    from coreml_pareto.search.stages.sensitivity import Calibration

    order = evaluation.match_labels(evaluation.labels_of(program, labels), data.classes)
    rule, _ = evaluation.preprocessing_for(program)
    split = data.train.subset(data.train.sample(min(images, len(data.train)), seed=0))
    rows = list(evaluation.inputs(program, split, rule, order, normalisation))
    inputs, targets = (np.concatenate(part) for part in zip(*rows, strict=True))
    return Calibration.of(inputs, targets, data.digest, rule)


def _store(package: Path, given: Path | None) -> Store:
    """The store of the run that the package lies in, if it can be written; else the user's own."""
    from coreml_pareto.search.store import Store

    own = package.resolve().parents
    if given is None and len(own) > 2 and own[1].name in ("package", "convert") and os.access(own[2], os.W_OK):
        given = own[2]
    root = given or Path(typer.get_app_dir("coreml-pareto")) / "store"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"What is measured is kept in a folder; {root} is none and cannot be made: --store DIR."
        ) from error
    if not os.access(root, os.W_OK):
        raise UserError(f"What is measured is kept in a folder; {root} cannot be written: --store DIR.")
    return Store(root)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Compression], None]]:
    """A line on stderr that says which scheme is measured; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from coreml_pareto.spaces.compression import spell

    screen = Console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as line:
        task = line.add_task("", total=total)
        done = iter(range(total))
        yield lambda compression: line.update(task, completed=next(done), description=spell(compression))


def _described(program: Program, found: Sensitivity, calibration: Calibration) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "package": str(program.path.absolute()),
        "images": found.images,
        "calibration": calibration.identity,
        "top1": found.top1,
        "effects": [asdict(effect) for effect in found.effects],
    }


def _show(program: Program, found: Sensitivity, *, named: bool) -> None:
    screen = options.console(markup=False)
    screen.print(f"{program.path.name}: signal-to-noise ratio of the logits in dB, one layer compressed", style="bold")
    asked = found.compressions
    columns = asked if named or len(asked) <= len(SHOWN) else [name for name in asked if name in SHOWN]
    screen.print(_table(program, found, columns))
    lines = [
        f"{found.images} training images, top-1 {found.top1:.1%} uncompressed; ! lost {LOST:.0%} or more of it alone",
        "empty: the layer would not get smaller; pal: palette",
    ]
    if len(columns) < len(asked):
        lines.append(
            f"{len(columns)} of the {len(asked)} schemes that were measured; others: --schemes NAMES; all: --json or --plot "
            "FILE.html"
        )
    for line in lines:
        screen.print(line, style="dim")


def _table(program: Program, found: Sensitivity, columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    from coreml_pareto.search.stages.compress import heavy_weights

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("layer", no_wrap=True)
    for name in ("elements", *columns):
        table.add_column(name.replace("palette", "pal").replace("/", "/\n"), justify="right", no_wrap=True)
    cells = {(effect.layer, effect.compression): effect for effect in found.effects}
    for layer, weight in heavy_weights(program).items():
        row = [cells.get((layer, name)) for name in columns]
        texts = ["" if e is None else f"{e.logits_db:.0f}{_mark(e.top1, found.top1)}" for e in row]
        table.add_row(layer, f"{weight.size:,}", *texts)
    return table


def _mark(top1: float, whole: float) -> str:
    return "!" if whole - top1 >= LOST else " "
