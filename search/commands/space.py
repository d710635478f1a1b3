"""`coreml-pareto space`: what a study may choose from, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from coreml_pareto.search.config import Plan
    from coreml_pareto.search.reach import Reach
    from coreml_pareto.spaces.space import Space

_DATA = "Pictures, as in `search`: their classes decide what a package weighs."
_STUDY = "A study file (YAML) or a preset."


def space_command(
    study: Annotated[str, typer.Argument(help=_STUDY)],
    data: Annotated[str | None, typer.Option(help=_DATA)] = None,
    as_json: options.Json = False,
    max_size: options.MaxSize = None,
    max_latency: options.MaxLatency = None,
    max_memory: options.MaxMemory = None,
    max_energy: options.MaxEnergy = None,
    min_top1: options.MinTop1 = None,
    strict: options.Strict = False,
) -> None:
    """Print a study's knobs, the number of candidates, what each compression needs and does on Apple's devices.

    Speeds are published times as shares of fp16's; the notes tell which unit profits, open reports and sources. With
    limits and pictures: whether the limits can be kept, by probes with random weights, as `search` shows it.

    Examples: `coreml-pareto space quickstart`, `coreml-pareto space quickstart --max-size 100KB`
    """
    from coreml_pareto.search.config import load_plan

    texts = {
        "size": max_size, "latency": max_latency, "memory": max_memory, "energy": max_energy, "accuracy": min_top1,
    }  # fmt: skip
    given: dict[str, Any] = {"limits": {name: text for name, text in texts.items() if text is not None}}
    given |= {"data": data} if data else {}
    plan = load_plan(study, given | ({"strict": True} if strict else {}))
    space = plan.space(classes=2)  # the number of classes changes no choice
    described, reach = describe(plan, space), _reach(plan)
    if as_json:
        options.print_json(described | {"limits": None if reach is None else _reached(reach)})
        return
    _show(plan, space, described)
    _show_reach(plan, reach)


def _reach(plan: Plan) -> Reach | None:
    """What probes tell of the limits that need no training; None without such limits or without pictures."""
    import time

    from coreml_pareto.search.budget import suited
    from coreml_pareto.search.preparation import limited, read
    from coreml_pareto.search.prospects import reach_of
    from coreml_pareto.search.reach import before_training, probe_seconds
    from coreml_pareto.search.store import Store

    if not before_training(plan.bounds) or plan.data is None:
        return None
    with options.console(markup=False).status("reading the pictures") as status:
        data = read(plan)
        plan = suited(plan, data)
        store = Store(Path(typer.get_app_dir("coreml-pareto")) / "store")
        end = time.monotonic() + probe_seconds(plan.search.seconds)
        return reach_of(plan, limited(data, plan), store, lambda: time.monotonic() >= end, status.update)


def _reached(reach: Reach) -> dict[str, Any]:
    """For each limit, and `all` together: the least and largest share of the space that keeps it, and the least reading."""
    from coreml_pareto.objectives.catalogue import OBJECTIVES
    from coreml_pareto.search.relaxation import known
    from coreml_pareto.search.report.words import model_name

    rows: dict[str, Any] = {}
    for name, (low, high) in reach.shares.items():
        least = reach.least.get(name)
        rows[name] = {
            "limit": reach.limits.get(name), "kept_by_at_least": low, "kept_by_at_most": high,
            "least": None if least is None else known(least)[OBJECTIVES[name].reading].value,
            "reached_by": None if least is None else model_name(least),
        }  # fmt: skip
    return rows


def _show_reach(plan: Plan, reach: Reach | None) -> None:
    from coreml_pareto.search.reach import before_training
    from coreml_pareto.search.report.foreseen import reach_table
    from coreml_pareto.search.report.words import limits, unreachable

    screen = options.console(markup=False)
    if reach is not None:
        screen.print(reach_table(reach, plan.bounds))
        if reach.refusal is not None:
            screen.print("\n".join(unreachable(reach.refusal)))
    elif before_training(plan.bounds):
        screen.print(
            f"Whether {limits(plan.bounds)} can be kept depends on the pictures and their classes: give --data."
        )


def describe(plan: Plan, space: Space) -> dict[str, Any]:
    """Knobs with their values, fixed choices, count, compressions and what is known of them on devices, backbones."""
    from coreml_pareto.objectives.devices.schemes import use_of
    from coreml_pareto.spaces.compression import cell_of, spell
    from coreml_pareto.spaces.families import backbone_of, family_of

    rows = [(name, backbone_of(family_of(name), name)) for name in space.backbones]
    open_knobs = {knob.name: list(knob.choices) for knob in space.knobs()}
    left_open = _left_open(plan)
    decided = {**open_knobs, **dict.fromkeys(left_open)}
    return {
        "study": plan.name,
        "candidates": space.count(),
        "knobs": open_knobs,
        "fixed": {name: value for name, value in _single(space).items() if name not in decided},
        "left_open": left_open,
        "compressions": [
            {"compression": spell(c), "note": cell_of(c).note, **use_of(c).data} for c in space.compressions
        ],
        "backbones": [
            {
                "backbone": name, "family": family_of(name), "native_resolution": row.native_resolution,
                "width": row.scalable_width, "depth": row.scalable_depth,
            }
            for name, row in rows
        ],
    }  # fmt: skip


def _single(space: Space) -> dict[str, Any]:
    """Choices with one value: they are not asked. How activations are calibrated belongs to W8A8; 0 epochs are none."""
    from coreml_pareto.spaces.compression import UNCOMPRESSED

    lists: dict[str, tuple[Any, ...]] = {
        "family": space.families, "width": space.width, "depth": space.depth, "resolution": space.resolution,
        "stem_stride": space.stem_stride, "teacher": space.distillation.teachers, "epochs": space.lengths,
    }  # fmt: skip
    have = {compression.scheme for compression in space.compressions}
    if "w8a8" in have:
        lists |= {"calibration": space.calibration, "calibration_images": space.calibration_images}
    if have - UNCOMPRESSED and any(space.fine_tune_epochs):
        lists |= {"fine_tune_epochs": space.fine_tune_epochs}
    return {name: values[0] for name, values in lists.items() if len(values) == 1}


def _left_open(plan: Plan) -> list[str]:
    """What a search plans from the data and its timeout before it starts."""
    auto = {"resolution": plan.networks.resolution, "epochs": plan.training.epochs}
    return [name for name, value in auto.items() if value == "auto"]


def _show(plan: Plan, space: Space, described: Mapping[str, Any]) -> None:
    from coreml_pareto.objectives.devices.schemes import use_of
    from coreml_pareto.search.report.tables import device_notes, device_table

    screen = options.console(markup=False)
    heading = f"{described['study']}: {described['candidates']:,} candidates"
    screen.print(f"{heading}{_how_counted(described)}", style="bold")
    screen.print(_knob_table(described))
    if described["left_open"]:
        names = " and ".join(described["left_open"])
        screen.print(f"{names}: auto; planned by a search from its pictures and timeout", style="dim")
    screen.print(_backbone_table(described))
    uses = [use_of(compression) for compression in space.compressions]
    screen.print(device_table(uses))
    screen.print(device_notes(uses))
    unscaled = [row["backbone"] for row in described["backbones"] if not row["width"]]
    if unscaled:
        screen.print(f"No width multiplier: {', '.join(unscaled)}", style="dim")
    screen.print(f"Checked against {plan.target.device}, iOS {plan.target.os}", style="dim")


def _how_counted(described: Mapping[str, Any]) -> str:
    """What the count makes of knobs that are still `auto`: their widest choice, or nothing."""
    widest = [name for name in described["left_open"] if name in described["knobs"]]
    uncounted = [name for name in described["left_open"] if name not in described["knobs"]]
    told = [f"{name} auto: every value counted" for name in widest]
    told += [f"{name} auto: not counted" for name in uncounted]
    return f" ({'; '.join(told)})" if told else ""


def _knob_table(described: Mapping[str, Any]) -> Any:
    from rich import box
    from rich.table import Table

    from coreml_pareto.spaces.space import RUNG, RUNG_FACTOR, SMALL_IMAGE

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    table.add_column("knob")
    table.add_column("may take", overflow="fold")
    for name, choices in described["knobs"].items():
        told = f" (each {RUNG_FACTOR} times as long as the one before)" if name == RUNG else ""
        table.add_row(name, ", ".join(map(_plain, choices)) + told)
    for name, value in described["fixed"].items():
        rule = f"auto: 1 up to {SMALL_IMAGE} pixels, else 2" if name == "stem_stride" and value == "auto" else value
        table.add_row(name, f"{rule} (fixed)", style="dim")
    return table


def _backbone_table(described: Mapping[str, Any]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for head in ("backbone", "family", "published for"):
        table.add_column(head)
    for row in described["backbones"]:
        side = row["native_resolution"]
        table.add_row(row["backbone"], row["family"], f"{side}x{side} pixels")
    return table


def _plain(choice: object) -> str:
    return f"{choice:g}" if isinstance(choice, float) else str(choice)
