"""Where results of stages live, and under which names: made once, shared by trials, runs and machines.

`keys` names a result by everything its stage reads; `produce` finds it or has it made; `folder` and `remote` keep results,
each with a `manifest` of its files; `cleaning` chooses what may go; `disk` tells a disk that refuses from a defect.
"""

from coreml_pareto.search.store.address import open_shelf, require_usable
from coreml_pareto.search.store.disk import DiskError, require_disk, watching_the_disk
from coreml_pareto.search.store.files import write_atomically, write_whole
from coreml_pareto.search.store.folder import Folder
from coreml_pareto.search.store.keys import TOOLS, TRAINING_TOOLS, installed_version, stage_key, tool_versions
from coreml_pareto.search.store.manifest import MANIFEST, Damaged, Manifest
from coreml_pareto.search.store.parking import CHECKPOINT
from coreml_pareto.search.store.produce import Store
from coreml_pareto.search.store.remote import Remote
from coreml_pareto.search.store.shelf import Artifact, Leftover, Shelf

__all__ = [
    "CHECKPOINT",
    "MANIFEST",
    "TOOLS",
    "TRAINING_TOOLS",
    "Artifact",
    "Damaged",
    "DiskError",
    "Folder",
    "Leftover",
    "Manifest",
    "Remote",
    "Shelf",
    "Store",
    "installed_version",
    "open_shelf",
    "require_disk",
    "require_usable",
    "stage_key",
    "tool_versions",
    "watching_the_disk",
    "write_atomically",
    "write_whole",
]
