"""Where do several machines keep one study?  A URL of a database server or of Optuna's gRPC proxy.

Whoever prints an address or writes it down gets it without its password. A run folder remembers it so; the password
then comes from the command again, from the environment (`COREML_PARETO_STORAGE` holds the whole URL), or from the
driver's own places (PGPASSWORD, ~/.pgpass).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, final

import sqlalchemy.exc
from pydantic import BeforeValidator, InstanceOf, PlainSerializer
from sqlalchemy.engine import URL, make_url

from coreml_pareto.spaces.errors import UserError

VARIABLE = "COREML_PARETO_STORAGE"
HIDDEN = "***"
DRIVERS: Mapping[str, str] = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "grpc": "grpc"}
"""By scheme, what SQLAlchemy calls the driver that is taken where none is named."""
LEGAL = "postgresql://user@host/database, mysql://user@host/database or grpc://host:port"
_SQLITE = (
    "SQLite is for one machine: its locks do not hold on disks that machines share, and the study would be damaged; "
    f"give {LEGAL}, or leave --storage out."
)


@final
@dataclass(frozen=True)
class Address:
    """A place without its password, which is kept beside it and neither printed nor written."""

    shown: str
    password: str | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.shown

    @property
    def url(self) -> URL:
        """For SQLAlchemy: driver and password are in."""
        url = make_url(self.shown)
        named = url.drivername if "+" in url.drivername else DRIVERS[url.drivername]
        return url.set(drivername=named, password=self.password)

    @property
    def scheme(self) -> str:
        """`postgresql`, `mysql` or `grpc`."""
        return make_url(self.shown).get_backend_name()

    def without_password(self, text: object) -> str:
        """Return what somebody says of this place in one line, the password struck out wherever it stands."""
        line = " ".join(str(text).split())
        return line.replace(self.password, HIDDEN) if self.password else line


def parse(text: str) -> Address:
    """Return an address.

    Raises:
        UserError: it names no server of a kind that is known, or has its password at a wrong place; it is not repeated
            in full.
    """
    try:
        url = make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise UserError(f"A storage is a URL such as {LEGAL}; this one cannot be read.") from None
    kind = url.get_backend_name()
    if kind == "sqlite":
        raise UserError(_SQLITE)
    if kind not in DRIVERS:
        raise UserError(f"A storage is a URL such as {LEGAL}; got one that begins with {kind}://.")
    if any("pass" in name.lower() for name in url.query):
        raise UserError("A storage has its password behind the user, postgresql://user:password@host/database.")
    if kind == "grpc" and not (url.host and url.port):
        raise UserError("Optuna's gRPC proxy is given as grpc://host:port; host or port is missing.")
    if kind != "grpc" and not url.database:
        raise UserError(f"A storage names a database, as in {LEGAL}; this one names none.")
    bare = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, url.query)
    return Address(bare.render_as_string(hide_password=False), url.password)


def complete(remembered: Address) -> Address:
    """Return an address with what the environment adds: the whole URL, where it came without a password."""
    given = os.environ.get(VARIABLE)
    return parse(given) if given and remembered.password is None else remembered


def check_environment(asked: Address) -> None:
    """Refuse a search whose command and environment name two places."""
    given = os.environ.get(VARIABLE)
    if given and asked.password is None and parse(given) != asked:
        raise UserError(
            f"--storage and {VARIABLE} must name one place; got {asked} and {parse(given)}: leave one of them out."
        )


def _read(value: Any) -> Any:
    return parse(value) if isinstance(value, str) else value


AddressField = Annotated[InstanceOf[Address], BeforeValidator(_read), PlainSerializer(str)]
"""A key of the study file: read from a URL, written without its password."""
