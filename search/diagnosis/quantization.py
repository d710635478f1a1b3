"""Excessive quantization: does a compression cost more than it should?  Against the same network uncompressed.

Both packages were judged on the same validation images, so the drop is paired (`objectives.paired`), at a level at which all
intervals of a run hold together (Bonferroni). TOLERATED: 8 bits keep most networks within 2 % of floating point without any
training (R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", arXiv:1806.08342), and close
to it with current methods (M. Nagel et al., "A white paper on neural network quantization", arXiv:2106.08295). A drop is
found where its whole interval lies above; what would hold is the smallest other package of the same training whose drop is
no more than tolerated.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.paired import Difference, compare
from coreml_pareto.objectives.program import load
from coreml_pareto.search.diagnosis.case import Case, right_of_result, uncompressed
from coreml_pareto.search.diagnosis.finding import Check, Evidence, Finding, quantile
from coreml_pareto.search.inspection import inspect
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report.words import many
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.compression import UNCOMPRESSED, spell

FAILURE: Final = "excessive quantization"
CAUSE: Final = "drop against the same network uncompressed"
TOLERATED: Final = 0.01
"""Top-1 that a compression may cost, as a share."""
SEVERE: Final = 0.05
MILDER: Final = ("int8/channel", "mixed-6")
"""What is tried where nothing on record holds; iOS 16 loads both."""
NAMED: Final = 3
"""So many layers are named."""


@final
@dataclass(frozen=True, eq=False)
class Loss:
    """A compressed package, the uncompressed one of its training, and what was lost: top-1 of the latter minus the former."""

    plain: Result
    result: Result
    drop: Difference


def check(case: Case) -> Iterator[Finding | Check]:
    """Every compressed package of the run against the uncompressed one of its training; one finding for each scheme."""
    losses, alone = _losses(case)
    asked = [loss for loss in losses if case.asked(loss.result)]
    excessive = [loss for loss in asked if loss.drop.low > TOLERATED]
    by_scheme: dict[str, list[Loss]] = {}
    for loss in sorted(excessive, key=lambda loss: -loss.drop.low):
        by_scheme.setdefault(spell(loss.result.candidate.compression), []).append(loss)
    yield from (_finding(case, scheme, found, losses) for scheme, found in by_scheme.items())
    if asked:
        told = f"{many(len(asked), 'compressed package')} against the uncompressed one of the same training, paired"
        yield Check(FAILURE, CAUSE, "found" if excessive else "healthy", told)
    if alone:
        told = (
            f"{many(alone, 'compressed package')} without an uncompressed one of the same training on the same images"
        )
        yield Check(FAILURE, CAUSE, "unknown", f"{told}: add fp16 to the study's compressions")
    if not asked and not alone:
        yield Check(FAILURE, CAUSE, "unknown", "no compressed package")


def _losses(case: Case) -> tuple[list[Loss], int]:
    """All that can be compared, and how many cannot."""
    pairs: list[tuple[Result, Result, NDArray[np.bool_], NDArray[np.bool_]]] = []
    alone = 0
    for group in case.by_training:
        plain = uncompressed(group)
        whole = None if plain is None else right_of_result(plain)
        for result in (one for one in group if one.candidate.compression.scheme not in UNCOMPRESSED):
            right = right_of_result(result)
            if plain is None or whole is None or right is None or len(right) != len(whole):
                alone += case.asked(result)
            else:
                pairs.append((plain, result, whole, right))
    z = quantile(len(pairs))
    return [Loss(plain, result, compare(whole, right, z)) for plain, result, whole, right in pairs], alone


def _finding(case: Case, scheme: str, found: Sequence[Loss], losses: Sequence[Loss]) -> Finding:
    worst = found[0]
    drop, trial = worst.drop, worst.result.trial
    several = f"; the same in {many(len(found) - 1, 'other package')}" if len(found) > 1 else ""
    remedy, command = _remedy(case, scheme, worst, losses)
    return Finding(
        failure=FAILURE,
        cause=CAUSE,
        severity="severe" if drop.low > SEVERE else "warning",
        subject=f"trial {trial}, {worst.result.candidate.network.label} as {scheme}",
        trials=tuple(loss.result.trial for loss in found),
        what=(
            f"{scheme} costs {100 * drop.value:.1f} points of top-1 (at least {100 * drop.low:.1f}) against the same network "
            f"uncompressed, trial {worst.plain.trial}{several}."
        ),
        evidence=(
            Evidence("drop", 100 * drop.value, "points", _how(losses), 100 * drop.low, 100 * drop.high),
            Evidence("images", drop.images, "1", "exact"),
        ),
        remedy=remedy,
        command=command,
        layers=case.measured.layers.get(trial) or noisiest(worst.result),
    )


def _how(losses: Sequence[Loss]) -> str:
    joint = "" if len(losses) == 1 else f", {len(losses)} intervals that hold together"
    return f"measured, paired, 95 %{joint}"


def _remedy(case: Case, scheme: str, worst: Loss, losses: Sequence[Loss]) -> tuple[str, str]:
    """What would hold, from the trials on record; else fine-tuning and mixed precision, as a search."""
    held = holding(worst, losses)
    run = case.run.folder
    if held is not None:
        name, size = spell(held.result.candidate.compression), held.result.score["size_bytes"].value / 1e6
        lost = f"{100 * abs(held.drop.value):.1f} points {'gained' if held.drop.value < 0 else 'lost'}"
        remedy = f"{name} of the same training holds: trial {held.result.trial}, {size:.3f} MB, {lost}."
        names = (f"{run}:{worst.result.trial}", f"{run}:{held.result.trial}")
        return remedy, shlex.join(["coreml-pareto", "compare", *names, "--split", "validation"])
    forms = ", ".join(dict.fromkeys(("fp16", scheme, *MILDER)))
    remedy = (
        f"No smaller package of this training holds: fine-tune under {scheme}, or spend the bits where they are needed."
    )
    return remedy, case.search("milder", f"compression=[{forms}]", "training.fine_tune_epochs=[0, 2]")


def holding(worst: Loss, losses: Sequence[Loss]) -> Loss | None:
    """The smallest package of the same training, smaller than the uncompressed one, that loses no more than tolerated."""
    plain = worst.plain.score["size_bytes"].value
    sound = [
        loss
        for loss in losses
        if loss.plain is worst.plain and loss.drop.value <= TOLERATED and loss.result.score["size_bytes"].value < plain
    ]
    return min(sound, key=lambda loss: loss.result.score["size_bytes"].value, default=None)


def noisiest(result: Result) -> tuple[str, ...]:
    """The layers to whose weights the compression added most noise, as the package's own record says; none without it."""
    if not isinstance(result.outcome, Scored) or not result.outcome.package.is_dir():
        return ()
    return noisiest_of(result.outcome.package)


def noisiest_of(package: Path) -> tuple[str, ...]:
    """The same of a package."""
    known = [(row.snr_db, row.name) for row in inspect(load(package)).rows if row.snr_db is not None and row.compressed]
    return tuple(f"{name}: weights at {snr:.0f} dB" for snr, name in sorted(known)[:NAMED])
