"""How is the storage of several machines opened, and why not?  Refusals come before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import optuna
import sqlalchemy.exc
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage, get_storage
from sqlalchemy import text
from sqlalchemy.engine import create_engine
from sqlalchemy.pool import NullPool

from coreml_pareto.search.storage.address import Address, complete
from coreml_pareto.search.storage.patience import impatient, patient
from coreml_pareto.spaces.errors import UserError

CONNECT: Final = 10
"""Seconds in which a server answers, or does not."""
_TURN: Final = {"postgresql": "SELECT pg_advisory_lock(1668117093)", "mysql": "SELECT GET_LOCK('coreml-pareto', 60)"}
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    # A cable that is cut is noticed within a minute, not when the kernel gives up after two hours.
    "postgresql": {
        "connect_timeout": CONNECT, "keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3,
        "tcp_user_timeout": 50_000,
    },
    "mysql": {"connect_timeout": CONNECT, "read_timeout": 60, "write_timeout": 60},
}  # fmt: skip


def open_storage(
    remembered: Address, patience: float = 0.0, tell: Callable[[str], None] = lambda line: None
) -> BaseStorage:
    """Return the storage at an address, completed by the environment; it is waited for as `patience` says.

    Raises:
        UserError: its driver is not installed, no server answers there, or it holds something else.
    """
    address = complete(remembered)
    try:
        inner = _proxy(address) if address.scheme == "grpc" else _database(address)
    except ImportError:
        raise UserError(
            f"A storage at {address.scheme}:// needs a driver that is not installed: "
            f"pip install 'coreml-pareto[{address.scheme}]'."
        ) from None
    return patient(inner, address, patience, tell)


def close_storage(storage: BaseStorage) -> None:
    """Close the connections of a storage that was opened here."""
    inner: Any = impatient(storage)
    if isinstance(inner, GrpcStorageProxy):
        inner.close()
    else:
        inner._backend.engine.dispose()


@contextmanager
def closing_storage(storage: BaseStorage | None) -> Iterator[None]:
    """Close a storage, if there is one, at the end of a `with`."""
    try:
        yield
    finally:
        if storage is not None:
            close_storage(storage)


@contextmanager
def opened(remembered: Address) -> Iterator[BaseStorage]:
    """Open a storage for the time of a `with`; it is not waited for."""
    storage = open_storage(remembered)
    with closing_storage(storage):
        yield storage


def _proxy(address: Address) -> BaseStorage:
    import grpc  # Optuna's own message names another package

    del grpc
    url = address.url
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = GrpcStorageProxy(host=str(url.host), port=int(url.port or 0))
    try:
        proxy.wait_server_ready(timeout=CONNECT)
    except ConnectionError:
        raise _unreachable(address, f"no answer within {CONNECT} s") from None
    return proxy


def _database(address: Address) -> BaseStorage:
    """Open a database; machines that find it empty take turns, for whoever makes the tables second fails."""
    options = {"connect_args": dict(_OPTIONS[address.scheme])}
    engine = create_engine(address.url, poolclass=NullPool, **options)
    url = address.url.render_as_string(hide_password=False)
    try:
        with engine.connect() as turn:  # and at its end the lock is free
            turn.execute(text(_TURN[address.scheme]))
            return get_storage(RDBStorage(url, engine_kwargs={"pool_pre_ping": True, **options}))
    except sqlalchemy.exc.DBAPIError as error:
        raise _unreachable(address, error.orig) from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _unreachable(address, error) from None
    except RuntimeError as error:  # tables of another Optuna
        raise UserError(f"The storage {address} was set up by another Optuna: {error}") from None


def _unreachable(address: Address, why: object) -> UserError:
    return UserError(
        f"The storage {address} cannot be opened ({address.without_password(why)}): see to the server, its name and the "
        "password (in the URL, or as the driver finds it)."
    )
