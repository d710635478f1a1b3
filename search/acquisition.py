"""Which training next?  The one whose packages are expected to win the most hypervolume for the effort it takes.

Everything but accuracy is known before a training, or follows from what was read of its backbone (`scaling.py`); its
accuracy is foretold from the trainings so far (`surrogate.py`); together they give the expected gain (`gain.py`), which
is divided by the effort (`effort.py`). A training that cannot end within the timeout (`remaining.py`) comes after all that
can and win something. Considered are new trainings on the lowest rung, on the highest where a backbone
has none yet, and the next rung of what was trained. What is at work counts as won as far as it is expected to win.

The same results lead to the same choice on any machine, so a search that was killed goes on as it would have.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.catalogue import OBJECTIVES, select
from coreml_pareto.objectives.pareto import shortlist
from coreml_pareto.objectives.reading import Reading, Score, losses
from coreml_pareto.search.choose import front
from coreml_pareto.search.config import Plan
from coreml_pareto.search.effort import WORK, effort
from coreml_pareto.search.foresight import AT_BEST
from coreml_pareto.search.gain import Box, Prospect
from coreml_pareto.search.history import TOP1, History
from coreml_pareto.search.outcome import Infeasible
from coreml_pareto.search.remaining import Remaining, first_students, seconds_left, seconds_of
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.scaling import Scaling
from coreml_pareto.search.surrogate import Drops, Surrogate
from coreml_pareto.search.teaching import teacher_network, teacher_recipe
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, digest_of
from coreml_pareto.spaces.compression import spell
from coreml_pareto.spaces.counts import count
from coreml_pareto.spaces.distillation import is_checkpoint
from coreml_pareto.spaces.space import RUNG, Space

ACCURACY: Final = OBJECTIVES["accuracy"]
DRAWS: Final = 256
"""New trainings that are drawn to be considered."""
NEAR: Final = 8
"""Of the front, the most balanced: their neighbours are considered."""
MARGIN: Final = math.log(1.1)
"""By how much the box reaches beyond the worst that is known or offered, in logs."""
USEFUL: Final = 0.5
"""The top-1 below which nothing counts any more as soon as there is more, unless a limit says otherwise: such packages are
wrong more often than right."""
TEACHING: Final = 1 / 3
"""Of the time that is left, what the training of a teacher may take: two thirds are for those that learn from it."""
MEMORY: Final = OBJECTIVES["memory"].reading
SIZE: Final = OBJECTIVES["size"].reading

Table = NDArray[np.float64]


class Reader(Protocol):
    """Reads what needs no training: see `trial.Laboratory`."""

    def foreseen(self, network: Network, compressions: Iterable[Compression]) -> Iterable[Score]:
        """Return the readings, at best, of a network's package under each compression."""


Column = tuple[str, bool]
"""A reading, and whether the worse end of its interval is meant: strict limits are held against that."""
Tables = Mapping[Network, Table | None]
"""What was read of networks, compressions × columns; None of those that cannot be read."""
Refused = Mapping[Network, Collection[str]]
"""The compressions, by name, under which networks break a limit."""


@final
@dataclass(frozen=True)
class Offer:
    """The packages of a network within the limits: their compressions, and their losses in logs, accuracy left out."""

    compressions: tuple[Compression, ...]
    losses: Table
    work: float


@final
@dataclass(frozen=True)
class Images:
    """How many there are of each kind."""

    training: int
    validation: int


@final
class Acquisition:
    """Chooses trainings; what it reads of networks it keeps.

    Args:
        plan: objectives, limits and seed.
        space: the choices.
        reader: reads networks without training.
        images: how many a training looks at in an epoch, and on how many top-1 is taken.
    """

    def __init__(self, plan: Plan, space: Space, reader: Reader, images: Images) -> None:
        self.plan, self.space, self.reader, self.images = plan, space, reader, images
        self._axes = [row.reading for row in select(plan.objectives) if row != ACCURACY]
        self._limits = {OBJECTIVES[n].reading: b for n, b in plan.bounds.items() if not OBJECTIVES[n].needs_data}
        self._bounded: list[Column] = [(name, plan.strict) for name in self._limits]
        read: list[Column] = [*((name, False) for name in self._axes), *self._bounded, (WORK, False)]
        self._columns = tuple(dict.fromkeys(read))
        self._foreseen: dict[Network, Table | None] = {}
        self._teachers: dict[str, tuple[float, int]] = {}

    def best(self, run: Run, at_work: Sequence[Candidate]) -> Candidate | None:
        """Return the training to begin next, under the compression that is worth most; None where nothing can be told.

        Of a backbone that was never asked the network is read before it is chosen, and all is weighed once more.
        """
        history = History(run.results)
        if not history.trainings or ACCURACY.name not in self.plan.objectives:
            return None
        tables = {network: self._read(network, packages) for network, packages in self._packages(run).items()}
        pool = self._pool(run, history, at_work)
        while (chosen := self._weighed(run, history, pool, at_work, tables)) is not None:
            backbone = chosen.network.backbone
            if any(network.backbone == backbone for network in tables):
                break
            tables[chosen.network] = self._read(chosen.network, {})
        return chosen

    def _weighed(
        self, run: Run, history: History, pool: Sequence[Candidate], at_work: Sequence[Candidate], tables: Tables
    ) -> Candidate | None:
        """Return what is worth most of a pool, by what was read until now."""
        offers = self._offers([*pool, *at_work], tables, self._refused(run))
        pool = [candidate for candidate in pool if candidate.network in offers]
        if not pool:
            return None
        foretold = _Foretold(history, offers, self.images.validation)
        box = self._box(run, offers.values())
        for prospect in foretold.prospects([one for one in at_work if one.network in offers and history.new(one)]):
            box.expect(prospect)
        prospects, remaining = foretold.prospects(pool), self._remaining(run, history)
        efforts = [self._effort(history, one, offers[one.network].work, remaining) for one in pool]
        worth = np.array(
            [box.gain(prospect) / effort for prospect, (effort, _) in zip(prospects, efforts, strict=True)]
        )
        ends = np.array([in_time for _, in_time in efforts])
        first = int(np.argmax(worth * ends if (worth[ends] > 0).any() else worth))
        return self._package(run, pool[first], offers, prospects[first], box) if worth[first] > 0 else None

    def in_time(self, run: Run, candidate: Candidate) -> bool:
        """Whether a training ends within the timeout, as far as can be told."""
        if self.plan.search.seconds is None:
            return True
        history = History(run.results)
        return self._effort(history, candidate, count(candidate.network).macs, self._remaining(run, history))[1]

    def _remaining(self, run: Run, history: History) -> Remaining:
        """Return what is left of the timeout, the pace of each training that has ended known."""
        left = seconds_left(self.plan, run.results)
        paces: dict[str, list[float]] = {}
        if math.isfinite(left):
            seconds, firsts = seconds_of(run.results), first_students(run.results)
            for key, packages in history.packages.items():
                one = packages[0]
                if WORK in one.score:
                    new = firsts.get(one.candidate.recipe.teacher or "") == key
                    effort = self._whole(one.candidate, one.score[WORK].value, new=new)
                    paces.setdefault(one.candidate.network.backbone, []).append(seconds[key] / effort)
        return Remaining(left, paces)

    def _pool(self, run: Run, history: History, at_work: Sequence[Candidate]) -> list[Candidate]:
        """Return one candidate of each training that is considered."""
        draws = random.Random(digest_of([self.plan.search.seed, len(run.results)]))
        low, high = self.space.ladder[0], self.space.ladder[-1]

        def drawn(rung: int) -> Iterator[Candidate]:
            for _ in range(DRAWS):
                yield self.space.decode(lambda knob: rung if knob.name == RUNG else draws.choice(knob.choices))

        trained = {row.candidate.network.backbone for row in history.trainings}
        near = [self.space.on_rung(member.candidate, low) for member in self._balanced_first(run)[:NEAR]]
        considered = [
            *history.promotions(self.space),
            *(other for candidate in near for other in self.space.neighbours(candidate)),
            *drawn(low),
            *(candidate for candidate in drawn(high) if candidate.network.backbone not in trained),
        ]
        taken = {*(one.training for one in at_work), *history.ended}
        return list({key: one for one in considered if (key := one.training) not in taken}.values())

    def _balanced_first(self, run: Run) -> list[Result]:
        """Return the front, the most balanced first."""
        members, axes = front(run), run.objectives
        order = shortlist([losses(member.score, axes) for member in members], [axis.scale for axis in axes])
        return [members[place] for place in order]

    def _offers(self, wanted: Iterable[Candidate], tables: Tables, over: Refused) -> dict[Network, Offer]:
        """Return what networks offer within the limits, read or guessed; nothing that was found to break one.

        Read are those of which packages were asked, and what this choice needs: never more, or what is guessed would
        depend on what was read before a search was killed.
        """
        known = {network: table for network, table in tables.items() if table is not None}
        scaling = Scaling([name for name, _ in self._columns], known)
        refused = {network.backbone for network in tables} - {network.backbone for network in known}
        networks = {candidate.network for candidate in wanted if candidate.network.backbone not in refused}
        offers = {
            network: self._offer(scaling.of(network), over.get(network, ()))
            for network in networks
            if tables.get(network, ()) is not None
        }
        return {network: offer for network, offer in offers.items() if offer is not None}

    def _refused(self, run: Run) -> Refused:
        """Return the packages that were found to break a limit, whatever was foretold of them."""
        found: dict[Network, set[str]] = {}
        for result in run.results:
            if isinstance(result.outcome, Infeasible):
                found.setdefault(result.candidate.network, set()).add(spell(result.candidate.compression))
        return found

    def _packages(self, run: Run) -> dict[Network, dict[str, Score]]:
        """Return what is known without training of each package that was asked, by network and compression."""
        found: dict[Network, dict[str, Score]] = {}
        for result in run.results:
            score = getattr(result.outcome, "score", {})
            found.setdefault(result.candidate.network, {})[spell(result.candidate.compression)] = score
        return found

    def _read(self, network: Network, packages: Mapping[str, Score]) -> Table | None:
        """Read a network: from its packages where each was made, or else, once, without training.

        One that cannot be read is None, and its trial says why.
        """
        made = [packages.get(spell(compression), {}) for compression in self.space.compressions]
        if all(name in score for score in made for name, _ in self._columns):
            return self._table(made)
        if network not in self._foreseen:
            self._foreseen[network] = self._without_training(network)
        return self._foreseen[network]

    def _without_training(self, network: Network) -> Table | None:
        try:
            table = self._table(list(self.reader.foreseen(network, (Compression(), *self.space.compressions))))
        except Exception:
            return None
        for column, (name, _) in enumerate(self._columns):
            if name == SIZE:
                table[:, column] /= AT_BEST
            if name == MEMORY:  # of some schemes it is not foretold: as uncompressed
                table[:, column] = np.where(table[:, column] > 0, table[:, column], table[0, column])
        return table[1:]

    def _table(self, scores: Sequence[Score]) -> Table:
        return np.array([[_end(score[name], worse) for name, worse in self._columns] for score in scores])

    def _offer(self, logs: Table | None, over: Collection[str]) -> Offer | None:
        if logs is None:
            return None
        own = {column: logs[:, place] for place, column in enumerate(self._columns)}
        kept = np.array([spell(one) not in over for one in self.space.compressions])
        for column in self._bounded:
            kept &= own[column] <= math.log(self._limits[column[0]])
        losses = np.array([own[name, False] for name in self._axes]).T.reshape(len(logs), len(self._axes))
        compressions = tuple(one for one, keeps in zip(self.space.compressions, kept, strict=True) if keeps)
        return Offer(compressions, losses[kept], math.exp(own[WORK, False][0])) if compressions else None

    def _box(self, run: Run, offers: Iterable[Offer]) -> Box:
        """Return the box around all that is offered and the front, what the front dominates taken."""
        members = front(run)
        own = np.array([[math.log(member.score[name].value) for name in self._axes] for member in members])
        own = own.reshape(len(members), len(self._axes))
        errors = np.array([1 - member.score[TOP1].value for member in members])
        everything = np.concatenate([own, *(offer.losses for offer in offers)])
        least = self.plan.bounds.get(ACCURACY.name, USEFUL if (1 - errors > USEFUL).any() else 0.0)
        worst = min(float(errors.max(initial=0.0)) or 1.0, 1 - least)
        box = Box(everything.min(axis=0), everything.max(axis=0) + MARGIN, worst, self.plan.search.seed)
        box.take(own, errors)
        return box

    def _effort(self, history: History, candidate: Candidate, work: float, remaining: Remaining) -> tuple[float, bool]:
        """Return the work that a training counts with, and whether there is time for all of it.

        Of a teacher that is not trained yet it bears a share: others will learn from it, as many as there is time for. One
        that leaves too little time for that waits until nothing else is left.
        """
        name, backbone = candidate.recipe.teacher, candidate.network.backbone
        counted, time = self._whole(candidate, work, new=False), remaining.effort(backbone)
        if name is None:
            return counted, counted <= time
        alone, slower = effort(self.images.training * candidate.recipe.epochs, work), remaining.slower(name, backbone)
        student = alone + slower * (counted - alone)  # what is the teacher's takes the teacher's time
        if name in history.teachers:
            return counted, student <= time
        teacher = slower * (self._whole(candidate, work, new=True) - counted)
        shared = remaining.shared(time, student, teacher)
        in_time = student + teacher <= time and teacher <= TEACHING * time
        return self._whole(candidate, work, new=True, shared=shared), in_time

    def _whole(self, candidate: Candidate, work: float, *, new: bool, shared: float = 1.0) -> float:
        """Return the work of a training with its packages, and of its teacher's training, where that is new, a share."""
        images = self.images.training * candidate.recipe.epochs
        macs, taught = self._teaching(candidate.recipe.teacher)
        return effort(images, work, macs, taught * new, shared)

    def _teaching(self, name: str | None) -> tuple[float, int]:
        """Return a teacher's multiply-accumulates and the images of its training; nothing of one that is given."""
        if name is None or is_checkpoint(name):
            return 0.0, 0
        if name not in self._teachers:
            epochs = teacher_recipe(self.plan, name, self.space.classes).epochs
            macs = count(teacher_network(self.plan, name, self.space.classes)).macs
            self._teachers[name] = float(macs), epochs * self.images.training
        return self._teachers[name]

    def _package(
        self, run: Run, candidate: Candidate, offers: Mapping[Network, Offer], prospect: Prospect, box: Box
    ) -> Candidate:
        """Return the candidate under the compression that wins most, of those that were not tried."""
        tried = {result.candidate.digest for result in run.results}
        packages = [self.space.compressed(candidate, one) for one in offers[candidate.network].compressions]
        new = [n for n, package in enumerate(packages) if package.digest not in tried]
        return packages[max(new, key=lambda n: box.gain(prospect.only(n)), default=0)]


def _end(reading: Reading, worse: bool) -> float:
    """The value, or the interval's worse end: all that is read without training is the better the smaller."""
    return reading.high if worse else reading.value


@final
class _Foretold:
    """The accuracy of trainings, as the surrogate foretells it, with what their networks offer."""

    def __init__(self, history: History, offers: Mapping[Network, Offer], images: int) -> None:
        self.history, self.offers = history, offers
        self.surrogate, self.drops = Surrogate(history.trainings, images), Drops(history.drops)

    def prospects(self, trainings: Sequence[Candidate]) -> list[Prospect]:
        """Return what each training may yield, given what it inherits."""
        if not trainings:
            return []
        known = [(one, self.history.epochs(one, self.history.parent_of(one))) for one in trainings]
        means, deviations = self.surrogate.top1(known)
        return [self._prospect(one, *pair) for one, *pair in zip(trainings, means, deviations, strict=True)]

    def _prospect(self, candidate: Candidate, mean: float, deviation: float) -> Prospect:
        network, offer = candidate.network, self.offers[candidate.network]
        drops = np.array([self.drops.of(network.family, one) for one in offer.compressions])
        return Prospect(offer.losses, drops, mean, deviation)
