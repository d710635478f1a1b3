"""What every test shares: one torch thread per worker, and what happens where a browser is missing."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a crowded machine is no defect
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """pytest-xdist runs one worker per core; more threads than cores would make all of them slower."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def browser() -> str:
    """Path of a Chrome or Chromium, which kaleido draws PNGs with; without one the test is left out, in CI it fails."""
    from choreographer.browsers.chromium import Chromium

    found = Chromium.find_browser(skip_local=False)
    if found is None:
        missing = "needs Chrome or Chromium, which draws charts as PNG (Debian: apt install chromium)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return str(found)
