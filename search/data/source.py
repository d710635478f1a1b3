"""What kind of data does a text name: a folder, an archive, a table, or a reader of timm?"""

from __future__ import annotations

from pathlib import Path

from coreml_pareto.search.data.folder import Listing, scan
from coreml_pareto.search.data.reader import is_reader, scan_reader
from coreml_pareto.search.data.table import is_table, scan_table
from coreml_pareto.search.data.tar import is_tar, scan_tar


def list_images(source: str, spill_folder: Path | None = None) -> Listing:
    """The images of a source, not decoded yet; temporary files lie in `spill_folder`.

    Raises:
        UserError: it is none of these, or cannot be a classification data set.
    """
    if is_reader(source):
        return scan_reader(source, spill_folder)
    path = Path(source).expanduser()
    if path.is_file() and is_tar(path):
        return scan_tar(path, spill_folder)
    if path.is_file() and is_table(path):
        return scan_table(path)
    return scan(path)
