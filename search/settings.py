"""How are values laid over a study?  Section by section; on the command line as `--set networks.width=[0.5, 1.0]`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from coreml_pareto.spaces.errors import UserError


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top, section by section."""
    laid = dict(base)
    for key, value in over.items():
        below = laid.get(key)
        laid[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return laid


def settings_of(texts: Iterable[str]) -> dict[str, Any]:
    """Read `networks.width=[0.5, 1.0]`, a key of a study and a value in YAML, as nested sections; the last one counts.

    Raises:
        UserError: no key, no `=`, or no YAML behind it.
    """
    found: dict[str, Any] = {}
    for text in texts:
        found = merged(found, _setting(text))
    return found


def _setting(text: str) -> dict[str, Any]:
    key, sign, value = text.partition("=")
    names = [name.strip() for name in key.split(".")]
    try:
        section = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # ValueError: of what looks like a date and is none, 2026-13-01
        names = []
    if not sign or not names or not all(names):
        raise UserError(f"--set is KEY=VALUE, such as 'networks.width=[0.5, 1.0]'; got {text!r}; write it so")
    for name in reversed(names):
        section = {name: section}
    return dict(section)
