"""Architecture mismatch, first part: does a network fit its training images, and more than those?

A. Ng, "Machine Learning Yearning", 2018, chapters 20 to 24: what a network lacks on its own training images against the best
that is known to be possible is avoidable bias (underfitting), what it loses from there to new images is variance
(overfitting). Both are measured: top-1 of the torch network on its training images as they are, without augmentation, and
of its uncompressed package on all validation images; differences of different images (`objectives.unpaired`). The best
known is that of the other trainings of the run, or the study's own limit; where neither is shown to be higher, POSSIBLE is
asked, and the finding is a notice. Of many packages the best was lucky, too: its interval is one of as many. More parameters
than images are no failure by themselves (C. Zhang et al., "Understanding deep learning requires rethinking generalization",
ICLR 2017): they are told beside the gap that they come with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from scipy.stats import norm

from coreml_pareto.objectives.accuracy import wilson
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.unpaired import Count, Gap, gap
from coreml_pareto.search.diagnosis.case import Case, right_of_result, uncompressed
from coreml_pareto.search.diagnosis.finding import Check, Evidence, Finding, quantile
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report.words import many
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.families import FAMILIES

FAILURE: Final = "architecture mismatch"
OVER, UNDER = "overfitting", "underfitting"
TOLERATED: Final = 0.05
"""Top-1 by which training images may be ahead of validation, or the best known ahead of training images, as a share."""
SEVERE: Final = 0.15
POSSIBLE: Final = 0.8
"""Top-1 on its own training images that a network is asked for where nothing better is known; judgement."""


def check(case: Case) -> Iterator[Finding | Check]:
    """The trainings of the front whose fit was measured; the others are told as unknown."""
    results = _trainings(case)
    known = [(result, fit) for result in results if (fit := _fit(case, result)) is not None]
    z = quantile(2 * len(known))
    over = [(result, fit, ahead) for result, fit in known if (ahead := _variance(case, result, fit, z)).low > TOLERATED]
    under = [row for result, fit in known if (row := _underfit(case, result, fit, z)) is not None]
    if over:
        yield _overfitting(case, max(over, key=lambda row: row[2].low), [row[0] for row in over])
    if under:
        yield under[0] if len(under) == 1 else _together(under)
    if known:
        told = f"{many(len(known), 'training')} of the front on training and validation images, measured"
        yield Check(FAILURE, OVER, "found" if over else "healthy", told)
        yield Check(FAILURE, UNDER, "found" if under else "healthy", told)
    if len(known) < len(results):
        rest = many(len(results) - len(known), "training")
        yield Check(
            FAILURE, f"{OVER}, {UNDER}", "unknown",
            f"{rest} of the front: top-1 on training images was not measured (no pictures, no weights, or no images on record)",
        )  # fmt: skip


def _trainings(case: Case) -> list[Result]:
    """One package of each training that is on the front: the uncompressed one where there is one."""
    on_front = {result.trial for result in case.front}
    groups = [group for group in case.by_training if any(result.trial in on_front for result in group)]
    return [uncompressed(group) or group[0] for group in groups]


def _fit(case: Case, result: Result) -> Count | None:
    past = case.past_of(result)
    fit = None if past is None else case.measured.fits.get(past.key)
    return fit if right_of_result(result) is not None else None


def _validation(case: Case, result: Result) -> Count:
    """Of the uncompressed package; where there is none, of the torch network at a glance."""
    past, right = case.past_of(result), right_of_result(result)
    assert past is not None and right is not None
    if uncompressed((result,)) is not None:
        return Count(int(right.sum()), len(right))
    found = case.glance(past.curve[-1])
    assert found is not None
    return found


def _variance(case: Case, result: Result, fit: Count, z: float) -> Gap:
    return gap(fit, _validation(case, result), z)


def _overfitting(case: Case, worst: tuple[Result, Count, Gap], every: Sequence[Result]) -> Finding:
    result, fit, ahead = worst
    validation = _validation(case, result)
    return Finding(
        failure=FAILURE,
        cause=OVER,
        severity="severe" if ahead.low > SEVERE else "warning",
        subject=_named(every, result),
        trials=case.siblings(sorted(every, key=lambda one: one is not result)),
        what=(
            f"{result.candidate.network.label} (trial {result.trial}) has {100 * fit.share:.1f} % of its training images right "
            f"and {100 * validation.share:.1f} % of new ones, at least {100 * ahead.low:.1f} points less."
        ),
        evidence=(
            Evidence("training minus validation", 100 * ahead.value, "points", "measured, 95 %, Newcombe 1998",
                     100 * ahead.low, 100 * ahead.high),
            Evidence("training images looked at", fit.images, "1", "exact"),
            Evidence("validation images", validation.images, "1", "exact"),
            *_parameters(case, result),
        ),
        remedy="More pictures help most; else a narrower network, more weight decay, or a teacher's soft labels.",
        command=case.search("narrower", *_narrower(result)),
    )  # fmt: skip


def _parameters(case: Case, result: Result) -> Iterator[Evidence]:
    images = case.measured.training_images
    if images and isinstance(result.outcome, Scored) and result.outcome.package.is_dir():
        weights = sum(weight.elements for weight in load(result.outcome.package).weights)
        yield Evidence("parameters per training image", weights / images, "1", "exact")


def _narrower(result: Result) -> tuple[str, ...]:
    """Settings of a search: half the width, or, of a network that has none, a narrow one instead."""
    network = result.candidate.network
    if network.family not in FAMILIES:
        return "networks.backbones=[mobilenetv3_small]", "networks.width=[0.5, 1]"
    widths = ", ".join(f"{value:g}" for value in dict.fromkeys((max(0.1, round(network.width / 2, 2)), network.width)))
    return (f"networks.width=[{widths}]",)


def _underfit(case: Case, result: Result, fit: Count, z: float) -> Finding | None:
    """Against the best known; else against what any network is asked for."""
    best, name, choice = _best(case, result)
    if best is not None and (lack := gap(best, fit, _among(z, choice))).low > TOLERATED:
        return _underfitting(case, result, fit, lack, f"{name} has {100 * best.share:.1f} % of new ones", False)
    _, high = wilson(fit.right, fit.images, z)
    bound = max(POSSIBLE, case.run.limits.get("accuracy", 0.0))
    if high < bound:
        lack = Gap(bound - fit.share, bound - high, bound - wilson(fit.right, fit.images, z)[0])
        named = "the study's limit is" if bound > POSSIBLE else "none here is shown to be much better, asked are"
        return _underfitting(case, result, fit, lack, f"{named} {100 * bound:g} %", bound == POSSIBLE)
    return None


def _among(z: float, choice: int) -> float:
    """The quantile for one of so many times as many intervals."""
    return float(norm.isf(norm.sf(z) / choice))


def _best(case: Case, result: Result) -> tuple[Count | None, str, int]:
    """The most accurate package of another training: its validation images, what it is called, of how many it is the best."""
    own = result.candidate
    others = [
        one
        for one in case.packages
        if (one.candidate.network, one.candidate.recipe) != (own.network, own.recipe)
        and right_of_result(one) is not None
    ]
    if not others:
        return None, "", 0
    found = max(others, key=lambda one: one.score["top1"].value)
    right = right_of_result(found)
    assert right is not None
    return Count(int(right.sum()), len(right)), f"trial {found.trial}, {found.candidate.network.label},", len(others)


def _underfitting(case: Case, result: Result, fit: Count, lack: Gap, than: str, alone: bool) -> Finding:
    recipe = result.candidate.recipe
    return Finding(
        failure=FAILURE,
        cause=UNDER,
        severity="notice" if alone else "severe" if lack.low > SEVERE else "warning",
        subject=_named([result], result),
        trials=case.siblings([result]),
        what=(
            f"{result.candidate.network.label} (trial {result.trial}) has {100 * fit.share:.1f} % of its own training images "
            f"right after {many(recipe.epochs, 'epoch')}; {than}."
        ),
        evidence=(
            Evidence("lacking on training images", 100 * lack.value, "points", "measured, 95 %", 100 * lack.low, 100 * lack.high),
            Evidence("training images looked at", fit.images, "1", "exact"),
        ),
        remedy="Train longer; where that does not help, a wider network or a larger input.",
        command=case.search("longer", f"training.epochs=[{3 * recipe.epochs}]", "training.rungs=1"),
    )  # fmt: skip


def _together(found: Sequence[Finding]) -> Finding:
    """Several trainings that lack the same: the worst is told."""
    worst = max(found, key=lambda one: one.evidence[0].low or 0.0)
    trials = (*worst.trials, *(trial for one in found if one is not worst for trial in one.trials))
    return replace(worst, trials=trials, subject=f"{worst.subject} and {many(len(found) - 1, 'other training')}")


def _named(results: Sequence[Result], first: Result) -> str:
    more = f" and {many(len(results) - 1, 'other training')}" if len(results) > 1 else ""
    return f"trial {first.trial}, {first.candidate.network.label}{more}"
