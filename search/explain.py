"""What is wrong with a study, in a sentence?  pydantic's problems in the words of whoever writes YAML."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from reprlib import Repr
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo


def explain(error: ValidationError, model: type[BaseModel], content: Mapping[str, Any], place: str) -> str:
    """Return one sentence for each of the first two keys that are wrong: where, what is legal, what came."""
    told: dict[str, str] = {}
    for problem in error.errors():
        keys, field = _field_at(problem["loc"], model)
        unknown = problem["type"] in ("extra_forbidden", "invalid_key")
        where = ".".join((*keys, str(problem["loc"][len(keys)])) if unknown else keys)
        if unknown:
            sentence = f"unknown key {where!r}; legal here: {', '.join(_keys_in(field, model))}."
        elif problem["type"] == "value_error":
            sentence = f"{where}: {problem['ctx']['error']}; got {_shown(content, keys)}."
        else:
            sentence = f"{where}: {_legal(field, model)}; got {_shown(content, keys)}."
        told.setdefault(where, f"{place}: {sentence}")
    return "\n".join(list(told.values())[:2])


def _field_at(location: tuple[int | str, ...], whole: Any) -> tuple[tuple[str, ...], FieldInfo | None]:
    """Return the keys that lead to a problem and the last one's field; positions and names of types follow the keys."""
    keys: tuple[str, ...] = ()
    field, model = None, whole
    for part in location:
        known = getattr(model, "model_fields", {})
        if part not in known:
            break
        keys, field = (*keys, str(part)), known[part]
        model = field.annotation
    return keys, field


def _keys_in(field: FieldInfo | None, whole: Any) -> list[str]:
    model: Any = field.annotation if field else whole
    return list(model.model_fields)


def _legal(field: FieldInfo | None, whole: Any) -> str:
    return (field and field.description) or f"a section with keys such as {', '.join(_keys_in(field, whole)[:3])}"


def _shown(content: Any, keys: tuple[str, ...]) -> str:
    """Return what the study says at a key, shortened, in the words of YAML."""
    for key in keys:
        content = content.get(key)
    if content is None:
        return "nothing"
    short = Repr()
    short.maxlist, short.maxdict, short.maxstring = 8, 8, 60
    return str(content).lower() if isinstance(content, bool | date) else short.repr(content)
