"""How a study writes the values of a knob: `[12, 20]`, or a lone `12`."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

Value = TypeVar("Value")


def _listed(value: object) -> object:
    """Return a lone number or word as a list of one: people write `epochs: 12`. A truth value is neither."""
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _once(values: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(values))


Choices = Annotated[tuple[Value, ...], BeforeValidator(_listed), Field(min_length=1), AfterValidator(_once)]
"""The values that a knob may take: at least one, each once, in order; a lone value counts as a list of one."""
