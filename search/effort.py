"""How much work is a training with its packages, next to another one?  A number without unit, the same on every machine.

Seconds would differ from run to run, and a search that was killed could not go on as it would have (only what no longer fits
into a timeout is told by seconds: `remaining.py`). So seconds are foretold
from the multiply-accumulates of the networks: small ones are bound by their layers, not by their arithmetic, and over
`benchmarks/trainings_table.py` (digits, one core) the seconds per image grow with the power 0.6 of them, for each of five
backbones (0.58 to 0.66), which differ by a factor of 2.5 at the most. A teacher only looks at each image, a third of a
training step. Converting, compressing and reading the packages of a training takes as long as 6e7 of these units, whatever
the network.
"""

from __future__ import annotations

from typing import Final

WORK: Final = "macs"
"""The reading that effort follows from."""
EXPONENT: Final = 0.6
LOOKING: Final = 1 / 3
PACKAGING: Final = 6e7
SHARED: Final = 1 / 4
"""Of a teacher's own training, that its first student bears: others will learn from it, where there is time."""


def effort(
    images: int, macs: float, teacher_macs: float = 0.0, teacher_images: int = 0, shared: float = SHARED
) -> float:
    """Return the effort of a training with its packages.

    Args:
        images: that are looked at, epochs × training images.
        macs: of the network, for one image.
        teacher_macs: of the teacher, if there is one.
        teacher_images: at which the teacher has to look first, where it is not trained yet.
        shared: of that, what counts.
    """
    student, teacher = macs**EXPONENT, teacher_macs**EXPONENT
    return float(images * (student + LOOKING * teacher) + shared * teacher_images * teacher + PACKAGING)
