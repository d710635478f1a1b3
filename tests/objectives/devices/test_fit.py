"""The fit of published latencies: against finite differences, against figures made up with known parameters, and its doubt."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.fit import Setting, fit, fitted
from coreml_pareto.objectives.devices.published import XCODE, Published, published

TERMS = tuple(priors.TERMS)


def figure(terms: tuple[float, ...], ms: float, chip: str = "A14", stopwatch: str = XCODE) -> Published:
    return Published("made up", "made up", "iPhone", chip, 16, stopwatch, ms, "none", terms)


def test_without_figures_the_prior_is_all_there_is() -> None:
    nothing = fit([])
    assert nothing.slopes == pytest.approx({term: prior.value for term, prior in priors.TERMS.items()})
    assert nothing.floor("A17 Pro", XCODE).ms == pytest.approx(priors.T0.value)


def test_known_parameters_are_found_again() -> None:
    random = np.random.default_rng(0)
    slopes = {term: prior.value * factor for (term, prior), factor in
              zip(priors.TERMS.items(), random.uniform(0.6, 1.6, len(TERMS)), strict=True)}  # fmt: skip
    networks = random.gamma(0.5, 1.0, (300, len(TERMS))) / np.array(list(slopes.values()))
    made = []
    for index, terms in enumerate(networks):
        chip, speed = (("A14", 1.0), ("A16", 0.8))[index % 2]
        made.append(figure(tuple(terms), 0.2 + speed * float(terms @ list(slopes.values())), chip))
    found = fit(made)
    for terms in networks[:20]:
        told = found.estimate(tuple(terms), Setting("A16", XCODE, 16))
        assert told.ms == pytest.approx(0.2 + 0.8 * float(terms @ list(slopes.values())), rel=0.02)
    ratios = np.array([found.slopes[term] / slopes[term] for term in TERMS])
    assert ratios / np.median(ratios) == pytest.approx(np.ones(len(TERMS)), rel=0.05)


def test_the_mode_is_a_minimum_of_the_penalised_loss() -> None:
    from coreml_pareto.objectives.devices.fit import _loss, _Problem

    known, found = published(), fitted()
    settings = [Setting(one.chip, one.stopwatch, one.os) for one in known]
    problem = _Problem(found.layout, np.array([one.terms for one in known]), *found.layout.indicators(settings))
    log_ms = np.log([one.ms for one in known])
    slope = [
        (_loss(problem, log_ms, found.mode + step) - _loss(problem, log_ms, found.mode - step)) / 2e-4
        for step in 1e-4 * np.eye(len(found.mode))
    ]
    assert np.abs(slope).max() < 0.05


def test_an_outlier_counts_less_than_it_would_by_squares() -> None:
    terms = tuple(1.0 for _ in TERMS)
    usual = [figure(terms, 1.0)] * 8
    told = fit([*usual, figure(terms, 8.0)]).estimate(terms, Setting("A14", XCODE, 16))
    assert told.ms < math.exp(math.log(8) / 9)  # the geometric mean, where squares would put it


def test_doubt_grows_with_the_distance_from_what_was_published() -> None:
    terms = next(one.terms for one in published() if one.network == "mobilenetv2_100@224")
    doubts = [
        fitted().estimate(terms, Setting(chip, XCODE, None)).deviation for chip in ("A16", "A17 Pro", "A18", "A19")
    ]
    assert doubts == sorted(doubts) and doubts[-1] > 1.05 * doubts[1]
    alien = tuple(
        100.0 * (term == "depthwise") for term in TERMS
    )  # nobody published a network of such convolutions only
    assert fitted().estimate(alien, Setting("A16", XCODE, None)).deviation > 2 * doubts[0]


def test_chips_without_figures_are_like_the_nearest_that_has_some() -> None:
    """Nothing pulls an old chip ahead of the oldest that was timed, nor a new one behind the newest."""
    for terms in (one.terms for one in published() if one.chip == "A14"):
        ms = {chip: fitted().estimate(terms, Setting(chip, XCODE, None)).ms for chip in priors.GENERATIONS}
        assert 0.97 * ms["A14"] < ms["A13"] < 1.03 * ms["A14"] and ms["A12"] == pytest.approx(ms["A13"], rel=1e-6)
        assert 0.97 * ms["A17 Pro"] < ms["A18"] < 1.03 * ms["A17 Pro"] and ms["A19"] == pytest.approx(
            ms["A18"], rel=1e-6
        )


def test_chips_walk() -> None:
    """Two chips have in common what their generations passed together; on either side of the first, nothing."""
    from coreml_pareto.objectives.devices.fit import _kernel

    kernel = _kernel(("A12", "A14", "A15", "A17 Pro", "M1", "M3"))
    own, mac = priors.OWN_SHARE, priors.MAC_DISTANCE
    expected = [
        [2 + own, 0, 0, 0, 0, 0],
        [0, own, 0, 0, 0, 0],
        [0, 0, 1 + own, 1, 0, 1],
        [0, 0, 1, 3 + own, 0, 2],
        [0, 0, 0, 0, mac + own, mac],
        [0, 0, 1, 2, mac, 2 + mac + own],
    ]
    assert kernel == pytest.approx(np.array(expected))


def test_a_stopwatch_that_nobody_named_widens() -> None:
    terms = tuple(1.0 for _ in TERMS)
    named, unnamed = (fitted().estimate(terms, Setting("A14", name, None)) for name in (XCODE, None))
    assert unnamed.deviation > named.deviation


def test_parts_add_up() -> None:
    one = published()[0]
    told = fitted().estimate(one.terms, Setting(one.chip, one.stopwatch, one.os))
    assert told.t0 + sum(told.parts) == pytest.approx(told.ms)
    assert dataclasses.is_dataclass(told) and told.interval[0] < told.ms < told.interval[1]


def test_families_left_out_are_estimated_as_the_readme_says() -> None:
    """The three large tables, one family left out at a time; the benchmark compares with baselines."""
    errors: dict[tuple[str, str], list[float]] = {}
    held = []
    for family in {one.family for one in published()}:
        others = fit(one for one in published() if one.family != family)
        for one in (one for one in published() if one.family == family):
            told = others.estimate(one.terms, Setting(one.chip, one.stopwatch, one.os))
            errors.setdefault((one.chip, one.source.split()[0]), []).append(abs(told.ms / one.ms - 1))
            held.append(told.interval[0] <= one.ms <= told.interval[1])
    tables = [errors["A14", "RV"], errors["A15", "IF"], errors["A15", "MN4"]]
    assert [len(table) for table in tables] == [18, 62, 18]
    assert sum(map(sum, tables)) / 98 == pytest.approx(0.115, abs=0.003)
    assert 0.75 <= sum(held) / len(held) <= 0.9


def test_a_table_never_seen_is_estimated_nearly_as_well_as_others() -> None:
    """The largest by far, most of whose networks have attention, by what other stopwatches told of the same chip."""
    seen, table = ([one for one in published() if (one.stopwatch == "iFormer paper") == own] for own in (False, True))
    others = fit(seen)
    told = [others.estimate(one.terms, Setting(one.chip, "MobileNetV4 paper", None)).ms / one.ms for one in table]
    assert len(table) == 62 and np.mean(np.abs(np.array(told) - 1)) < 0.14
    assert abs(np.median(np.log(told))) < 0.05
