"""What does a compressed package say of its own compression?  The record that the compressing side leaves in it.

Metadata, JSON: `asked`, the compression as a study writes it; `forms`, of mixed precision which form was chosen for which
layers, by their places in program order, the others being left as they were; `otherwise`, by weight, what was done
instead (null: left as it was) and why; `snr_db`, the signal-to-noise ratios of the compressed weights of convolutions
and linear layers in program order. A record is believed only where the package is as it says: whoever compresses a
package again leaves the old record in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program.program import Constant, Operation, Program
from coreml_pareto.objectives.program.realised import same_form, spellings

LAYERS: Final = f"{PREFIX}layers"
"""Metadata: what was done to each weight."""

ASKED: Final = f"{PREFIX}compression"
"""Metadata: the compression asked for, as a study writes it; packages without compressed weights carry it alone."""

LEFT: Final = "fp16"
"""What is asked of a layer that mixed precision leaves as it is."""

LOSSLESS: Final = 999.0
"""What the record writes for a weight that lost nothing, dB."""

HEAVY: Final = frozenset({"conv", "linear"})
"""The operations whose weights are compressed; biases and batch norms are not."""


@final
@dataclass(frozen=True)
class Treatment:
    """What was asked of one weight and done to it; `applied` None: left as it was. `reason` is empty when as asked."""

    asked: str
    applied: str | None
    reason: str
    snr_db: float | None


@final
@dataclass(frozen=True)
class Record:
    """What was asked for, and what was done to every weight that was considered, in program order."""

    asked: str
    layers: Mapping[str, Treatment]


def read_record(program: Program) -> tuple[Record | None, str]:
    """The record of a package; or None, and a note where there is one that cannot be believed."""
    text = program.metadata.get(LAYERS)
    if text is None:
        return None, ""
    try:
        record = _parse(text, tuple(heavy_weights(program)))
        _require_truth(record, program)
    except _Disbelieved as error:
        return None, f"The record of this package's compression is left out: {error}."
    return record, ""


def heavy_weights(program: Program) -> dict[str, Operation]:
    """The weights of convolutions and linear layers by name, in program order, with the first operation that reads each."""
    found: dict[str, Operation] = {}
    for operation in program.every:
        argument = operation.one("weight") if operation.kind in HEAVY else None
        name = argument.name if isinstance(argument, Constant) else argument
        if name is not None and (isinstance(argument, Constant) or is_compressed(program, name)):
            found.setdefault(name, operation)
    return found


def is_compressed(program: Program, name: str) -> bool:
    """Whether a weight is unpacked by an operation when the model is loaded."""
    return name in program.producers and program.producers[name].constexpr


class _Disbelieved(Exception):
    """A record that is damaged or speaks of another package."""


def _parse(text: str, names: tuple[str, ...]) -> Record:
    content = _json(text)
    asked, others, noise = (content.get(key) for key in ("asked", "otherwise", "snr_db"))
    if not (isinstance(asked, str) and isinstance(others, dict) and isinstance(noise, str)):
        raise _Disbelieved("it is damaged")
    if strange := sorted(set(others) - set(names)):
        raise _Disbelieved(f"it speaks of {strange[0]}, and no convolution or linear layer has such a weight")
    forms = _forms(content["forms"], names) if "forms" in content else dict.fromkeys(names, asked)
    done = {name: _entry(others[name]) if name in others else _as_asked(forms[name]) for name in names}
    ratios = _ratios(noise, sum(applied is not None for applied, _ in done.values()))
    return Record(
        asked,
        {
            name: Treatment(forms[name], applied, reason, None if applied is None else next(ratios))
            for name, (applied, reason) in done.items()
        },
    )


def _forms(value: object, names: tuple[str, ...]) -> dict[str, str]:
    """Of mixed precision the form that was chosen for each layer."""
    found = dict.fromkeys(names, LEFT)
    try:
        for form, places in dict(value).items():  # type: ignore[call-overload]  # what is no mapping raises
            found.update((names[int(place)], str(form)) for place in places.split())
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise _Disbelieved("its forms are damaged") from error
    return found


def _as_asked(form: str) -> tuple[str | None, str]:
    return (None if form == LEFT else form), ""


def _json(text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Disbelieved("it is damaged") from error
    return content if isinstance(content, dict) else {}


def _entry(value: object) -> tuple[str | None, str]:
    match value:
        case [str() | None as applied, str() as reason]:
            return applied, reason
    raise _Disbelieved("it is damaged")


def _ratios(text: str, count: int) -> Iterator[float]:
    try:
        found = [float(word) for word in text.split()]
    except ValueError as error:
        raise _Disbelieved("its signal-to-noise ratios are damaged") from error
    if len(found) != count or not all(map(math.isfinite, found)):
        raise _Disbelieved(f"it has {len(found)} signal-to-noise ratios for {count} compressed weights")
    return iter(found)


def _require_truth(record: Record, program: Program) -> None:
    """Raise unless every weight is stored, and read, in the form that the record tells."""
    readers = heavy_weights(program)
    for name, treatment in record.layers.items():
        told = treatment.applied or "uncompressed"
        found = spellings(program, name, readers[name]) if is_compressed(program, name) else ("uncompressed",)
        if not same_form(told, found):
            raise _Disbelieved(f"{name} is {found[0]}, not {told}; the weights were changed afterwards")
