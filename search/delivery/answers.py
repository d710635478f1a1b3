"""What does the delivered package answer to the validation pictures?  Thresholds, samples and monitoring start from it.

The same executor gave the accuracy on record, so the top-1 found here is that one; where it is not, the pictures or the
package have changed and nothing is delivered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.objectives.program import Executor, Program
from coreml_pareto.search.data import Split

Array = NDArray[np.float64]
BATCH: Final = 128


@final
@dataclass(frozen=True, eq=False)
class Answers:
    """Of n pictures and c classes, in the package's order of labels.

    Attributes:
        probabilities, logits: [n, c].
        targets: the right classes, [n].
    """

    probabilities: Array
    logits: Array
    targets: NDArray[np.int64]

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each picture; of equal ones the first."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether that is the right one."""
        found: NDArray[np.bool_] = self.predicted == self.targets
        return found

    @cached_property
    def confidence(self) -> Array:
        """Its probability."""
        return np.asarray(self.probabilities.max(axis=1))


def answers(program: Program, split: Split, rule: Preprocessing, order: NDArray[np.int64]) -> Answers:
    """Run a classifier on a split; `order` gives for each class of the data its place among the package's labels."""
    executor = Executor(program)
    found = [(*run(executor, images), order[targets]) for images, targets in split.batches(rule, BATCH)]
    return Answers(*(np.concatenate(part) for part in zip(*found, strict=True)))


def run(executor: Executor, images: NDArray[Any]) -> tuple[Array, Array]:
    """Probabilities and logits of some pictures, each [n, classes]; scores stand for both where there is no softmax."""
    program = executor.program
    scores = str(program.scores)
    logits = program.logits or scores
    values = executor.run(images, fetch=(scores, logits))
    one, other = (np.asarray(values[name], np.float64).reshape(len(images), -1) for name in (scores, logits))
    return one, other
