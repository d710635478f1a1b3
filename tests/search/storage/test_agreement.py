"""All machines of a study ask the same: the first one's plan counts, another question is refused with what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from coreml_pareto.search.config import Plan, dump_plan, load_plan
from coreml_pareto.search.record import MACHINE, PLAN, REQUEST
from coreml_pareto.search.storage.agreement import ASKED, RESOLVED, begin, differences, meet
from coreml_pareto.search.storage.opening import close_storage
from coreml_pareto.spaces.errors import UserError


def _plan(url: str, **sections: Any) -> Plan:
    asked: dict[str, Any] = {"name": "birds", "data": "digits", "store": "/shared", "storage": url}
    return load_plan(None, asked | sections)


def _begin(folder: Path, asked: Plan, digest: str, epochs: int) -> Plan:
    """What a machine does that planned so many epochs."""
    folder.mkdir()
    training = asked.training.model_copy(update={"epochs": (epochs,)})
    resolved = asked.model_copy(update={"training": training})
    (folder / PLAN).write_text(dump_plan(resolved))
    (folder / REQUEST).write_text(json.dumps({**asked.model_dump(mode="json"), "data_digest": digest}))
    plan, storage = begin(resolved, folder, print)
    assert storage is not None
    close_storage(storage)
    return plan


@pytest.fixture
def url(tmp_path: Path, proxy: Any) -> str:
    return str(proxy(f"sqlite:///{tmp_path / 'behind.db'}"))


def test_whoever_joins_takes_over_what_the_first_has_planned(tmp_path: Path, url: str) -> None:
    asked = _plan(url)
    assert meet(asked, "d1") is None
    first = _begin(tmp_path / "a", asked, "d1", epochs=7)
    own = {"workers": 3, "trials": 9, "timeout": "1h", "patience": "5m"}
    other = _plan(url, data="/mnt/digits", store="/mnt/shared", search=own, training={"device": "cpu"})
    met = meet(other, "d1")
    assert met is not None and met.training.epochs == first.training.epochs == (7,)
    assert (met.data, met.store, met.search, met.training.device) == ("/mnt/digits", "/mnt/shared", other.search, "cpu")
    assert (tmp_path / "a" / MACHINE).is_file()


def test_of_two_that_begin_at_once_the_first_plan_counts(tmp_path: Path, url: str) -> None:
    """Both found nobody, and planned for themselves."""
    first = _begin(tmp_path / "a", _plan(url), "d1", epochs=7)
    second = _begin(tmp_path / "b", _plan(url), "d1", epochs=5)
    assert first.training.epochs == second.training.epochs == (7,)
    assert load_plan(str(tmp_path / "b" / PLAN)).training.epochs == (7,)


def test_other_pictures_are_refused(tmp_path: Path, url: str) -> None:
    _begin(tmp_path / "a", _plan(url), "d1", epochs=7)
    with pytest.raises(UserError, match=r"The study birds in grpc://.* is on other pictures .*d1 there, d2 here"):
        meet(_plan(url), "d2")


def test_another_question_is_refused_with_what_differs(tmp_path: Path, url: str) -> None:
    _begin(tmp_path / "a", _plan(url, networks={"width": [0.5]}, limits={"size": "1MB"}), "d1", epochs=7)
    with pytest.raises(UserError) as refused:
        meet(_plan(url, networks={"width": [0.35]}, search={"seed": 4}), "d1")
    for told in ("networks.width (there [0.5], here [0.35])", 'limits.size (there "1MB", here null)', "search.seed"):
        assert told in str(refused.value)


def test_a_machine_that_died_before_it_said_what_it_asks_blocks_nobody(
    tmp_path: Path, url: str, open_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coreml_pareto.search.storage.agreement.MOMENT", 0.5)
    study = optuna.create_study(study_name="birds", storage=open_at(url), directions=["maximize"] + ["minimize"] * 4)
    assert meet(_plan(url), "d1") is None
    assert _begin(tmp_path / "a", _plan(url), "d1", epochs=3).training.epochs == (3,)
    assert {ASKED, RESOLVED} <= study.user_attrs.keys()


def test_what_differs_is_named_by_its_keys() -> None:
    theirs = {"a": 1, "training": {"device": "cpu", "epochs": 4}, "store": "x", "only": None}
    ours = {"a": 2, "training": {"device": "cuda", "epochs": 5}, "store": "y", "new": [1]}
    assert list(differences(theirs, ours)) == [
        "a (there 1, here 2)", "training.epochs (there 4, here 5)", "new (there null, here [1])",
    ]  # fmt: skip
