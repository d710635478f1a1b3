"""How is one latency measured?  Warm up until stable, then rounds of back-to-back predictions; medians and percentiles.

The first predictions after a load are slow (buffers, a cold Neural Engine), so they are run until three in a row agree
within 5 %. Then at least 20 rounds of 50, each prediction timed by itself: the form of Apple's ModelBench
(apple/ml-mobileone: 20 rounds of 50), with percentiles instead of a trimmed mean alone. Nothing here knows Core ML.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from coreml_pareto.objectives.devices.measurements import PER_ROUND, ROUNDS
from coreml_pareto.objectives.program.coreml import Clocked
from coreml_pareto.spaces.errors import UserError

Once = Callable[[], Clocked]


@dataclass(frozen=True)
class Protocol:
    """Rounds of so many predictions; when a warm-up counts as stable, and when it is given up.

    Attributes:
        agreeing, agreement: so many predictions in a row, whose largest is within that share of the smallest.
        least, most: predictions of a warm-up.
        forgiven: predictions that may raise, all told; each is repeated.
        cold, pause: so many predictions besides, each after so many seconds at rest; the Neural Engine sleeps by then.
    """

    rounds: int = ROUNDS
    predictions: int = PER_ROUND
    agreeing: int = 3
    agreement: float = 0.05
    least: int = 5
    most: int = 500
    forgiven: int = 1
    cold: int = 0
    pause: float = 2.0

    def __post_init__(self) -> None:
        if self.cold and self.cold < 20:
            raise UserError(
                f"a cold series has at least 20 predictions; got {self.cold}; leave --cold out, or say --cold 20"
            )
        if self.rounds < ROUNDS or self.predictions < PER_ROUND:
            raise UserError(
                "a measurement takes at least 20 rounds of 50 predictions, or single disturbances decide; got "
                f"{self.rounds} of {self.predictions}; leave --rounds and --predictions out"
            )


@dataclass
class Series:
    """What a run of the protocol found; `failures` are the words of predictions that raised and were repeated."""

    warm_up: int = 0
    stable: bool = False
    rounds: list[list[Clocked]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    cold: list[Clocked] = field(default_factory=list)

    @property
    def by_core_ml(self) -> bool:
        """Whether Core ML's own clock timed every prediction."""
        return all(clocked.coreml_ms is not None for one in self.rounds for clocked in one)


def run(once: Once, protocol: Protocol, rest: Callable[[float], None] = time.sleep) -> Series:
    """Warm up and time.

    Raises:
        UserError: more predictions raised than the protocol forgives.
    """
    series = Series()
    patient = _forgiving(once, protocol.forgiven, series.failures)
    _warm_up(patient, protocol, series)
    for _ in range(protocol.rounds):
        series.rounds.append([patient() for _ in range(protocol.predictions)])
    for _ in range(protocol.cold):
        rest(protocol.pause)
        series.cold.append(patient())
    return series


def _warm_up(once: Once, protocol: Protocol, series: Series) -> None:
    """A device that never settles is measured all the same, and the record says that it did not."""
    recent: list[float] = []
    while series.warm_up < protocol.most and not series.stable:
        recent = [*recent[1 - protocol.agreeing :], milliseconds(once())]
        series.warm_up += 1
        agree = len(recent) == protocol.agreeing and max(recent) <= (1 + protocol.agreement) * min(recent)
        series.stable = agree and series.warm_up >= protocol.least


def _forgiving(once: Once, forgiven: int, failures: list[str]) -> Once:
    def patient() -> Clocked:
        while True:
            try:
                return once()
            except Exception as error:  # coremltools raises bare exceptions and RuntimeErrors of Core ML's text
                failures.append(" ".join(str(error).split()) or type(error).__name__)
                if len(failures) > forgiven:
                    raise UserError(
                        f"at most {forgiven} prediction may fail and be repeated; {len(failures)} failed, the last with: "
                        f"{failures[-1]}; try other --compute-units"
                    ) from error

    return patient


def milliseconds(clocked: Clocked) -> float:
    """Core ML's own clock where it speaks: it leaves out what Python adds."""
    return clocked.wall_ms if clocked.coreml_ms is None else clocked.coreml_ms


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Of milliseconds: median, 10th and 90th percentile, and the mean without a tenth at either end."""
    ordered = np.sort(np.asarray(values, dtype=float))
    cut = len(ordered) // 10
    low, median, high = (float(value) for value in np.quantile(ordered, (0.1, 0.5, 0.9)))
    trimmed = float(ordered[cut : len(ordered) - cut].mean())
    return {"median_ms": median, "p10_ms": low, "p90_ms": high, "trimmed_mean_ms": trimmed}
