"""Improper distillation: does the teacher say anything, and is it worth listening to?

Four causes. *A teacher without a voice*: its soft labels and feature maps weigh nothing, or the soft labels less than
HEARD of the labels' and theirs together (G. Hinton et al., "Distilling the knowledge in a neural network",
arXiv:1503.02531, section 2: best results come with a considerably lower weight on the hard labels). *Temperature*:
softened at T the teacher's answers are one-hot (they say no more than labels) or nearly uniform (what is left is the
matching of logits, equation 4 there, noise included); measured on training images, as entropy and as probability beside the
first class. *A weaker teacher*: the student, or the same network alone, is right more often on the same validation images
(J. H. Cho and B. Hariharan, "On the efficacy of knowledge distillation", ICCV 2019: what helps is a teacher whose answers
the student can use, not any). *Worse than without*: the same network with the same training, without a teacher, is right
more often, paired, by more than SEEDS, because one training each is compared. Both began with the same weights, or the
student with those of the other, which is more: one that went on where its student ended is no comparison.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.paired import compare
from coreml_pareto.objectives.unpaired import Count, gap
from coreml_pareto.search.diagnosis.case import Case, Softness, right_of_result
from coreml_pareto.search.diagnosis.finding import Check, Evidence, Finding, quantile
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report.words import many
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.candidate import Compression, Network, Recipe
from coreml_pareto.spaces.distillation import is_checkpoint

FAILURE: Final = "improper distillation"
VOICE, TEMPERATURE = "weights of the loss", "temperature"
WEAKER, WORSE = "teacher weaker than its student", "student worse than without a teacher"
HEARD: Final = 0.1
"""Share of the soft labels in the weights of both from which on they count as heard."""
ONE_HOT: Final = 0.01
"""Mean probability beside the first class below which soft labels are labels."""
UNIFORM: Final = 0.95
"""Entropy, as a share of a uniform distribution's, above which soft labels are uniform."""
SEEDS: Final = 0.02
"""Top-1 by which two trainings of one recipe may differ by their seeds alone; judgement, as images do not tell it."""
Likeness = tuple[Network, Recipe, Compression]
_TEACHING: Final = ("teacher", "temperature", "hard_weight", "soft_weight", "feature_weight")


def check(case: Case) -> Iterator[Finding | Check]:
    """All four causes, over the run's distilled packages."""
    taught = [group[0] for group in case.trainings if group[0].candidate.recipe.teacher is not None]
    if not taught:
        yield Check(FAILURE, "all of them", "unknown", "no package under examination was taught by another network")
        return
    for part in (_voice, _temperature, _weaker, _worse):
        yield from part(case, taught)


def share_of_soft_labels(recipe: Recipe) -> float:
    """Weight of the soft labels over that of both kinds; T² in the loss keeps their gradients comparable."""
    both = recipe.hard_weight + recipe.soft_weight
    return recipe.soft_weight / both if both else 0.0


def unheard(recipe: Recipe) -> bool:
    """Whether a recipe has a teacher that it hardly listens to."""
    return recipe.teacher is not None and recipe.feature_weight == 0 and share_of_soft_labels(recipe) < HEARD


def _voice(case: Case, taught: Sequence[Result]) -> Iterator[Finding | Check]:
    quiet = [result for result in taught if unheard(result.candidate.recipe)]
    if quiet:
        yield voice_finding(
            quiet[0].candidate.recipe, _named(quiet), case.siblings(quiet), case.search("heard", *_HEARD_AGAIN)
        )
    yield Check(FAILURE, VOICE, "found" if quiet else "healthy", f"{_trainings(taught)} by their recipes, exact")


_HEARD_AGAIN: Final = ("distillation.soft_weight=[0.5, 1.0]", "distillation.hard_weight=[0.3, 0.5]")


def voice_finding(recipe: Recipe, subject: str, trials: tuple[int, ...], command: str) -> Finding:
    """A teacher that is paid for and not listened to."""
    share = share_of_soft_labels(recipe)
    return Finding(
        failure=FAILURE,
        cause=VOICE,
        severity="warning" if share == 0 else "notice",
        subject=subject,
        trials=trials,
        what=(
            f"{recipe.teacher} teaches with {100 * share:.2g} % of the weight of soft labels and labels, and 0 of feature maps: "
            + ("the student never hears it." if share == 0 else f"below {HEARD:.0%} it is hardly heard.")
        ),
        evidence=(
            Evidence("soft_weight", recipe.soft_weight, "1", "exact"),
            Evidence("hard_weight", recipe.hard_weight, "1", "exact"),
            Evidence("feature_weight", recipe.feature_weight, "1", "exact"),
        ),
        remedy="Give the soft labels at least as much weight as the labels (Hinton et al. 2015).",
        command=command,
    )


def _temperature(case: Case, taught: Sequence[Result]) -> Iterator[Finding | Check]:
    listening = [result for result in taught if result.candidate.recipe.soft_weight > 0]
    known = [(result, soft) for result in listening if (soft := _softness(case, result)) is not None]
    odd = [(result, soft) for result, soft in known if _one_hot(soft) or _uniform(soft)]
    for hot in (True, False):
        alike = [pair for pair in odd if _one_hot(pair[1]) is hot]
        if alike:
            yield _temperature_finding(case, alike)
    if known:
        told = f"{_trainings([r for r, _ in known])} by the teacher's softened answers, measured"
        yield Check(FAILURE, TEMPERATURE, "found" if odd else "healthy", told)
    if lacking := [result for result in listening if result not in [r for r, _ in known]]:
        told = (
            f"{_trainings(lacking)}: the teacher's answers were not measured (off the front, or its training or the pictures "
            "are not at hand)"
        )
        yield Check(FAILURE, TEMPERATURE, "unknown", told)


def _softness(case: Case, result: Result) -> Softness | None:
    past = case.past_of(result)
    return None if past is None else case.measured.softness.get(past.key)


def _one_hot(soft: Softness) -> bool:
    return soft.beside[2] < ONE_HOT


def _uniform(soft: Softness) -> bool:
    return soft.entropy[1] > UNIFORM


def _temperature_finding(case: Case, alike: Sequence[tuple[Result, Softness]]) -> Finding:
    result, soft = alike[0]
    recipe, hot = result.candidate.recipe, _one_hot(soft)
    beside, entropy = soft.beside, soft.entropy
    told = (
        f"one-hot: {100 * beside[0]:.2f} % of the probability lie beside the first class"
        if hot
        else f"nearly uniform: {100 * entropy[0]:.1f} % of the largest entropy"
    )
    remedy, command = _softened(case, recipe.temperature, hot)
    how = f"measured on {soft.images} training images, 95 %"
    return Finding(
        failure=FAILURE,
        cause=TEMPERATURE,
        severity="warning" if hot else "notice",
        subject=_named([one for one, _ in alike]),
        trials=case.siblings(one for one, _ in alike),
        what=f"At T = {recipe.temperature:g} the answers of {recipe.teacher} are {told}.",
        evidence=(
            Evidence("temperature", recipe.temperature, "1", "exact"),
            Evidence("beside the first class", 100 * beside[0], "%", how, 100 * beside[1], 100 * beside[2]),
            Evidence("entropy of uniform", 100 * entropy[0], "%", how, 100 * entropy[1], 100 * entropy[2]),
        ),
        remedy=remedy,
        command=command,
    )


def _softened(case: Case, temperature: float, hot: bool) -> tuple[str, str]:
    """Remedy and command: legal temperatures on the right side of the one that was; where none is left, do without it."""
    wanted = [t for t in (3, 5, 8, 10) if t > temperature][:3] if hot else [t for t in (1, 2, 3) if t < temperature]
    if wanted:
        remedy = (
            "Soften more: at this temperature the teacher says no more than the labels."
            if hot
            else "Soften less: what the teacher knows of likely classes is levelled out."
        )
        return remedy, case.search("softened", f"distillation.temperature={wanted}")
    if hot:
        remedy = "The highest temperature does not soften it enough: let it teach by its feature maps, or name another teacher."
        return remedy, case.search("features", "distillation.feature_weight=[0.1, 1.0]")
    remedy = "Even unsoftened it says little: name another teacher, or learn without."
    return remedy, case.search("untaught", "distillation.teachers=[none]")


def _weaker(case: Case, taught: Sequence[Result]) -> Iterator[Finding | Check]:
    z, found, looked, lacking = quantile(len(taught)), [], [], []
    for result in taught:
        scores = _both(case, result)
        if scores is None:
            lacking.append(result)
            continue
        looked.append(result)
        theirs, student = scores
        ahead = gap(student, theirs, z)
        if ahead.low > 0:
            found.append((result, theirs, student, ahead))
    if found:
        found.sort(key=lambda row: -row[3].low)
        result, theirs, student, ahead = found[0]
        teacher_name = result.candidate.recipe.teacher
        yield Finding(
            failure=FAILURE,
            cause=WEAKER,
            severity="warning",
            subject=_named([row[0] for row in found]),
            trials=case.siblings(row[0] for row in found),
            what=(
                f"The teacher {teacher_name} has {100 * theirs.share:.1f} % top-1, its student {100 * student.share:.1f} %, "
                f"at least {100 * ahead.low:.1f} points more."
            ),
            evidence=(
                Evidence("student minus teacher", 100 * ahead.value, "points", "measured, torch networks on the same "
                         "validation images, 95 %, Newcombe 1998", 100 * ahead.low, 100 * ahead.high),
                Evidence("images", theirs.images, "1", "exact"),
            ),
            remedy="Train the teacher longer or larger, or name a better one; or learn without.",
            command=_other_teacher(case, result),
        )  # fmt: skip
    if looked:
        told = f"{_trainings(looked)} against their teachers, on the same validation images"
        yield Check(FAILURE, WEAKER, "found" if found else "healthy", told)
    if lacking:
        told = (
            f"{_trainings(lacking)}: the record of the teacher or student is gone, or the teacher is of other pictures"
        )
        yield Check(FAILURE, WEAKER, "unknown", told)


def _both(case: Case, result: Result) -> tuple[Count, Count] | None:
    """Right answers of a teacher and its student to the same validation images; None where the records do not tell."""
    teacher, own = case.teacher_of(result), case.past_of(result)
    if teacher is None or own is None or not case.same_pictures(teacher, own):
        return None
    theirs, student = case.glance(teacher.curve[-1]), case.glance(own.curve[-1])
    return None if theirs is None or student is None else (theirs, student)


def _other_teacher(case: Case, result: Result) -> str:
    """A search with the teacher trained for three times as long, or none; a checkpoint is trained already."""
    name, teacher = result.candidate.recipe.teacher, case.teacher_of(result)
    if teacher is None or name is None or is_checkpoint(name):
        return case.search("untaught", "distillation.teachers=[none]")
    longer = f"distillation.teacher_epochs={3 * teacher.recipe.epochs}"
    return case.search("teacher", longer, f"distillation.teachers=[none, {json.dumps(name)}]")


def _worse(case: Case, taught: Sequence[Result]) -> Iterator[Finding | Check]:
    pairs = list(_pairs(case))
    z = quantile(len(pairs))
    drops = [(result, twin, compare(_right(twin), _right(result), z)) for result, twin in pairs]
    found = [row for row in drops if row[2].low > SEEDS]
    if found:
        found.sort(key=lambda row: -row[2].low)
        result, twin, drop = found[0]
        yield Finding(
            failure=FAILURE,
            cause=WORSE,
            severity="warning",
            subject=_named([row[0] for row in found]),
            trials=case.siblings(row[0] for row in found),
            what=(
                f"Taught by {result.candidate.recipe.teacher}, {result.candidate.network.label} (trial {result.trial}) has "
                f"{100 * drop.value:.1f} points less top-1 (at least {100 * drop.low:.1f}) than the same network trained "
                f"without, trial {twin.trial}."
            ),
            evidence=(
                Evidence("without minus with", 100 * drop.value, "points", "measured, paired, 95 %; one training each: "
                         "seeds are not in it", 100 * drop.low, 100 * drop.high),
                Evidence("images", drop.images, "1", "exact"),
            ),
            remedy="Learn without a teacher, or weigh the labels more; other seeds tell whether it was chance.",
            command=case.search("untaught", "distillation.teachers=[none]", "search.finalists=2"),
        )  # fmt: skip
    if pairs:
        told = f"{_trainings([r for r, _ in pairs])} against the same network and training without a teacher, paired"
        yield Check(FAILURE, WORSE, "found" if found else "healthy", told)
    if len(pairs) < len(taught):
        rest = many(len(taught) - len(pairs), "taught training")
        told = "the same network was not trained without a teacher, alike and from the same weights"
        yield Check(FAILURE, WORSE, "unknown", f"{rest}: {told}")


def _pairs(case: Case) -> Iterator[tuple[Result, Result]]:
    """Of each taught training one package, and its twin of a training that was alike but for the teacher."""
    alone = _untaught(case)
    for group in case.trainings:
        taught = (one for one in group if one.candidate.recipe.teacher is not None and _told(one))
        found = ((one, twin) for one in taught if (twin := alone.get(_likeness(one))) and _fair(one, twin))
        yield from islice(found, 1)


def _fair(result: Result, twin: Result) -> bool:
    """Whether a student began where its twin did, or with what that had become."""
    assert isinstance(twin.outcome, Scored)
    return result.parent in (twin.parent, twin.outcome.provenance.get(TRAINING))


def _untaught(case: Case) -> dict[Likeness, Result]:
    """The packages whose training had no teacher, by what else a training and a package are made of."""
    return {_likeness(one): one for one in case.packages if one.candidate.recipe.teacher is None and _told(one)}


def _likeness(result: Result) -> Likeness:
    """Network, training but for the teaching, and compression."""
    candidate = result.candidate
    plain = candidate.recipe.model_copy(update={name: None for name in _TEACHING})
    return candidate.network, plain, candidate.compression


def _told(result: Result) -> bool:
    return right_of_result(result) is not None


def _right(result: Result) -> NDArray[np.bool_]:
    right = right_of_result(result)
    assert right is not None
    return right


def _named(results: Sequence[Result]) -> str:
    first = results[0]
    more = f" and {many(len(results) - 1, 'other training')}" if len(results) > 1 else ""
    return f"trial {first.trial}, {first.candidate.network.label}{more}"


def _trainings(results: Sequence[Result]) -> str:
    return many(len(results), "taught training")
