"""Energy through powermetrics: programs that answer as it does, refuse, print rubbish, or never end."""

from __future__ import annotations

import os
import plistlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.measuring import power
from coreml_pareto.objectives.measuring.power import NoEnergy, energy, mean_milliwatts


def _sample(milliwatts: float, seconds: float = 0.1, **processor: Any) -> bytes:
    share = milliwatts * seconds / 4
    rails = processor or {"cpu_energy": 2 * share, "gpu_energy": share, "ane_energy": share, "combined_power": 9e9}
    return plistlib.dumps({"elapsed_ns": int(seconds * 1e9), "processor": rails})


def _tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """A powermetrics that runs this Python; `run` counts its calls, `args` are its arguments, as root."""
    counter, program = tmp_path / "calls", tmp_path / "powermetrics.py"
    head = (
        "import pathlib, sys, time\n"
        f"counter = pathlib.Path({str(counter)!r})\n"
        "run = int(counter.read_text()) if counter.exists() else 0\n"
        "counter.write_text(str(run + 1))\n"
        "args, out = sys.argv[1:], sys.stdout.buffer\n"
    )
    program.write_text(head + script)
    monkeypatch.setattr(power, "TOOL", (sys.executable, str(program)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_an_inference_costs_what_comes_above_idle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "idle").write_bytes(b"\0".join([_sample(100), _sample(300)]))
    (tmp_path / "busy").write_bytes(_sample(1200))
    script = (
        "assert args[:4] == ['--samplers', 'cpu_power,gpu_power,ane_power', '-f', 'plist'], args\n"
        "assert args[4:] == ['-i', '100', '-n', '10'], args\n"
        f"time.sleep(0.5); out.write((pathlib.Path({str(tmp_path)!r}) / ('busy' if run else 'idle')).read_bytes())\n"
    )
    _tool(monkeypatch, tmp_path, script)
    calls: list[float] = []

    def predict() -> None:
        calls.append(time.monotonic())
        time.sleep(0.02)

    found = energy(predict, seconds=1.0, loops=2)
    assert found.idle_mw == pytest.approx(200)
    pace = (calls[-1] - calls[0]) / (len(calls) - 1)
    assert 1000 * pace * 0.5 < found.low_mj <= found.median_mj <= found.high_mj < 1000 * pace * 1.5


def test_without_permission_it_names_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _tool(monkeypatch, tmp_path, "sys.exit('powermetrics must be invoked as the superuser')")
    with pytest.raises(NoEnergy, match=r"must be invoked as the superuser; run `sudo -v`"):
        energy(lambda: None, seconds=0.1)


def test_others_than_root_ask_sudo_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    assert power._permitted() == ("sudo", "-n", "powermetrics")


def test_without_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "TOOL", ("no-such-powermetrics",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(NoEnergy, match="energy needs powermetrics"):
        energy(lambda: None, seconds=0.1)


@pytest.mark.parametrize("blocked", [False, True])
def test_a_tool_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocked: bool) -> None:
    """What sudo started is root's, and cannot be killed by its caller."""
    import subprocess

    _tool(monkeypatch, tmp_path, "time.sleep(60)")
    started: list[subprocess.Popen[bytes]] = []
    kill = subprocess.Popen.kill

    def forbidden(process: subprocess.Popen[bytes]) -> None:
        started.append(process)
        raise PermissionError

    if blocked:
        monkeypatch.setattr(subprocess.Popen, "kill", forbidden)
    with pytest.raises(NoEnergy, match=r"within 0\.3 s; it did not end"):
        energy(lambda: time.sleep(0.01), seconds=0.1)
    for process in started:
        kill(process)
        process.wait()


def test_a_loop_that_is_lost_in_idle_has_no_energy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(_sample(100))
    _tool(monkeypatch, tmp_path, f"out.write(pathlib.Path({str(tmp_path / 'same')!r}).read_bytes())")
    with pytest.raises(NoEnergy, match="no more than the idle 100 mW"):
        energy(lambda: None, seconds=0.1, loops=1)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0",
        b"*** Sampled system activity ***",
        b"<plist><dict>",
        _sample(100)[:-40],
        plistlib.dumps([1, 2]),
        plistlib.dumps({"elapsed_ns": 1}),
        plistlib.dumps({"elapsed_ns": "soon", "processor": {"cpu_energy": 1}}),
        _sample(100, other=1),
        _sample(100, seconds=0),
    ],
)
def test_rubbish_is_no_energy(answer: bytes) -> None:
    with pytest.raises(NoEnergy, match="powermetrics prints"):
        mean_milliwatts(answer)


def test_powers_count_where_energies_are_missing_and_rails_that_a_mac_lacks_count_as_nothing() -> None:
    assert mean_milliwatts(_sample(0, cpu_power=700.0, ane_power=50)) == pytest.approx(750)
    longer = b"\0".join([_sample(100, seconds=0.3), _sample(500, seconds=0.1)])
    assert mean_milliwatts(longer) == pytest.approx(200)
