"""Real servers that several machines keep a study in, and machines: searches in processes of their own."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

MACHINE = Path(__file__).with_name("machine_double.py")
sys.path.append(str(MACHINE.parent))  # the tests import peers_double


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    """A running PostgreSQL server (`tests/postgres.py`); without one the test is left out, in CI it fails."""
    module = _load(Path(__file__).parents[2] / "postgres.py")
    tools = module.binaries()
    if tools is None:
        missing = "needs a PostgreSQL server, which several machines share (Debian: apt install postgresql)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    server = module.Server(tools)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def database(postgres: Any) -> str:
    """The URL of an empty database."""
    import psycopg

    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return str(postgres.url(database=name))


@pytest.fixture
def open_at() -> Iterator[Callable[..., Any]]:
    """open_at(url, patience, tell) opens a storage and closes it after the test."""
    from coreml_pareto.search.storage.address import parse
    from coreml_pareto.search.storage.opening import close_storage, open_storage

    storages: list[Any] = []

    def start(url: str, *arguments: Any) -> Any:
        storages.append(open_storage(parse(url), *arguments))
        return storages[-1]

    yield start
    for storage in storages:
        close_storage(storage)


@pytest.fixture
def proxy() -> Iterator[Callable[[str], str]]:
    """proxy(url of a database) starts Optuna's gRPC proxy before it and returns its address."""
    from optuna.storages import RDBStorage, get_storage
    from optuna.storages._grpc.server import make_server

    servers: list[Any] = []

    def start(url: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        database = RDBStorage(url)
        server = make_server(get_storage(database), "127.0.0.1", port, ThreadPoolExecutor(8))
        server.start()
        servers.append((server, database.engine))
        return f"grpc://127.0.0.1:{port}"

    yield start
    for server, engine in servers:
        server.stop(0).wait()
        engine.dispose()


class Machine:
    """A search in a process of its own; what it prints goes to a file beside its run folder."""

    def __init__(self, accident: str, study: Path, run: Path, shared: Path, storage: str, *more: str) -> None:
        self.run, self.log = run, run.with_suffix(".log")
        command = [sys.executable, str(MACHINE), accident, "search", str(study), "--run", str(run)]
        command += ["--store", str(shared), "--storage", storage, *more]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ended(self, seconds: float = 600) -> int:
        return self.process.wait(seconds)

    def until(self, seen: Callable[[], object], seconds: float = 300) -> None:
        """Wait until something is seen while the machine runs."""
        deadline = time.monotonic() + seconds
        while not seen():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)


@pytest.fixture
def machine() -> Iterator[Callable[..., Machine]]:
    """machine(accident, study, run, shared, storage) starts one; none is left behind."""
    machines: list[Machine] = []

    def start(*arguments: Any) -> Machine:
        machines.append(Machine(*arguments))
        return machines[-1]

    yield start
    for one in machines:
        if one.process.poll() is None:
            os.killpg(one.process.pid, 9)
            one.process.wait()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clock by which leases are watched."""
    import peers_double

    from coreml_pareto.search.storage import lease

    clock = peers_double.Clock()
    monkeypatch.setattr(lease, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture(params=["memory", "proxy", "postgresql"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """machines(name) joins a common study with a run folder of this name (`peers_double.Machine`)."""
    import peers_double
    from optuna.storages import InMemoryStorage

    if request.param == "proxy":
        address = request.getfixturevalue("proxy")(f"sqlite:///{tmp_path / 'behind.db'}")
    else:
        address = request.getfixturevalue("database") if request.param == "postgresql" else peers_double.ADDRESS
    common = InMemoryStorage()
    joined: list[Any] = []

    def join(name: str) -> Any:
        in_memory = request.param == "memory"
        storage = (
            peers_double.waited_for(common) if in_memory else request.getfixturevalue("open_at")(address, 60.0, print)
        )
        joined.append(peers_double.join(tmp_path / name, storage, peers_double.plan_at(address)))
        return joined[-1]

    yield join
    for machine in joined:
        machine.die()
