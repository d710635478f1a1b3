"""Pictures to train, validate and test on, from any source, checked, decoded once and split."""

from __future__ import annotations

from coreml_pareto.search.data.dataset import DataSet, Report, Split
from coreml_pareto.search.data.load import load_data

__all__ = ["DataSet", "Report", "Split", "load_data"]
