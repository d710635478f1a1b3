"""`coreml-pareto evaluate`: the five readings of any image classifier, ours or not."""

from __future__ import annotations

from coreml_pareto.search.commands import options


def evaluate_command(
    package: options.Package,
    data: options.Data,
    split: options.SplitName = "test",
    seed: options.Seed = None,
    device: options.DeviceName = options.DEFAULT_DEVICE,
    release: options.Release = None,
    units: options.Units = "ALL",
    mean: options.Mean = None,
    std: options.Std = None,
    labels: options.Labels = None,
    as_json: options.Json = False,
) -> None:
    """Run a package on labelled pictures and read its accuracy, size, latency, memory and energy.

    Example: `coreml-pareto evaluate model.mlpackage --data ./photos --split test`
    """
    from coreml_pareto.objectives.program import load, require_finite
    from coreml_pareto.search import evaluation
    from coreml_pareto.search.commands.estimate import show

    name = evaluation.split_named(split)
    normalisation = evaluation.parse_normalisation(mean, std)
    given = None if labels is None else evaluation.read_labels(labels)
    program = load(package)
    require_finite(program)
    target = options.target_of(program, device, release, units)
    drawn = evaluation.splitting_of(program, seed)
    pictures = evaluation.load_pictures(data, drawn)
    judged = evaluation.judge(program, pictures, target, split=name, normalisation=normalisation, labels=given)
    images = judged.score["top1"].conditions["images"]
    notes = (f"accuracy on {images} {split} images of {pictures.name}, 95 % Wilson intervals", *judged.notes)
    facts = {"data": pictures.name, "split": split, "split_seed": drawn.seed, "images": int(images)}
    show(program, target, judged.score, as_json=as_json, notes=notes, facts=facts)
