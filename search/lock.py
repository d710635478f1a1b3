"""Who may write into a run folder, and who makes a result that several want?

One search at a time writes into a run folder; `front` and `best` read it meanwhile. Of several processes that want the
same result of a store one makes it, the others wait. The locks are `flock`s on files (RUN/.lock), so the kernel frees them
however a process ends, SIGKILL included, and no stale lock is ever left to be removed by hand.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from coreml_pareto.spaces.errors import UserError

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
PULSE = 0.5
"""Seconds between two looks at a lock that somebody else holds."""
TRIES, PAUSE = 5, 0.1
"""A lock that is taken is tried again so often, after so many seconds: `at_work` holds it for an instant to look."""


@contextmanager
def sole_search(folder: Path) -> Iterator[None]:
    """Make a run folder and hold its lock for the time of a `with`.

    Folders that were made for it are removed again if nothing was written into them: a refused search leaves nothing.

    Raises:
        UserError: it is a file, it cannot be created or written, or another search is at work in it.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    handle = _take(folder)
    try:
        yield
    finally:
        _tidy(folder, made)
        os.close(handle)  # and with it the lock


@contextmanager
def turn(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock on a file for the time of a `with`; where the file system has no locks, nobody waits.

    Args:
        waiting: called between two looks while another process holds it; what it raises ends the wait.
    """
    while (handle := _try(path)) is None:
        waiting()
        time.sleep(PULSE)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)  # and with it the lock


def held(path: Path) -> bool:
    """Whether some process holds the lock on a file."""
    if not path.is_file():
        return False
    handle = _try(path)
    if handle is not None:
        os.close(handle)
    return handle is None


def _try(path: Path) -> int | None:
    """Return the open and locked file; None if another process holds it, or removed it when it was done."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            return handle  # some network file systems have no locks
    if os.fstat(handle).st_nlink:
        return handle
    os.close(handle)
    return None


def _take(folder: Path) -> int:
    """Return the open and locked file. One that its last holder removed meanwhile guards nothing: take the next."""
    while True:
        handle = _open(folder)
        try:
            _lock(handle, folder)
            if os.fstat(handle).st_nlink:
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _open(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(0, "no permission to write")
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reason = "it is a file" if os.path.isfile(folder) else error.strerror
        raise UserError(
            f"A run folder is a folder that can be created and written; {folder} is not: {reason}; "
            "choose another --run folder."
        ) from error


def _lock(handle: int, folder: Path) -> None:
    if sys.platform != "win32":  # Windows has no flock; two searches in one folder are not kept apart there
        try:
            _exclusively(handle)
        except BlockingIOError as error:
            raise UserError(
                f"Only one search at a time works in a run folder; one is at work in {folder}; wait for its end, stop "
                "it, or choose another --run folder."
            ) from error
        except OSError:
            pass  # some network file systems have no locks either


def _exclusively(handle: int) -> None:
    for left in reversed(range(TRIES)):
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(PAUSE)


def at_work(folder: Path) -> bool:
    """Whether a search holds a run folder's lock. Where there are no locks (Windows, some network file systems), False."""
    if sys.platform == "win32":
        return False
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        os.close(handle)
    return False


def _tidy(folder: Path, made: Sequence[Path]) -> None:
    """Remove the folders that were made, if nothing but the lock lies in them."""
    with suppress(OSError):
        if made and [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            for path in made:
                path.rmdir()
