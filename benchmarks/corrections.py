"""How much do a few measurements of a phone correct its estimates?  Published figures stand in for the phone.

A group is what one stopwatch told of one device (all of them on Core ML's default compute units), with at least ten
networks. Some of its networks are drawn at random and count as measured, all others are predicted; 200 draws. Two
questions, by `left_out`:

- nothing: the estimator is fitted to everything, the group included, and the stopwatch counts as the one that it knows. Is
  the correction ever worse than none? Told is how a draw's mean absolute percentage error (MAPE) on the networks not drawn
  changes, the median over the draws. And nothing, unsaid: the same, but the stopwatch counts as unknown, as every user's
  does; what such a correction costs where there is nothing to correct.
- chip, stopwatch, system: everything that shares the group's is left out of the fit, the group too, as if the phone, its
  stopwatch or its system had never been published; the stopwatch counts as unknown. Is the bias gone (median of
  log(predicted / published)), do 80 % intervals hold, and how far is the MAPE from that of an estimator which has seen
  everything, all of the group's other networks too, and not the one that it is asked for?

    python benchmarks/corrections.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from latency_estimator import SMALLEST_GROUP
from numpy.typing import NDArray
from record import store

from coreml_pareto.objectives.devices import correction
from coreml_pareto.objectives.devices.correction import Sample, unseen
from coreml_pareto.objectives.devices.fit import Estimate, Fit, Setting, fit
from coreml_pareto.objectives.devices.published import XCODE, Published, published

DRAWS, DRAWN = 200, (1, 2, 3, 5, 10, 20)
FEWEST_PREDICTED = 5
NOTHING, UNSAID = "nothing", "nothing, unsaid"
LEFT_OUT: Mapping[str, Callable[[Published], object]] = {
    NOTHING: lambda figure: None,
    UNSAID: lambda figure: None,
    "chip": lambda figure: figure.chip,
    "stopwatch": lambda figure: figure.stopwatch,
    "system": lambda figure: figure.os,
}
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Phone:
    """A group's figures, and an estimator that was fitted to `known`; a strange stopwatch counts as unknown."""

    figures: Sequence[Published]
    known: Sequence[Published]
    strange: bool = False

    @cached_property
    def estimator(self) -> Fit:
        """The product's own, of what is known."""
        return fit(self.known)

    @cached_property
    def setting(self) -> Setting:
        """As the product asks: a stopwatch that nobody knows is estimated as the chip's best known one."""
        figure, known = self.figures[0], Counter(other.stopwatch for other in self.known)
        if figure.stopwatch in known:
            return Setting(figure.chip, figure.stopwatch, figure.os)
        near = Counter(other.stopwatch for other in self.known if other.chip == figure.chip)
        return Setting(figure.chip, max(near, key=lambda name: (near[name], name == XCODE), default=XCODE), figure.os)

    @cached_property
    def estimates(self) -> list[Estimate]:
        """Of every figure, uncorrected."""
        return [self.estimator.estimate(figure.terms, self.setting) for figure in self.figures]

    @cached_property
    def samples(self) -> list[Sample]:
        """Every figure as if it were measured."""
        rows = zip(self.figures, self.estimates, strict=True)
        return [Sample((estimate.t0, *estimate.parts), figure.ms) for figure, estimate in rows]

    @cached_property
    def doubt(self) -> Array:
        """Of the parts, as the product tells it to the correction."""
        known = self.estimator.doubt(self.setting)
        return correction.own(correction.strange(known) if self.strange else known)

    @property
    def uncorrected(self) -> Array:
        """log(estimated / published)."""
        return np.array([np.log(sample.estimated_ms / sample.measured_ms) for sample in self.samples])

    def corrected(self, drawn: Sequence[int]) -> tuple[Array, float]:
        """log(corrected / published) by the drawn figures, and the half-width of the 80 % interval."""
        width = float(np.median([estimate.interval[1] / estimate.ms for estimate in self.estimates]))
        samples = [self.samples[row] for row in drawn]
        found = correction.fit(samples, self.doubt, unseen(width) if self.strange else width)
        predicted = [found.correction.apply(sample.parts) for sample in self.samples]
        measured = np.array([sample.measured_ms for sample in self.samples])
        return np.log(np.array(predicted) / measured), float(np.log(found.factor))


def main() -> None:
    """Draw, correct, compare, print, store."""
    rows = [row for group in groups() for row in results(group)]
    for row in rows:
        print("  ".join(f"{value:{'24s' if isinstance(value, str) else '7.3f'}}" for value in row.values()), flush=True)
    store("corrections", rows, figures=len(published()), draws=DRAWS, columns="medians over the draws")


def groups() -> list[list[Published]]:
    """Figures of one stopwatch and device each, where they are enough."""
    counts = Counter((figure.device, figure.stopwatch) for figure in published())
    large = [group for group, count in counts.items() if count >= SMALLEST_GROUP]
    return [[f for f in published() if (f.device, f.stopwatch) == group] for group in large]


def results(group: Sequence[Published]) -> Iterator[dict[str, object]]:
    """One row for each thing left out and each number of networks drawn."""
    reference = seen(group)
    for left_out, value_of in LEFT_OUT.items():
        values = {value_of(figure) for figure in group}
        everything = left_out in (NOTHING, UNSAID)
        if not everything and values == {None}:
            continue  # the publication names no system
        phone = Phone(group, [f for f in published() if everything or value_of(f) not in values], left_out != NOTHING)
        for count in DRAWN:
            if len({figure.network for figure in group}) >= count + FEWEST_PREDICTED:
                yield summary(phone, left_out, count, reference)


def summary(phone: Phone, left_out: str, count: int, reference: Array) -> dict[str, object]:
    """Medians over the draws."""
    told: dict[str, list[float]] = {name: [] for name in ("before", "after", "change", "bias", "held", "ratio")}
    for seed in range(DRAWS):
        drawn = draw(phone.figures, count, seed)
        rest = [row for row in range(len(phone.figures)) if row not in drawn]
        errors, half_width = phone.corrected(drawn)
        before, after = mape(phone.uncorrected[rest]), mape(errors[rest])
        values = (before, after, after - before, float(np.median(errors[rest])),
                  float(np.mean(np.abs(errors[rest]) <= half_width)), after / mape(reference[rest]))  # fmt: skip
        for name, value in zip(told, values, strict=True):
            told[name].append(value)
    first = phone.figures[0]
    medians = {name: round(float(np.median(values)), 4) for name, values in told.items()}
    medians["held"] = round(float(np.mean(told["held"])), 4)  # of all predictions
    bias_before = round(float(np.median(phone.uncorrected)), 4)
    place = {"device": first.device, "stopwatch": first.stopwatch, "left_out": left_out}
    return place | {"networks": float(len(phone.figures)), "drawn": float(count), "bias_before": bias_before} | medians


def draw(figures: Sequence[Published], count: int, seed: int) -> list[int]:
    """The rows of so many networks; a network that was published twice is drawn with both figures."""
    names = sorted({figure.network for figure in figures})
    chosen = np.random.default_rng([seed, count]).choice(names, count, replace=False)
    return [row for row, figure in enumerate(figures) if figure.network in chosen]


def seen(group: Sequence[Published]) -> Array:
    """log(estimated / published) of each figure by an estimator that has seen everything but this network of the group."""
    errors = []
    for figure in group:
        known = [other for other in published() if other not in group or other.network != figure.network]
        (estimate,) = Phone([figure], known).estimates
        errors.append(np.log(estimate.ms / figure.ms))
    return np.array(errors)


def mape(log_errors: Array) -> float:
    """Mean absolute percentage error, as a share."""
    return float(np.abs(np.expm1(log_errors)).mean())


if __name__ == "__main__":
    main()
