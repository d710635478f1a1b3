"""Whose numbers are these?  The sentences that go with every table and chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.devices.catalogue import Target, devices, find_device
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.reading import Score
from coreml_pareto.search.figures import ESTIMATE, figure, mark, significant
from coreml_pareto.search.inspection import inspect
from coreml_pareto.search.limits import spell_limit, spell_relaxed
from coreml_pareto.search.outcome import Failed, Infeasible, Pruned
from coreml_pareto.search.relaxation import Limits, NothingFits, Relaxation, excess, known
from coreml_pareto.search.rows import battery
from coreml_pareto.search.run import Result, Run, straddling
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.compression import describe

WHOLE_NAMES = {"accuracy": "top-1"}
_NOT_TRAINED = "Their top-1 is not known: to train them, search within the new limits, in a --run folder of its own."


EXACT = "size exact (MB = 10^6 bytes)"


def conditions(run: Run, results: Sequence[Result]) -> str:
    """One line: whose estimates, which stopwatch, which battery, which intervals, how many images."""
    scores = [result.score for result in results]
    return "; ".join([*origins(run.target, scores), *counted(scores), EXACT])


def origins(target: Target, scores: Sequence[Score]) -> list[str]:
    """What was estimated for whom, what a stopwatch gave, and the battery behind each charge."""
    batteries = dict.fromkeys(f"battery {told}" for told in map(battery, scores) if told)
    told = [*estimated(target, scores), *imitated(scores), *timed(scores), *corrected(scores)]
    return [*told, *in_part(scores), *batteries]


def estimated(target: Target, scores: Sequence[Score]) -> list[str]:
    """Whose estimates, on which of its units; nothing where nothing is estimated."""
    if not any(mark(reading) for score in scores for reading in score.values()):
        return []
    found = {r.conditions["unit"] for score in scores for r in score.values() if "unit" in r.conditions}
    units = f" ({' or '.join(sorted(found))})" if found else ""
    without = "" if timed(scores) or corrected(scores) else ", no measurement of that device"
    return [f"{ESTIMATE} estimated for {' / '.join(target.conditions.values())}{units}, 80 % intervals{without}"]


def imitated(scores: Sequence[Score]) -> list[str]:
    """Whose stopwatch estimated latencies imitate, what they assume, and which operations are priced by bytes alone."""
    every = [score["latency_ms"] for score in scores if "latency_ms" in score]
    guessed = [reading.conditions for reading in every if reading.how == "estimated"]
    said = {"stopwatch": "latency as by {}", "assumes": "taken that {}", "unknown": "unknown operations {}"}
    return [
        text.format(told)
        for key, text in said.items()
        for told in dict.fromkeys(found[key] for found in guessed if key in found)
    ]


def timed(scores: Sequence[Score]) -> list[str]:
    """Which latencies were measured, and with which stopwatch; nothing where none was."""
    every = [score["latency_ms"] for score in scores if "latency_ms" in score]
    measured = [reading for reading in every if reading.how == "measured"]
    part = "" if len(measured) == len(every) else f" of {len(measured)} of {len(every)} packages"
    said = ("device", "stopwatch", "method")
    clocks = dict.fromkeys(tuple(r.conditions.get(key, "not named") for key in said) for r in measured)
    return [f"latency{part} measured on {device} with {clock} ({method})" for device, clock, method in clocks]


def corrected(scores: Sequence[Score]) -> list[str]:
    """Which latencies are estimates corrected by imported measurements, and by how many; nothing where none is."""
    every = [score["latency_ms"] for score in scores if "latency_ms" in score]
    found = [reading for reading in every if reading.how == "corrected"]
    part = "" if len(found) == len(every) else f" of {len(found)} of {len(every)} packages"
    said = ("device", "os", "compute_units", "corrected_by")
    places = dict.fromkeys(tuple(r.conditions.get(key, "not named") for key in said) for r in found)
    return [f"latency{part} corrected for {' / '.join(place)} by {count}" for *place, count in places]


def in_part(scores: Sequence[Score]) -> list[str]:
    """Which operations compute what is not counted, and of what the dearer branch is; nothing where all is counted."""
    every = [score["macs"].conditions for score in scores if "macs" in score]
    missing = dict.fromkeys(found["not_counted"] for found in every if "not_counted" in found)
    branches = any("branch" in found.get("counted", "") for found in every)
    told = [f"multiply-accumulates, latency and energy leave out what is computed in {names}" for names in missing]
    return told + (["of each cond the dearer branch is counted"] if branches else [])


def counted(scores: Sequence[Score]) -> list[str]:
    """On how many images top-1 was measured; nothing where it was not."""
    images = {score["top1"].conditions.get("images", "?") for score in scores if "top1" in score}
    return (
        [f"top-1 measured on {' or '.join(sorted(images))} validation images, 95 % Wilson intervals"] if images else []
    )


def ended(run: Run) -> str:
    """`26 packages from 9 trained networks, 3 candidates over a limit, not trained, 1 failed.`"""
    over, stopped, failed = (
        sum(isinstance(result.outcome, kind) for result in run.results) for kind in (Infeasible, Pruned, Failed)
    )
    parts = [f"{many(len(run.scored()), 'package')} from {many(run.trainings, 'trained network')}"]
    parts += [f"{many(over, 'candidate')} over a limit, not trained"] if over else []
    parts += [f"{stopped} stopped early"] if stopped else []
    parts += [f"{failed} failed"] if failed else []
    return f"{', '.join(parts)}."


def endings(run: Run) -> list[str]:
    """How the trials of a run without packages ended, and the causes of its failures."""
    if not run.results:
        return ["No trial has ended yet."]
    failures = [result.outcome for result in run.results if isinstance(result.outcome, Failed)]
    over = sum(isinstance(result.outcome, Infeasible) for result in run.results)
    stopped = sum(isinstance(result.outcome, Pruned) for result in run.results)
    told = [f"{over} over a limit, not trained"] if over else []
    told += [f"{stopped} stopped early"] if stopped else []
    told += [f"{len(failures)} failed"] if failures else []
    causes = Counter(f"{failed.stage}: {failed.cause}" for failed in failures)
    return [
        f"No package from {many(len(run.results), 'trial')}: {', '.join(told)}.",
        *(
            f"failed in {cause}" + (f" ({many(count, 'trial')})" if count > 1 else "")
            for cause, count in causes.most_common(3)
        ),
    ]


def many(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def model_name(result: Result) -> str:
    """Network and compression in one line."""
    return candidate_name(result.candidate)


def candidate_name(candidate: Candidate) -> str:
    """Network and compression in one line."""
    return f"{candidate.network.label} · {describe(candidate.compression)}"


def limit(objective: str, bound: float) -> str:
    """`size ≤ 10MB`, `top-1 ≥ 90%`."""
    sign = "≥" if OBJECTIVES[objective].bound == "min" else "≤"
    return f"{WHOLE_NAMES.get(objective, objective)} {sign} {spell_limit(objective, bound)}"


def limits(bounds: Limits) -> str:
    """All limits, or that there are none."""
    return ", ".join(limit(name, bound) for name, bound in bounds.items()) or "no limits"


def cautions(result: Result, bounds: Limits) -> str:
    """`may exceed latency ≤ 5ms` where the value keeps a limit and its interval crosses it; else empty."""
    crossed = [limit(name, bounds[name]) for name in straddling(result.score, bounds)]
    return f"may exceed {', '.join(crossed)}" if crossed else ""


def otherwise(package: Path) -> str:
    """`Asked int4/block-32: 33 of 49 layers otherwise`; empty where all is as asked, and where nothing can be read."""
    try:
        return inspect(load(package)).warning
    except Exception:  # a line beside the result: whatever is wrong with the package, whoever uses it will say
        return ""


@cache
def systems(release: int) -> tuple[str, str]:
    """The iOS release and the macOS of that autumn: `iOS 16`, `macOS 13`."""
    phone, mac = find_device("iPhone 15 Pro"), next(device for device in devices() if device.is_mac)
    return phone.system(release), mac.system(release)


def refusal(run: Run, verdict: NothingFits) -> list[str]:
    """Why nothing fits, line by line: the nearest candidate per limit, then what would have to give way."""
    tested = " (worse end of the interval)" if verdict.strict else ""
    lines = [f"No package keeps {limits(verdict.limits)}{tested}."] if run.scored() else endings(run)
    for name, result in verdict.nearest.items():
        lines.append(f"Nearest to {limit(name, verdict.limits[name])}: {_nearest(result, name, verdict)}")
    for relaxation in verdict.relaxations:
        lines.append(_admission(relaxation, verdict.limits))
    if verdict.nearest or verdict.relaxations:
        lines += [] if run.scored() else [_NOT_TRAINED]
    return lines


def unreachable(verdict: NothingFits) -> list[str]:
    """Why nothing in a space can keep the limits, as probes without training show it."""
    asked = {name: verdict.limits[name] for name in verdict.nearest}
    lines = [f"Nothing in this space can keep {limits(asked)}: it is not trained."]
    lines += [
        f"Nearest to {limit(name, asked[name])}: {_nearest(result, name, verdict)}"
        for name, result in verdict.nearest.items()
    ]
    return lines + [_admission(relaxation, verdict.limits) for relaxation in verdict.relaxations]


def _admission(relaxation: Relaxation, asked: Limits) -> str:
    admitted = _trial(relaxation.admits)
    if not relaxation.limits:
        return f"{admitted}, keeps {limits(asked)} as far as is known"
    bounds = relaxation.limits.items()
    flags = " ".join(f"--{OBJECTIVES[name].limit} {spell_relaxed(name, bound)}" for name, bound in bounds)
    return f"{flags} would admit {admitted} ({_looser(relaxation)})"


def _trial(result: Result) -> str:
    if result.trial < 0:  # a probe, which is no trial
        return model_name(result)
    ended = {Infeasible: ", not trained", Pruned: ", stopped early"}.get(type(result.outcome), "")
    return f"trial {result.trial}, {model_name(result)}{ended}"


def _looser(relaxation: Relaxation) -> str:
    together = " in sum" if len(relaxation.limits) > 1 else ""
    return f"{significant(100 * relaxation.relative, 2)} % looser{together}"


def _nearest(result: Result, name: str, verdict: NothingFits) -> str:
    reading = known(result).get(OBJECTIVES[name].reading)
    have = "no reading" if reading is None else figure(name, reading)
    bounds = {other: verdict.limits[other] for other in verdict.nearest}
    others = [
        WHOLE_NAMES.get(other, other)
        for other in bounds
        if other != name and excess(result, other, bounds[other], strict=verdict.strict) > 0
    ]
    but = f", but breaks the limit on {' and '.join(others)}" if others else ""
    return f"{_trial(result)}: {have}{but}"
