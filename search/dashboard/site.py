"""What is answered to a browser?  optuna-dashboard's pages on a view of the run, and packages; nothing but GET.

| asked for                | answer                                                            |
|--------------------------|-------------------------------------------------------------------|
| `/packages/TRIAL.zip`    | the trial's package, zipped now; 404 where there is none          |
| `/api/studies/ID`        | the dashboard's, but for `best_trials`                            |
| anything else            | the dashboard's                                                   |
| any method but GET, HEAD | 405: the dashboard has no read-only mode of its own               |
| another host's name      | 403, where this machine alone is served                           |

A page of another site may let its own name point here once it is open in the browser, and read what only this machine
should (DNS rebinding); the name that the browser asks for gives it away.

The dashboard calls the front of all trials best, infeasible ones among them; here they are the front that `front` shows.
The server is the standard library's, with a thread for each request: a page asks for several things at once.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import socketserver
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO, Final, final
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.util import FileWrapper

import optuna

from coreml_pareto.search.choose import front
from coreml_pareto.search.dashboard.archive import package_of, zipped
from coreml_pareto.search.dashboard.view import View
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

READS: Final = ("GET", "HEAD")
_PACKAGE: Final = re.compile(r"/packages/(\d{1,9})\.zip")
_STUDY: Final = re.compile(r"/api/studies/\d+")
_CHUNK: Final = 1 << 16


@final
class Packages:
    """Optuna's artifact store, as far as it is read: an artifact is named by its trial, and zipped when it is opened."""

    def __init__(self, view: View) -> None:
        self.view = view

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The zipped package of a trial.

        Raises:
            ArtifactNotFound: there is none.
        """
        found = package_of(self.view.run, int(artifact_id)) if artifact_id.isdigit() else None
        if found is None:
            raise optuna.artifacts.exceptions.ArtifactNotFound(artifact_id)
        return zipped(found)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        raise PermissionError("packages are only read here")

    def remove(self, artifact_id: str) -> None:
        raise PermissionError("packages are only read here")


def site(view: View, *, local: bool) -> WSGIApplication:
    """The whole site as a WSGI application; `local`: for this machine alone."""
    from optuna_dashboard import wsgi  # type: ignore[import-untyped]

    dashboard = wsgi(view, artifact_store=Packages(view))
    return _Site(view, dashboard, local)


@final
class _Site:
    """Refuses what is no reading, answers what is ours, and hands the rest to the dashboard."""

    def __init__(self, view: View, dashboard: WSGIApplication, local: bool) -> None:
        self.view, self.dashboard, self.local = view, dashboard, local
        self._best: dict[int, Any] = {}  # as the dashboard told them last, by number

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if self.local and not is_local(_asked(environ)):
            return _plain(start, HTTPStatus.FORBIDDEN, "This page is for this machine alone: ask for it as localhost.")
        path = environ.get("PATH_INFO", "").rstrip("/")
        if environ["REQUEST_METHOD"] not in READS:
            return _plain(
                start, HTTPStatus.METHOD_NOT_ALLOWED, "This page is read only.", [("Allow", ", ".join(READS))]
            )
        if package := _PACKAGE.fullmatch(path):
            return self._package(int(package[1]), environ, start)
        if _STUDY.fullmatch(path):
            return self._study(environ, start)
        return self.dashboard(environ, _without_cors(start))

    def _package(self, trial: int, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        found = package_of(self.view.run, trial)
        if found is None:
            return _plain(start, HTTPStatus.NOT_FOUND, f"Trial {trial} has no package.")
        file = zipped(found)
        length = os.fstat(file.fileno()).st_size
        start(_line(HTTPStatus.OK), [
            ("Content-Type", "application/zip"), ("Content-Length", str(length)),
            ("Content-Disposition", f'attachment; filename="trial-{trial}.mlpackage.zip"'),
        ])  # fmt: skip
        if environ["REQUEST_METHOD"] == "HEAD":
            file.close()
            return []
        return FileWrapper(file, _CHUNK)

    def _study(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """The dashboard's answer with the trials that are best and keep the constraints."""
        answer = _Answer(self.dashboard, {**environ, "REQUEST_METHOD": "GET"})
        body = answer.body
        if answer.status.startswith("200"):
            told = json.loads(body)
            told["best_trials"] = self._best_trials(told["trials"], environ)
            body = json.dumps(told).encode()
        headers = [(name, value) for name, value in answer.headers if name.lower() != "content-length"]
        start(answer.status, [*headers, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _best_trials(self, told: list[dict[str, Any]], environ: WSGIEnvironment) -> list[dict[str, Any]]:
        """The front as the dashboard tells trials; what this answer does not hold, of an earlier one or asked for."""
        wanted = [result.trial for result in front(self.view.run)]
        known = self._best | {trial["number"]: trial for trial in told}
        if missing := [number for number in wanted if number not in known]:
            before = {**environ, "REQUEST_METHOD": "GET", "QUERY_STRING": f"after={min(missing)}"}
            known |= {trial["number"]: trial for trial in json.loads(_Answer(self.dashboard, before).body)["trials"]}
        self._best = {number: known[number] for number in wanted if number in known}
        return list(self._best.values())


def is_local(host: str) -> bool:
    """Whether a name or address means the machine that it is used on."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _asked(environ: WSGIEnvironment) -> str:
    """The name that the browser asks for, without its port."""
    try:
        return urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or ""
    except ValueError:
        return ""


@final
class _Answer:
    """What an application answers, whole."""

    def __init__(self, application: WSGIApplication, environ: WSGIEnvironment) -> None:
        self.status, self.headers = "", list[tuple[str, str]]()
        body = application(environ, self._start)
        try:
            self.body = b"".join(body)
        finally:
            if hasattr(body, "close"):
                body.close()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        self.status, self.headers = status, headers
        return lambda data: None


def _without_cors(start: StartResponse) -> StartResponse:
    """Do not let pages of other sites read packages, as the dashboard's artifacts would."""

    def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        kept = [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]
        return start(status, kept) if exc_info is None else start(status, kept, exc_info)

    return begin


def _plain(
    start: StartResponse, status: HTTPStatus, text: str, headers: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    body = text.encode()
    start(_line(status), [
        ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers
    ])  # fmt: skip
    return [body]


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """One thread for each request; none keeps the program from ending."""

    daemon_threads = True


@final
class _Server6(_Server):
    """The same on an address of IPv6."""

    address_family = socket.AF_INET6


@final
class _Quiet(WSGIRequestHandler):
    """Does not print every request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def open_server(view: View, host: str, port: int) -> WSGIServer:
    """A server that listens; `serve_forever` answers. Port 0 takes a free one.

    Raises:
        UserError: nothing can listen there.
    """
    try:
        kind = _Server6 if ":" in host else _Server
        return make_server(host, port, site(view, local=is_local(host)), server_class=kind, handler_class=_Quiet)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"The dashboard listens on {host}:{port}, where it cannot ({error}); give another --port, or --port 0 for a free "
            "one, and as --host an address of this machine."
        ) from error
