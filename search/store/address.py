"""Where is a store?  A folder, the folder of a run, or the URL of anything that fsspec opens: s3://, gs://, ..."""

from __future__ import annotations

from pathlib import Path

from coreml_pareto.search.store.folder import Folder
from coreml_pareto.search.store.remote import Remote
from coreml_pareto.search.store.shelf import Shelf
from coreml_pareto.spaces.errors import UserError

RECORD, MACHINE = "study.db", "machine.json"
"""By one of these files a run folder is known; its results lie in `store`."""


def open_shelf(text: str) -> Shelf:
    """Return the store at a path or URL.

    Raises:
        UserError: no such file system, or one whose driver is not installed.
    """
    if "://" not in text or text.startswith("file://"):
        path = Path(text.removeprefix("file://")).expanduser()
        return Folder(path / "store" if is_run(path) else path)
    from fsspec.core import url_to_fs

    scheme = text.partition("://")[0]
    try:
        fs, root = url_to_fs(text)
    except ImportError as error:
        raise UserError(f"A store at {scheme}:// needs a driver that is not installed: {error}.") from error
    except ValueError as error:
        raise UserError(f"A store is a folder or a URL such as s3://bucket/store; got {text!r}: {error}.") from error
    return Remote(fs, root.rstrip("/"), text)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return any((folder / name).is_file() for name in (RECORD, MACHINE))


def require_usable(shelf: Shelf) -> None:
    """Refuse, before anything is trained, a store that cannot be used.

    Raises:
        UserError: the store cannot be written.
    """
    try:
        shelf.probe()
    except Exception as error:  # drivers raise many types
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"A store is a folder or URL that can be written; {shelf.name} cannot: {told}.") from error
