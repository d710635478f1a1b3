"""Counts of a confusion matrix, by brute force over single answers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.accuracy import wilson
from coreml_pareto.search.report.pictures import Pictures

CLASSES = ("a", "b", "c", "d")
answers = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


def of(pairs: list[tuple[int, int]]) -> Pictures:
    confusion = np.zeros((4, 4), dtype=np.int64)
    for truth, predicted in pairs:
        confusion[truth, predicted] += 1
    return Pictures("test", "so", CLASSES, confusion, ())


@given(answers)
def test_accuracy_by_class_counts_single_answers(pairs: list[tuple[int, int]]) -> None:
    found = of(pairs)
    assert (found.images, found.right) == (len(pairs), sum(truth == predicted for truth, predicted in pairs))
    seen = sorted({truth for truth, _ in pairs})
    assert [one.label for one in found.by_class] == [CLASSES[truth] for truth in seen]
    for one, truth in zip(found.by_class, seen, strict=True):
        own = [predicted for row, predicted in pairs if row == truth]
        assert one.images == len(own) and one.value == own.count(truth) / len(own)
        assert (one.low, one.high) == pytest.approx(wilson(own.count(truth), len(own)))


@given(answers, st.integers(1, 12))
def test_mixups_are_the_most_frequent_wrong_pairs(pairs: list[tuple[int, int]], most: int) -> None:
    wrong = Counter((CLASSES[t], CLASSES[p]) for t, p in pairs if t != p)
    rows = Counter(CLASSES[t] for t, _ in pairs)
    found = of(pairs).mixups(most)
    assert len(found) == min(most, len(wrong))
    assert [one.count for one in found] == [count for _, count in wrong.most_common(most)]
    assert all(wrong[one.truth, one.predicted] == one.count for one in found)
    assert all(one.share == one.count / rows[one.truth] for one in found)
