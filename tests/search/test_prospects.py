"""How many trainings a budget holds and how long they take, against plain arithmetic on made-up seconds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from coreml_pareto.search import budget
from coreml_pareto.search.budget import Paces, PowerLaw
from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.search.effort import EXPONENT, LOOKING
from coreml_pareto.search.prospects import Outlook, budget_line, outlook
from coreml_pareto.search.teaching import teacher_network
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.counts import count

NETWORK = Network(family="squeezenet", backbone="squeezenet1_1", resolution=32, classes=10, stem_stride=1)
TEACHER = "mobilenetv3_large"


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load_data("digits", limit=300)


def _plan(search: dict[str, Any], **sections: Any) -> Plan:
    networks = {"backbones": ["squeezenet1_1"], "width": [0.25, 0.5, 1.0], "resolution": [32]}
    training = {"device": "cpu", "batch_size": 32, **sections.pop("training", {"epochs": [9]})}
    asked = {"networks": networks, "training": training, "search": search, "compression": ["fp16", "w8a8"]}
    return load_plan(None, asked | sections)


def _line(search: dict[str, Any], seconds: tuple[float, float], teachers: float = 0.0, **sections: Any) -> str:
    return budget_line(_plan(search, **sections), 0.0, Outlook(NETWORK, (3, 9), seconds, teachers))


@pytest.mark.parametrize(
    ("seconds", "teachers", "told"),
    [
        ((10.0, 30.0), 0.0, "the timeout holds about 15 to 45 trainings, 2 packages of each"),
        ((30.0, 30.0), 0.0, "the timeout holds about 15 trainings,"),
        ((10.0, 30.0), 150.0, "the timeout holds about 10 to 30 trainings,"),
        ((400.0, 449.0), 0.0, "the timeout holds about 1 training,"),
        ((200.0, 600.0), 0.0, "the timeout holds up to about 2 trainings,"),
        ((600.0, 1792.0), 0.0, "the timeout holds less than one training, which is finished all the same,"),
        ((1.0, 1.0), 900.0, "the timeout holds less than one training, which is finished all the same,"),
    ],
)
def test_what_a_timeout_holds(seconds: tuple[float, float], teachers: float, told: str) -> None:
    """Three quarters of the ten minutes are for trainings, those of teachers among them."""
    line = _line({"timeout": "10m"}, seconds, teachers)
    assert line.startswith(f"Budget: {told}") and not re.search(r"about 0\b", line)


def test_trials_are_told_as_trainings_and_their_time() -> None:
    label = f"3 to 9 epochs of {NETWORK.label}, the median network; estimated"
    assert _line({"trials": 5}, (20.0, 60.0)) == (
        f"Budget: 5 trials take about 3 trainings, 2 packages of each; one takes about 20 s to 1 min 00 s ({label}); "
        "in all about 1 min 00 s to 3 min 00 s of training."
    )
    both = _line({"trials": 1, "timeout": "10m"}, (0.1, 0.2), 120.0, distillation={"teachers": ["none", TEACHER]})
    assert both == (
        "Budget: the timeout holds about 1650 to 3300 trainings and 1 trial takes about 1 training, 2 packages of each; "
        f"one takes about 1 s ({label}); a teacher, if one is asked, takes about 2 min 00 s once."
    )


def _macs(network: Network) -> float:
    return float(count(network).macs)


def test_what_was_timed_for_the_plan_is_taken(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_seconds_per_image", lambda *_: pytest.fail("timed twice"))
    plan = _plan({"timeout": "10m"}, training={"epochs": {"squeezenet1_1": 9}, "rungs": 2})
    law = PowerLaw(1e-6, 1.0)
    found = outlook(plan, data, Paces({"squeezenet1_1": law}))
    assert found.network.width == 0.5 and found.epochs == (3, 9) and found.teachers == 0.0
    each = law.seconds(found.network) * len(data.train)
    assert found.seconds == pytest.approx((3 * each, 9 * each))


def test_the_median_is_that_of_what_trainings_take(data: DataSet) -> None:
    """Small networks that are slow, or trained for long, are not the quickest."""
    names = ["mobilenetv2", "mobilenetv3_small", "squeezenet1_1"]
    networks = {"backbones": names, "width": [0.5], "resolution": [32]}
    epochs = dict(zip(names, (4, 4, 40), strict=True))
    plan = _plan({"timeout": "10m"}, networks=networks, training={"epochs": epochs})
    paces = Paces({name: PowerLaw(scale, 1.0) for name, scale in zip(names, (1e-4, 1e-6, 2e-6), strict=True)})
    assert outlook(plan, data, paces).network.backbone == "squeezenet1_1"


@pytest.mark.parametrize(
    ("training", "epochs", "further"),
    [
        ({"epochs": [9]}, (3, 9), 0),
        ({"epochs": [9], "rungs": 3}, (3, 9), 0),  # a third rung would have one epoch
        ({"epochs": [18], "rungs": 3}, (2, 18), 0),
        ({"epochs": [9], "rungs": 1}, (9, 9), 0),
        ({"epochs": [20, 12]}, (12, 20), 0),
        ({"epochs": [9], "fine_tune_epochs": [1, 3]}, (3, 9), 3),
    ],
)
def test_without_a_measurement_the_median_network_is_timed_once(
    training: dict[str, Any], epochs: tuple[int, int], further: int, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[Network] = []

    def seconds(network: Network, *_: object) -> float:
        timed.append(network)
        return 0.01

    monkeypatch.setattr(budget, "_seconds_per_image", seconds)
    found = outlook(_plan({"trials": 4}, training=training), data, Paces())
    assert timed == [found.network] and found.network.width == 0.5 and found.epochs == epochs
    each = 0.01 * len(data.train)
    assert found.seconds == pytest.approx(tuple((number + further) * each for number in epochs))


@pytest.mark.parametrize("timed", [True, False])
def test_teachers_are_trained_and_look_at_the_images(timed: bool, data: DataSet) -> None:
    """One of two students is taught; what was not timed follows from the multiply-accumulates."""
    loss = {"teachers": ["none", TEACHER], "teacher_width": 0.5, "teacher_epochs": 7}
    plan = _plan({"timeout": "10m"}, distillation=loss)
    law = PowerLaw(1e-6, 1.0)
    found = outlook(plan, data, Paces({"squeezenet1_1": law}, {TEACHER: 0.25} if timed else {}))
    own, images = law.seconds(found.network), len(data.train)
    by_work = own * (_macs(teacher_network(plan, TEACHER, 10)) / _macs(found.network)) ** EXPONENT
    teacher = 0.25 if timed else by_work
    assert found.teachers == pytest.approx(7 * images * teacher)
    assert found.seconds[1] == pytest.approx(9 * images * (own + LOOKING * teacher / 2))
