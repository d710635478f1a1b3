"""What a browser is answered: asked over HTTP, as it asks."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from coreml_pareto.search.dashboard.site import open_server
from coreml_pareto.search.dashboard.view import open_view
from coreml_pareto.spaces.errors import UserError


@contextmanager
def _served(folder: Path) -> Iterator[Callable[..., tuple[int, dict[str, str], bytes]]]:
    """Serve a run; gives ask(path, method="GET") -> status, headers, body."""
    with open_server(open_view(folder), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()

        def ask(
            path: str, method: str = "GET", body: str | None = None, **headers: str
        ) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            sent = {"Accept-Encoding": "identity", "Content-Type": "application/json"} | headers
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            told = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
            connection.close()
            return told

        try:
            yield ask
        finally:
            server.shutdown()
            thread.join()


def _study(ask: Callable[..., Any], after: int | None = None) -> dict[str, Any]:
    (listed,) = json.loads(ask("/api/studies")[2])["study_summaries"]
    status, _, body = ask(f"/api/studies/{listed['study_id']}" + ("" if after is None else f"?after={after}"))
    assert status == 200
    answer: dict[str, Any] = json.loads(body)
    return answer


def _infeasible(told: dict[str, Any]) -> set[int]:
    """As the page itself decides: a trial that ended, one of whose constraints is above zero."""
    return {trial["number"] for trial in told["trials"] if any(amount > 0 for amount in trial["constraints"])}


def test_the_api_says_which_trials_are_infeasible(recorded: Any) -> None:
    with _served(recorded.folder) as ask:
        told = _study(ask)
    assert len(told["trials"]) == 7 and _infeasible(told) == recorded.infeasible
    assert {trial["number"] for trial in told["best_trials"]} == recorded.best


def test_another_sites_name_is_refused_on_this_machines_own_address(recorded: Any) -> None:
    with _served(recorded.folder) as ask:
        for path in ("/api/studies", "/dashboard", "/packages/0.zip"):
            assert ask(path, Host="evil.example:8080")[0] == ask(path, Host="127.0.0.1.evil.example")[0] == 403
        for own in ("localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"):
            assert ask("/api/studies", Host=own)[0] == 200
    with open_server(open_view(recorded.folder), "0.0.0.0", 0) as server:
        assert server.get_app() is not None and not server.get_app().local  # a name of this machine is anybody's guess


def test_the_plain_dashboard_takes_infeasible_trials_for_feasible_and_best(recorded: Any) -> None:
    """What the view is for: as soon as this fails, it is no longer needed."""
    from optuna_dashboard import wsgi

    storage = optuna.storages.RDBStorage(f"sqlite:///{recorded.folder / 'study.db'}")
    answer: list[bytes] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/1", "QUERY_STRING": "", "wsgi.input": io.BytesIO()}
    answer += wsgi(storage)(environ, lambda status, headers, exc_info=None: lambda data: None)  # type: ignore[arg-type]
    told = json.loads(b"".join(answer))
    assert _infeasible(told) == set()
    assert {trial["number"] for trial in told["best_trials"]} == {0, 2, 3}  # 2 breaks the limit


def test_best_trials_are_whole_whatever_part_of_the_trials_is_asked_for(recorded: Any) -> None:
    with _served(recorded.folder) as ask:
        for after in (7, 2, 0, 7):
            told = _study(ask, after)
            assert [trial["number"] for trial in told["trials"]] == list(range(after, 7))
            assert {trial["number"] for trial in told["best_trials"]} == recorded.best
            assert all(trial["user_attrs"] for trial in told["best_trials"])


def test_whatever_is_no_reading_is_refused(recorded: Any) -> None:
    with _served(recorded.folder) as ask:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
            for path in ("/api/studies", "/api/studies/1", "/api/studies/1/1/note", "/packages/0.zip", "/"):
                status, headers, body = ask(path, method, "{}")
                assert (status, headers["allow"]) == (405, "GET, HEAD") and b"read only" in body, (method, path)


def test_nothing_is_written_where_nobody_else_writes(recorded: Any) -> None:
    def digest() -> dict[str, str]:
        files = [path for path in recorded.folder.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = digest()
    with _served(recorded.folder) as ask:
        told = _study(ask)
        for method in ("DELETE", "POST", "PUT"):
            ask("/api/studies/1", method, "{}")
        for path in ("/dashboard", "/api/studies/1/param_importances", "/csv/1", "/packages/0.zip"):
            assert ask(path)[0] == 200, path
        trial = told["trials"][0]
        assert ask(f"/artifacts/1/{trial['trial_id']}/{trial['artifacts'][0]['artifact_id']}")[0] == 200
    assert digest() == before


def test_a_study_that_another_process_is_writing(recorded: Any, tmp_path: Path) -> None:
    """The page keeps up, and the writer loses nothing and waits for nobody."""
    script = tmp_path / "writer.py"
    script.write_text(
        "import sys, time\nfrom pathlib import Path\n"
        "from coreml_pareto.objectives.reading import exact\nfrom coreml_pareto.search.config import load_plan\n"
        "from coreml_pareto.search.outcome import Infeasible\nfrom coreml_pareto.search.study import Study\n"
        "folder = Path(sys.argv[1]); plan = load_plan(str(folder / 'study.yaml'))\n"
        "study = Study(folder, plan, plan.space(classes=10))\n"
        "for number in range(12):\n"
        "    size = 5e5 if number % 3 else 2e6\n"
        "    study.tell(study.ask(), Infeasible(('size',), {'size_bytes': exact(size, 'B')}), 1.0)\n"
        "    time.sleep(0.05)\n"
    )
    with _served(recorded.folder) as ask:
        with subprocess.Popen([sys.executable, str(script), str(recorded.folder)]) as writer:
            while writer.poll() is None:
                assert len(_study(ask)["trials"]) >= 7
                time.sleep(0.1)  # one core may be all there is
        assert writer.returncode == 0
        deadline = time.monotonic() + 15
        while len((told := _study(ask))["trials"]) < 19 and time.monotonic() < deadline:
            time.sleep(0.5)  # the dashboard itself keeps trials for two seconds
    assert _infeasible(told) == recorded.infeasible | {7, 10, 13, 16}
    assert {trial["number"] for trial in told["best_trials"]} == recorded.best


def test_packages_are_zipped_when_asked_for(recorded: Any) -> None:
    with _served(recorded.folder) as ask:
        status, headers, body = ask("/packages/3.zip")
        head = ask("/packages/3.zip", "HEAD")
        missing = [ask(path)[0] for path in ("/packages/4.zip", "/packages/99.zip", "/packages/..%2f..%2fstudy.db")]
    assert status == 200 and headers["content-type"] == "application/zip"
    assert "trial-3.mlpackage.zip" in headers["content-disposition"]
    assert head[0] == 200 and head[1]["content-length"] == str(len(body)) and head[2] == b""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["model.mlpackage/Data/weight.bin", "model.mlpackage/Manifest.json"]
        assert (
            archive.read("model.mlpackage/Data/weight.bin") == (recorded.package / "Data" / "weight.bin").read_bytes()
        )
    assert missing == [404, 404, 404]


def test_the_dashboards_own_artifact_is_the_same_package_and_only_for_this_site(recorded: Any) -> None:
    with _served(recorded.folder) as ask:
        trial = _study(ask)["trials"][3]
        (artifact,) = trial["artifacts"]
        status, headers, body = ask(f"/artifacts/1/{trial['trial_id']}/{artifact['artifact_id']}")
    assert artifact["filename"] == "trial-3.mlpackage.zip" and status == 200
    assert not [name for name in headers if name.startswith("access-control")]
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert "model.mlpackage/Manifest.json" in archive.namelist()


def test_other_terms_show_the_study_that_counts(recorded: Any, tell: Callable[..., int]) -> None:
    """As `retelling` does: another study beside the first, which it names."""
    with _served(recorded.folder) as ask:
        recorded.study.begin_again(recorded.plan, recorded.study.trials()[:2])
        told = _study(ask)
        assert len(told["trials"]) == 2
        tell(recorded.study, recorded.study.outcome_of(recorded.study.trials()[0]))
        assert json.loads(ask("/api/studies/1")[2]) == {"reason": "study_id=1 is not found"}


def test_a_port_that_is_taken(recorded: Any) -> None:
    view = open_view(recorded.folder)
    with open_server(view, "127.0.0.1", 0) as server, pytest.raises(UserError, match="give another --port"):
        open_server(view, "127.0.0.1", server.server_port)


def test_an_address_of_ipv6_and_one_of_nobody(recorded: Any) -> None:
    view = open_view(recorded.folder)
    with pytest.raises(UserError, match="--host"):
        open_server(view, "203.0.113.7", 0)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with open_server(view, "::1", 0) as server:
        assert server.server_port > 0


def test_the_page_s_best_are_the_packages_of_the_front(recorded: Any) -> None:
    """Whatever terms the sampler was told: the page and `front` agree."""
    from coreml_pareto.search.choose import front

    with _served(recorded.folder) as ask:
        best = [trial["number"] for trial in _study(ask)["best_trials"]]
    assert best == [result.trial for result in front(recorded.study.run())]


def test_a_browser_that_asks_before_it_returns(recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those in a terminal do: the server has to answer meanwhile."""
    import urllib.request
    import webbrowser

    from coreml_pareto.search.cli import main
    from coreml_pareto.search.dashboard import site

    answered = list[int]()

    def browse(address: str) -> bool:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                answered.append(answer.status)
        finally:
            threading.Thread(target=served[0].shutdown, daemon=True).start()  # waits for the server's end
        return True

    served = list[Any]()
    original = site.open_server

    def serve(*given: Any) -> Any:
        served.append(original(*given))
        return served[0]

    monkeypatch.setattr(site, "open_server", serve)
    monkeypatch.setattr(webbrowser, "open", browse)
    assert main(["dashboard", str(recorded.folder), "--port", "0"]) == 0 and answered == [200]
