"""Can the limits be kept at all?  What is known before anything is trained, from probe packages with random weights.

Size, latency, memory and energy do not fall when a network gets wider, deeper or larger in its input. So what one probe
shows holds for many: a network that breaks a limit condemns all larger ones of its backbone under that compression, one
that keeps it vouches for all smaller ones. Probed are first the smallest networks of every backbone in every compression:
together they give the least that can be reached, and when each of them breaks some limit, nothing in the space can keep
them all. Then come the largest ones, then whatever is not decided yet, until the time is up; what is still undecided then
is the distance between the two ends of a share. Accuracy is not known before training.

Probes lie in the store, where the trials find them again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, final

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.reading import Score
from coreml_pareto.search.outcome import Infeasible
from coreml_pareto.search.relaxation import Limits, NothingFits, excess, known, nothing_fits
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, digest_of
from coreml_pareto.spaces.compression import spell
from coreml_pareto.spaces.space import Space

SHARE, LEAST, UNTIMED = 0.03, 30.0, 60.0
"""Of the timeout that may be spent on probes; seconds at least; seconds where there is no timeout."""
ALL = "all"
"""The key of all limits together."""
NONE = -1
"""The trial of what is no trial."""

Place = tuple[float, float, float, int]
"""Width, depth, the side behind the stem and that of the input: nothing gets cheaper when one of them grows."""


class Prober(Protocol):
    """Reads what needs no training: see `trial.Laboratory`."""

    def probe(self, candidate: Candidate) -> Score:
        """Return the readings of a candidate that need no training."""


@final
@dataclass(frozen=True)
class Group:
    """The networks of one backbone under one compression, each at its place; `probed` grows."""

    networks: Mapping[Place, Network]
    compression: Compression
    probed: dict[Place, Result] = field(default_factory=dict)

    @cached_property
    def smallest(self) -> tuple[Place, ...]:
        """The places that lie above no other one."""
        return tuple(p for p in self.networks if not any(_below(q, p) for q in self.networks if q != p))

    @cached_property
    def largest(self) -> tuple[Place, ...]:
        """The places that lie below no other one."""
        return tuple(p for p in self.networks if not any(_below(p, q) for q in self.networks if q != p))

    def verdict(self, place: Place, limits: Limits, strict: bool) -> bool | None:
        """Whether the network at a place keeps all of these limits; None where no probe decides it."""
        kept: set[str] = set()
        for other, result in self.probed.items():
            over = {name for name in limits if excess(result, name, limits[name], strict=strict) > 0}
            if over and _below(other, place):
                return False
            kept |= set(limits) - over if _below(place, other) else set()
        return True if kept == set(limits) else None


@final
@dataclass(frozen=True)
class Reach:
    """What can be kept, as far as it was probed.

    Attributes:
        limits: those that need no training.
        shares: by limit, and under `ALL` of all together: least and largest share of the space that keeps it.
        least: by limit, the probed candidate that comes lowest.
        probed: number of probes.
        size: networks × compressions of the space.
        whole: whether every backbone was probed at its smallest in every compression: nothing goes below `least` then.
        failed: probes that could not be made, which decide nothing.
        refusal: why nothing can keep the limits; None where something can, or might.
    """

    limits: Limits
    shares: Mapping[str, tuple[float, float]]
    least: Mapping[str, Result]
    probed: int
    size: int
    whole: bool
    failed: int
    refusal: NothingFits | None


def probe_seconds(timeout: float | None) -> float:
    """Return how long may be probed."""
    return UNTIMED if timeout is None else max(LEAST, SHARE * timeout)


def before_training(limits: Limits) -> dict[str, float]:
    """Return those limits that are known without training."""
    return {name: bound for name, bound in limits.items() if not OBJECTIVES[name].needs_data}


def survey(
    space: Space, limits: Limits, prober: Prober, late: Callable[[], bool], *, strict: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Reach:  # fmt: skip
    """Probe a space until everything is decided or it is late; at least one probe is made.

    Args:
        space: the study's.
        limits: bounds by objective; those that need training are passed over.
        prober: reads a candidate without training.
        late: whether the time for probes is over.
        strict: hold limits against the worse end of each interval.
        note: told what is probed.
    """
    bounds, groups, failed = before_training(limits), _groups(space), 0
    first = space.decode(lambda knob: knob.choices[0])
    for group, place in _order(groups, bounds, strict):
        plain = first.model_copy(update={"network": group.networks[place]})
        candidate = space.compressed(plain, group.compression)
        note(f"probing {candidate.network.label}, {spell(candidate.compression)}, for the limits")
        try:
            score = prober.probe(candidate)
            group.probed[place] = Result(NONE, candidate, Infeasible((), score))
        except Exception:  # its trial will fail in the same way and say why
            failed += 1
        if late():
            break
    return _summed(groups, bounds, strict, failed)


def _groups(space: Space) -> list[Group]:
    """One group for each compression and backbone, in the order in which they are probed: the fewest bits first."""
    networks: dict[str, dict[Place, Network]] = {name: {} for name in space.backbones}
    for network in space.networks():
        networks[network.backbone][_place(network)] = network
    forms = sorted(space.compressions, key=lambda form: form.bits * (1 - form.sparsity))
    return [Group(own, form) for form in forms for own in networks.values()]


def _place(network: Network) -> Place:
    return network.width, network.depth, network.resolution / network.stem_stride, network.resolution


def _below(low: Place, high: Place) -> bool:
    return all(a <= b for a, b in zip(low, high, strict=True))


def _order(groups: Sequence[Group], limits: Limits, strict: bool) -> Iterator[tuple[Group, Place]]:
    """Yield what to probe next, given what has been probed by then."""
    for group in groups:
        yield from ((group, place) for place in group.smallest)
    if not _possible(groups, limits, strict):
        return
    rest = [(group, place) for group in groups for place in group.networks]
    random.Random(digest_of(dict(limits))).shuffle(rest)
    tops = [(group, place) for group in groups for place in group.largest]
    for group, place in [*tops, *rest]:
        if any(group.verdict(place, {name: bound}, strict) is None for name, bound in limits.items()):
            yield group, place


def _possible(groups: Sequence[Group], limits: Limits, strict: bool) -> bool:
    """Whether not everything is known to break some limit."""
    return any(group.verdict(place, limits, strict) is not False for group in groups for place in group.networks)


def _summed(groups: Sequence[Group], limits: Limits, strict: bool, failed: int) -> Reach:
    results = [result for group in groups for result in group.probed.values()]
    size = sum(len(group.networks) for group in groups)
    shares = {}
    for name, part in {**{name: {name: bound} for name, bound in limits.items()}, ALL: dict(limits)}.items():
        verdicts = [group.verdict(place, part, strict) for group in groups for place in group.networks]
        shares[name] = verdicts.count(True) / size, 1 - verdicts.count(False) / size
    return Reach(
        limits=limits,
        shares=shares,
        least={name: found for name in limits if (found := _least(results, name)) is not None},
        probed=len(results),
        size=size,
        whole=all(place in group.probed for group in groups for place in group.smallest),
        failed=failed,
        refusal=None if _possible(groups, limits, strict) else nothing_fits(results, limits, strict=strict),
    )


def _least(results: Sequence[Result], name: str) -> Result | None:
    """Return the result with the lowest reading."""
    reading = OBJECTIVES[name].reading
    have = [(score[reading].value, result) for result in results if reading in (score := known(result))]
    return min(have, key=lambda pair: pair[0])[1] if have else None
