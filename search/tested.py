"""What does a run know of its test split, and how often was that read?

Test accuracies are shown, never ranked or filtered by; the search never sees them. But people do, and what is searched on
after somebody has seen them was chosen knowing them. So the record keeps every reading: when, and after how many trials.
Facts of the study (`Study.note`): one for each package's reading, because some storages hold 64 KB in a fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, final

from coreml_pareto.objectives.reading import Reading

Facts = Mapping[str, Any]
TOP1: Final = "test_top1"
"""Begins the facts `test_top1 TRIAL`; alone, the fact of runs made before, with all readings by trial."""
LOOKS: Final = "test_looks"


@final
@dataclass(frozen=True)
class Look:
    """One reading of the test split: UTC, ISO 8601, and how many trials there were; None where it was not recorded."""

    when: str | None
    trials: int | None


def fact_of(trial: int) -> str:
    """Under which name the test reading of a package is kept."""
    return f"{TOP1} {trial}"


def test_readings(facts: Facts) -> dict[int, Reading]:
    """Test top-1 by trial, as far as it was read."""
    plain = {int(number): reading for number, reading in facts.get(TOP1, {}).items()}
    plain |= {int(name.removeprefix(f"{TOP1} ")): facts[name] for name in facts if name.startswith(f"{TOP1} ")}
    return {number: Reading.from_dict(reading) for number, reading in plain.items()}


def looks(facts: Facts) -> tuple[Look, ...]:
    """Every reading of the test split, the first one first; of a run made before they were kept, that there was one."""
    before = (Look(None, None),) if facts.get(TOP1) else ()
    return before + tuple(Look(**plain) for plain in facts.get(LOOKS, ()))


def looked(facts: Facts, trials: int) -> list[dict[str, Any]]:
    """The fact `test_looks` once the split is read again; readings after as many trials, a kill between them, are one."""
    known: list[dict[str, Any]] = list(facts.get(LOOKS, ()))
    if known and known[-1]["trials"] == trials:
        return known
    return [*known, {"when": datetime.now(UTC).isoformat(timespec="seconds"), "trials": trials}]


def told(seen: Sequence[Look], trials: int) -> str:
    """`Test was read 2 times, first after 45 of 90 trials: …`; empty where nothing was searched since, as far as is known."""
    times = [look.trials for look in seen if look.trials is not None]
    if not seen or (len(seen) == 1 and times in ([], [trials])):
        return ""
    first = "first by an older version" if seen[0].trials is None else f"first after {times[0]} of {trials} trials"
    return f"Test was read {counted(len(seen))}, {first}: whoever searched on could know it."


def counted(times: int) -> str:
    """`once`, `3 times`."""
    return "once" if times == 1 else f"{times} times"
