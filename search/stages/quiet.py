"""coremltools without its noise, for the stages; see `objectives/program/quiet.py`."""

from __future__ import annotations

from coreml_pareto.objectives.program.quiet import coremltools, quiet

__all__ = ["coremltools", "quiet"]
