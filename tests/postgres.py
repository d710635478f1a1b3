"""A PostgreSQL server of its own for tests: found, set up in a folder, started, stopped, started again.

Run as a script it says whether one is installed: exit code 0 or 1. Used by `make test`.
"""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

PASSWORD = "not-to-be-seen"


def binaries() -> Path | None:
    """Where initdb and pg_ctl lie; Debian keeps them outside of PATH."""
    folders = [*glob.glob("/usr/lib/postgresql/*/bin"), *os.environ.get("PATH", "").split(os.pathsep)]
    return next((Path(name) for name in folders if all(shutil.which(tool, path=name) for tool in _TOOLS)), None)


_TOOLS = ("initdb", "pg_ctl", "postgres")


class Server:
    """Listens on a free port of this machine; the user `search` has a password. A server of root runs as `postgres`."""

    def __init__(self, tools: Path) -> None:
        self.tools = tools
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        self._as: list[str] = []
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            shutil.chown(secret, "postgres", "postgres")
            self._as = ["runuser", "-u", "postgres", "--"]
        data = str(self.folder / "data")
        self._run(
            "initdb", "-D", data, "-U", "search", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync", "-E", "UTF8"
        )

    def url(self, password: str | None = PASSWORD, database: str = "postgres") -> str:
        user = "search" if password is None else f"search:{password}"
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        """At once: connections are cut."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "fast", "stop")

    def remove(self) -> None:
        """Stop it if it runs, and take its folder away."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, tool: str, *arguments: str) -> None:
        command = [*self._as, str(self.tools / tool), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, timeout=120, check=False,
        ) if tool != "pg_ctl" else self._quietly(command)  # fmt: skip
        assert done.returncode == 0, done.stdout

    def _quietly(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """pg_ctl's server inherits what it prints to; a pipe would never end."""
        with (self.folder / "control").open("w+") as told:
            done = subprocess.run(
                command, cwd=self.folder, stdout=told, stderr=told, stdin=subprocess.DEVNULL, timeout=120, check=False
            )
            told.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, told.read())


if __name__ == "__main__":
    sys.exit(binaries() is None)
