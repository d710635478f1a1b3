"""Addresses of storages: what is refused and why, and where a password never appears."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from coreml_pareto.search.config import dump_plan, load_plan
from coreml_pareto.search.storage.address import VARIABLE, Address, check_environment, complete, parse
from coreml_pareto.spaces.errors import UserError

SECRET = "s3cret{}%/@"
QUOTED = "s3cret%7B%7D%25%2F%40"


@pytest.mark.parametrize(
    ("text", "driver", "shown"),
    [
        (f"postgresql://me:{QUOTED}@db/birds", "postgresql+psycopg", "postgresql://me@db/birds"),
        (f"postgresql+psycopg://me:{QUOTED}@db:5433/birds?sslmode=require", "postgresql+psycopg",
         "postgresql+psycopg://me@db:5433/birds?sslmode=require"),
        (f"mysql://me:{QUOTED}@db/birds", "mysql+pymysql", "mysql://me@db/birds"),
        (f"mysql+mysqldb://me:{QUOTED}@db/birds", "mysql+mysqldb", "mysql+mysqldb://me@db/birds"),
    ],
)  # fmt: skip
def test_an_address_keeps_its_password_to_itself(text: str, driver: str, shown: str) -> None:
    address = parse(text)
    assert (address.shown, str(address), address.password) == (shown, shown, SECRET)
    assert SECRET not in repr(address) and QUOTED not in repr(address)
    assert (address.url.drivername, address.url.password, address.url.host) == (driver, SECRET, "db")
    assert address == parse(shown) and pickle.loads(pickle.dumps(address)).password == SECRET
    assert address.without_password(f"no\n  entry for {SECRET}") == "no entry for ***"


def test_the_proxy_has_a_host_and_a_port() -> None:
    assert (parse("grpc://head:13000").scheme, parse("grpc://head:13000").url.port) == ("grpc", 13000)
    for text in ("grpc://head", "grpc://:13000"):
        with pytest.raises(UserError, match="grpc://host:port"):
            parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sqlite:////shared/study.db", "SQLite is for one machine: its locks do not hold on disks that machines share"),
        ("study.db", "cannot be read"),
        ("redis://me:hunter2@db/0", "got one that begins with redis://"),
        ("postgresql://me:hunter2@db", "names a database"),
        ("postgresql://db/birds?password=hunter2", "has its password behind the user"),
        ("postgresql://me:hunter2@db:port/birds", "cannot be read"),
    ],
)
def test_what_is_no_storage_is_refused_without_its_password(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as refused:
        parse(text)
    assert "hunter2" not in str(refused.value) and refused.value.__suppress_context__ | (
        refused.value.__context__ is None
    )


def test_a_plan_is_written_without_the_password(tmp_path: Path) -> None:
    plan = load_plan(None, {"storage": f"postgresql://me:{QUOTED}@db/birds", "store": "/shared"})
    written = dump_plan(plan)
    assert isinstance(plan.storage, Address) and plan.storage.password == SECRET
    for text in (written, repr(plan), str(plan), plan.model_dump_json(), json.dumps(plan.model_dump(mode="json"))):
        assert SECRET not in text and QUOTED not in text
    (tmp_path / "study.yaml").write_text(written)
    again = load_plan(str(tmp_path / "study.yaml"))
    assert again == plan and again.storage is not None and again.storage.password is None


def test_a_storage_without_a_common_store_is_refused_with_the_reason() -> None:
    with pytest.raises(
        UserError, match="needs a store that all of them share, for each reads the packages of the others"
    ):
        load_plan(None, {"storage": "postgresql://me@db/birds"})


def test_the_environment_brings_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered, whole = parse("postgresql://me@db/birds"), f"postgresql://me:{QUOTED}@db/birds"
    monkeypatch.delenv(VARIABLE, raising=False)
    assert complete(remembered).password is None
    monkeypatch.setenv(VARIABLE, whole)
    assert complete(remembered).password == SECRET and complete(remembered) == remembered
    assert complete(parse("postgresql://me:own@db/birds")).password == "own"
    check_environment(remembered)
    monkeypatch.setenv(VARIABLE, "postgresql://me:x@tunnel/birds")
    assert complete(remembered).url.host == "tunnel"  # the folder is read from elsewhere
    with pytest.raises(
        UserError, match=r"must name one place; got postgresql://me@db/birds and postgresql://me@tunnel"
    ):
        check_environment(remembered)
