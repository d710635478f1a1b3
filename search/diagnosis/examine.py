"""What is wrong with a run, or with a package?  Every check is asked, and every check answers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.paired import Difference
from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program import Program, load
from coreml_pareto.search.diagnosis import architecture, distillation, fit, quantization
from coreml_pareto.search.diagnosis.architecture import Remedies
from coreml_pareto.search.diagnosis.case import Case
from coreml_pareto.search.diagnosis.finding import FAILURES, Check, Diagnosis, Evidence, Finding, State, gathered
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.candidate import Recipe
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import FAMILIES

NETWORKS: Final = 24
"""So many networks of a front are read from their programs, the first of it."""


def diagnose(run: Run) -> tuple[Finding, ...]:
    """What is found in the record of a run and in its packages; nothing is trained, no pictures are read."""
    return examine(Case(run)).findings


def examine(case: Case) -> Diagnosis:
    """Ask all checks of a run; what they rest on is in the case."""
    return gathered(_parts(case))


def _parts(case: Case) -> Iterator[Finding | Check]:
    if not case.packages:
        for failure in FAILURES:
            yield Check(failure, "all of them", "unknown", "no trial of this run ended with a package")
        return
    yield from quantization.check(case)
    yield from distillation.check(case)
    yield from fit.check(case)
    yield from _programs(case)


def _programs(case: Case) -> Iterator[Finding | Check]:
    """The networks of the front, one package of each network and precision."""
    kinds: dict[tuple[str, bool], Result] = {}
    for result in case.front:
        kinds.setdefault((result.candidate.network.digest, result.candidate.compression.scheme == "fp32"), result)
    gone = 0
    for result in list(kinds.values())[:NETWORKS]:
        if not isinstance(result.outcome, Scored) or not result.outcome.package.is_dir():
            gone += 1
            continue
        trials = tuple(one.trial for one in case.front if one.candidate.network == result.candidate.network)
        subject = f"trial {result.trial}, {result.candidate.network.label}"
        yield from architecture.check(
            load(result.outcome.package), case.run.target, subject, (result.trial, *(t for t in trials if t != result.trial)),
            remedies(case, result),
        )  # fmt: skip
    if gone or len(kinds) > NETWORKS:
        rest = gone + max(0, len(kinds) - NETWORKS)
        told = (
            f"{rest} of {len(kinds)} networks of the front: the package is not at hand, or beyond the first {NETWORKS}"
        )
        yield Check(architecture.FAILURE, "shapes and operations", "unknown", told)


def remedies(case: Case, result: Result) -> Remedies:
    """Searches that try another input, width or precision; `explain` of the package itself."""
    network = result.candidate.network
    assert isinstance(result.outcome, Scored)
    package = str(result.outcome.package)
    return Remedies(
        resolution=case.search(
            "larger", f"networks.resolution=[{min(384, 2 * network.resolution)}]", "networks.stem_stride=[1, 2]"
        ),
        wider=case.search(
            "wider",
            f"networks.width=[{min(4.0, 2 * network.width):g}]"
            if network.family in FAMILIES
            else "networks.backbones=[efficientnet_b0]",  # networks of timm have one width
        ),
        half=case.search("half", "compression=[fp16, fp32]"),
        look=shlex.join(["coreml-pareto", "estimate", package, "--explain"]),
    )


@final
@dataclass(frozen=True)
class Drop:
    """Top-1 of the same network uncompressed minus a package's own, on the same images.

    `against` is what that package is called, `data` the pictures, both as the command line names them.
    """

    top1: Difference
    against: str
    data: str


def examine_package(program: Program, target: Target, drop: Drop | None = None) -> Diagnosis:
    """Ask what can be asked of a package without its run."""
    return gathered(_package_parts(program, target, drop))


def require_same_network(program: Program, plain: Program) -> None:
    """Refuse to call the difference of two networks a drop by compression, as far as the packages tell their networks."""
    own, other = (one.metadata.get(f"{PREFIX}network") for one in (program, plain))
    if None not in (own, other) and own != other:
        raise UserError(
            f"--against names the same network uncompressed; {plain.path.name} is another network than "
            f"{program.path.name}; name that one, or use `compare`"
        )


def _package_parts(program: Program, target: Target, drop: Drop | None) -> Iterator[Finding | Check]:
    name, place = program.path.name, str(program.path)
    yield from _package_drop(program, drop)
    recipe = recipe_of(program)
    if recipe is None or recipe.teacher is None:
        told = (
            "the package does not say that it was taught"
            if recipe is None
            else "the package was trained without a teacher"
        )
        yield Check(distillation.FAILURE, "all of them", "unknown", f"{name}: {told}")
    else:
        if distillation.unheard(recipe):
            command = "coreml-pareto search STUDY --set 'distillation.soft_weight=[0.5, 1.0]'"
            yield distillation.voice_finding(recipe, name, (), command)
        state: State = "found" if distillation.unheard(recipe) else "healthy"
        yield Check(distillation.FAILURE, distillation.VOICE, state, f"{name}: by the recipe that it carries, exact")
        told = f"{name}: temperature and teacher are judged from its run: diagnose RUN"
        yield Check(distillation.FAILURE, distillation.TEMPERATURE, "unknown", told)
    told = f"{name}: its training images are known to its run: diagnose RUN"
    yield Check(fit.FAILURE, f"{fit.OVER}, {fit.UNDER}", "unknown", told)
    search = "coreml-pareto search STUDY --set"
    tries = Remedies(
        resolution=f"{search} 'networks.stem_stride=[1, 2]'",
        wider=f"{search} 'networks.width=[1.0, 1.5]'",
        half=f"{search} 'compression=[fp16, fp32]'",
        look=shlex.join(["coreml-pareto", "estimate", place, "--explain"]),
    )
    yield from architecture.check(program, target, name, (), tries)


def _package_drop(program: Program, given: Drop | None) -> Iterator[Finding | Check]:
    name = program.path.name
    if given is None:
        told = f"{name}: the same network uncompressed is not at hand: --against FP16.mlpackage --data DATA"
        yield Check(quantization.FAILURE, quantization.CAUSE, "unknown", told)
        return
    drop, against = given.top1, given.against
    if drop.low > quantization.TOLERATED:
        yield Finding(
            failure=quantization.FAILURE,
            cause=quantization.CAUSE,
            severity="severe" if drop.low > quantization.SEVERE else "warning",
            subject=name,
            trials=(),
            what=f"{name} has {100 * drop.value:.1f} points less top-1 (at least {100 * drop.low:.1f}) than {against}.",
            evidence=(
                Evidence("drop", 100 * drop.value, "points", "measured, paired, 95 %", 100 * drop.low, 100 * drop.high),
                Evidence("images", drop.images, "1", "exact"),
            ),
            remedy="See which layers cannot bear it, and leave them in more bits.",
            command=shlex.join(["coreml-pareto", "sensitivity", against, "--data", given.data]),
            layers=quantization.noisiest_of(program.path),
        )
    state: State = "found" if drop.low > quantization.TOLERATED else "healthy"
    yield Check(
        quantization.FAILURE, quantization.CAUSE, state, f"{name} against {against} on {drop.images} images, paired"
    )


def recipe_of(program: Program) -> Recipe | None:
    """How a package of ours was trained; None where it does not say."""
    try:
        plain = json.loads(program.metadata.get(f"{PREFIX}training", "{}"))
        return Recipe.model_validate(plain["recipe"]) if "recipe" in plain else None
    except (ValueError, TypeError):
        return None
