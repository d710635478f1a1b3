"""Says whether a browser is there that draws charts as PNG: exit code 0 or 1. Used by `make test`."""

from __future__ import annotations

import sys

from choreographer.browsers.chromium import Chromium

if __name__ == "__main__":
    sys.exit(Chromium.find_browser(skip_local=False) is None)
