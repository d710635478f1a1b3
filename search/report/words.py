"""Whose numbers are these?  The sentences that go with every table and chart."""

from __future__ import annotations

from collections.abc import Sequence

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.figures import ESTIMATE, figure, significant
from coreml_pareto.search.limits import spell_limit, spell_relaxed
from coreml_pareto.search.relaxation import Limits, NothingFits, Relaxation, excess
from coreml_pareto.search.run import Result, Run, straddling
from coreml_pareto.spaces.compression import spell

WHOLE_NAMES = {"accuracy": "top-1"}


def conditions(run: Run, results: Sequence[Result]) -> str:
    """One line: whose estimates, which intervals, how many images."""
    target = " / ".join(run.target.conditions.values())
    estimated = f"{ESTIMATE} estimated for {target}, 80 % intervals"
    images = {result.score["top1"].conditions.get("images", "?") for result in results if "top1" in result.score}
    counted = f"top-1 measured on {' or '.join(sorted(images))} validation images, 95 % Wilson intervals"
    return "; ".join([estimated, *([counted] if images else []), "size exact (MB = 10^6 bytes)"])


def model_name(result: Result) -> str:
    """Network and compression in one line."""
    return f"{result.candidate.network.label} · {spell(result.candidate.compression)}"


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


def refusal(verdict: NothingFits) -> list[str]:
    """Why nothing fits, line by line: the nearest package per limit, then what would have to give way."""
    tested = " (worse end of the interval)" if verdict.strict else ""
    lines = [f"No package keeps {limits(verdict.limits)}{tested}."]
    for name, result in verdict.nearest.items():
        lines.append(f"Nearest to {limit(name, verdict.limits[name])}: {_nearest(result, name, verdict)}")
    for relaxation in verdict.relaxations:
        bounds = relaxation.limits.items()
        flags = " ".join(f"--{OBJECTIVES[name].limit} {spell_relaxed(name, bound)}" for name, bound in bounds)
        admitted = f"trial {relaxation.admits.trial}, {model_name(relaxation.admits)}"
        lines.append(f"{flags} would admit {admitted} ({_looser(relaxation)})")
    return lines


def _looser(relaxation: Relaxation) -> str:
    together = " in sum" if len(relaxation.limits) > 1 else ""
    return f"{significant(100 * relaxation.relative, 2)} % looser{together}"


def _nearest(result: Result, name: str, verdict: NothingFits) -> str:
    reading = result.score.get(OBJECTIVES[name].reading)
    have = "no reading" if reading is None else figure(name, reading)
    bounds = verdict.limits
    others = [
        WHOLE_NAMES.get(other, other)
        for other in bounds
        if other != name and excess(result, other, bounds[other], strict=verdict.strict) > 0
    ]
    but = f", but breaks the limit on {' and '.join(others)}" if others else ""
    return f"trial {result.trial}, {model_name(result)}: {have}{but}"
