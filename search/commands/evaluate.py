"""`coreml-pareto evaluate`: the five readings of any image classifier, ours or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from coreml_pareto.search.commands import options
from coreml_pareto.spaces.errors import UserError

INPUT = "For packages that do not say it themselves"
_DATA = "Pictures: a folder with one folder per class, or `digits`."
_SPLIT = "train, validation or test."
_SEED = "Draws splits that the data does not bring. [default: the package's own, else 0]"
MEAN = "Tensor inputs: subtracted from pixels in 0..1; one number or three, 0.485,0.456,0.406."
STD = "Tensor inputs: divided by; one number or three."
LABELS = "Packages without labels: one class per line, in the order of the outputs."


def evaluate_command(
    package: options.Package,
    data: Annotated[str, typer.Option(help=_DATA)],
    split: Annotated[str, typer.Option(help=_SPLIT)] = "test",
    seed: Annotated[int | None, typer.Option(help=_SEED)] = None,
    device: options.DeviceName = options.DEFAULT_DEVICE,
    release: options.Release = None,
    units: options.Units = "ALL",
    mean: Annotated[str | None, typer.Option(rich_help_panel=INPUT, help=MEAN)] = None,
    std: Annotated[str | None, typer.Option(rich_help_panel=INPUT, help=STD)] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", rich_help_panel=INPUT, help=LABELS)] = None,
    as_json: options.Json = False,
) -> None:
    """Run a package on labelled pictures and read its accuracy, size, latency, memory and energy.

    Example: `coreml-pareto evaluate model.mlpackage --data ./photos --split test`
    """
    from coreml_pareto.objectives.program import load, require_finite
    from coreml_pareto.search import evaluation
    from coreml_pareto.search.commands.estimate import show
    from coreml_pareto.search.data import load_data

    if split not in get_args(evaluation.SplitName):
        raise UserError(f"a split is train, validation or test; got {split!r}; name one of them")
    normalisation = evaluation.parse_normalisation(mean, std)
    given = None if labels is None else evaluation.read_labels(labels)
    program = load(package)
    require_finite(program)
    target = options.target_of(program, device, release, units)
    drawn = evaluation.splitting_of(program, seed)
    pictures = load_data(
        data, seed=drawn.seed, validation_share=drawn.validation, test_share=drawn.test,
        max_broken_share=drawn.max_broken, limit=drawn.limit,
    )  # fmt: skip
    name = cast("evaluation.SplitName", split)
    judged = evaluation.judge(program, pictures, target, split=name, normalisation=normalisation, labels=given)
    images = judged.score["top1"].conditions["images"]
    notes = (f"accuracy on {images} {split} images of {pictures.name}, 95 % Wilson intervals", *judged.notes)
    facts = {"data": pictures.name, "split": split, "split_seed": drawn.seed, "images": int(images)}
    show(program, target, judged.score, as_json=as_json, notes=notes, facts=facts)
