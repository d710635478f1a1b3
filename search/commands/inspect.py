"""`coreml-pareto inspect`: how a package's weights are stored, what compression did, where bytes go, what devices gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from rich.table import Table

    from coreml_pareto.objectives.devices.schemes import Use
    from coreml_pareto.objectives.program import Program
    from coreml_pareto.search.inspection import Inspection, Row


def inspect_command(package: options.Package, as_json: options.Json = False) -> None:
    """Show every weight of any Core ML package: shape, compression asked and applied, bits, bytes, noise, and why not.

    Bits and bytes count tables, scales, offsets and masks. Signal-to-noise ratios and reasons come from the record that
    our own packages carry; a ratio of 999 dB in the JSON is a weight that lost nothing.

    Example: `coreml-pareto inspect model.mlpackage --json`
    """
    from coreml_pareto.objectives.program import load
    from coreml_pareto.search.inspection import inspect

    program = load(package, any_inputs=True)
    found = inspect(program)
    if as_json:
        options.print_json(described(program, found))
    else:
        _show(program, found)


def described(program: Program, found: Inspection) -> dict[str, Any]:
    """A package for machines."""
    layers = [row for row in found.rows if row.layer]
    sizes = found.sizes
    return {
        "package": str(program.path.absolute()),
        "minimum_os": _systems(program)[0],
        "asked": found.asked,
        "training": _training(program) or None,
        "warning": found.warning or None,
        "notes": list(found.notes),
        "devices": {use.name: use.data for use in _uses(program, found)},
        "weights": [_flat(row) for row in found.rows],
        "totals": {
            "weights": len(found.rows),
            "elements": found.elements,
            "bits_per_weight": found.bits_per_weight,
            "layers": len(layers),
            "layers_otherwise": sum(row.asked not in (None, row.applied) for row in layers),
            "layers_not_compressed": sum(not row.compressed for row in layers),
            "weight_bytes": sizes.rows,
            "weight_bytes_inline": sizes.inline,
            "weight_bytes_shared": sizes.shared,
            "numbers_bytes": sizes.weights,
            "constants_bytes": sizes.constants,
            "framing_bytes": sizes.framing,
            "program_bytes": sizes.program,
            "other_bytes": sizes.other,
            "size_bytes": sizes.total,
        },
    }


def _flat(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "shape": list(row.shape),
        "elements": row.elements,
        "asked": row.asked,
        "applied": row.applied,
        "bits_per_weight": row.bits_per_weight,
        "bytes": row.stored_bytes,
        "snr_db": row.snr_db,
        "reason": row.reason or None,
    }


def _systems(program: Program) -> tuple[str, ...]:
    """The oldest systems that open the package."""
    from coreml_pareto.search.report.words import systems

    oldest = options.oldest_release(program)
    return (program.minimum_os,) if oldest is None else systems(oldest)


def _uses(program: Program, found: Inspection) -> tuple[Use, ...]:
    """What is known on devices of the forms in which convolutions and linear layers are stored."""
    from coreml_pareto.objectives.devices.schemes import uses_of

    return uses_of((row.applied for row in found.rows if row.layer), options.oldest_release(program))


def _show(program: Program, found: Inspection) -> None:
    from coreml_pareto.search.report.tables import device_notes, device_table

    screen = options.console(markup=False)
    screen.print(f"{program.path.name}, opens on {' / '.join(_systems(program))} and newer", style="bold")
    if told := _made(program, found):
        screen.print(told)
    reasons = list(dict.fromkeys(row.reason for row in found.rows if row.reason))
    screen.print(_weight_table(found.rows, reasons))
    for number, reason in enumerate(reasons, 1):
        screen.print(f"{number:>3}  {reason}", style="dim")
    screen.print(_byte_table(found))
    if found.warning:
        screen.print(found.warning, style="yellow")
    for note in found.notes:
        screen.print(note, style="dim")
    if uses := _uses(program, found):
        screen.print(device_table(uses))
        screen.print(device_notes(uses))


def _made(program: Program, found: Inspection) -> str:
    """What was asked of the whole package, and what its metadata says of calibration and fine-tuning."""
    facts = _training(program)
    told = [] if found.asked is None else [f"asked {found.asked}"]
    if "calibration" in facts:
        told.append(f"{facts['calibration']} of {facts['calibration_images']} images")
    if facts.get("fine_tune_epochs"):
        told.append(f"fine-tuned {facts['fine_tune_epochs']} epochs (ratios against the weights trained so)")
    return ", ".join(told)


def _training(program: Program) -> dict[str, Any]:
    import json

    from coreml_pareto.objectives.preprocessing import PREFIX

    try:
        facts = json.loads(program.metadata.get(f"{PREFIX}training", "{}"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _weight_table(rows: Sequence[Row], reasons: Sequence[str]) -> Table:
    """A line for each weight, reasons as the numbers of the notes below it; empty columns are left out."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    numbers = {reason: str(number) for number, reason in enumerate(reasons, 1)}
    cells: dict[str, Callable[[Row], str]] = {**_CELLS, "why": lambda row: numbers.get(row.reason, "")}
    columns = {head: say for head, say in cells.items() if any(map(say, rows))}
    for head in columns:
        worded = head in ("weight", "shape", "asked", "applied")
        table.add_column(head, justify="left" if worded else "right", overflow="fold", no_wrap=not worded)
    for row in rows:
        table.add_row(*(say(row) for say in columns.values()), style="yellow" if row.reason else "")
    return table


def _noise(row: Row) -> str:
    from coreml_pareto.objectives.program.record import LOSSLESS

    if row.snr_db is None:
        return ""
    return "∞" if row.snr_db >= LOSSLESS else f"{row.snr_db:.1f}"


_CELLS: Mapping[str, Callable[[Row], str]] = {
    "weight": lambda row: row.name,
    "shape": lambda row: "×".join(map(str, row.shape)),
    "elements": lambda row: f"{row.elements:,}",
    "asked": lambda row: row.asked or "",
    "applied": lambda row: row.applied,
    "bits": lambda row: f"{row.bits_per_weight:.2f}",
    "bytes": lambda row: f"{row.stored_bytes:,}",
    "SNR dB": _noise,
}


def _byte_table(found: Inspection) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column()
    for _ in range(2):
        table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for name, amount, note in _byte_rows(found):
        table.add_row(name, f"{amount:,} B", f"{100 * amount / found.sizes.total:.1f} %", note)
    return table


def _byte_rows(found: Inspection) -> Iterator[tuple[str, int, str]]:
    sizes, bits = found.sizes, found.bits_per_weight
    over = "" if bits is None else f"{bits:.3f} bits per weight ({found.elements:,} elements)"
    elsewhere = [f"{sizes.inline:,} B more stand in the program's text"] if sizes.inline else []
    elsewhere += [f"{sizes.shared:,} B are counted in several rows"] if sizes.shared else []
    yield "weight file: the weights' numbers", sizes.weights, "; ".join(elsewhere)
    if sizes.constants:
        yield "weight file: other constants", sizes.constants, ""
    yield "weight file: headers, padding", sizes.framing, ""
    yield "program text", sizes.program, ""
    yield "manifest, other files", sizes.other, ""
    yield "package", sizes.total, over
