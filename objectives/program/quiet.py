"""coremltools without its noise: no progress bars, no notes on tested versions, no warnings, inside our calls only.

Whoever runs a search sees the search's own progress. What coremltools would warn of and what matters to us (layers
that it skips) is checked by our own code and kept as data. Import coremltools from here: its import is noisy too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from threading import RLock

import tqdm

_LOUD = ("coremltools", "torch.export", "torch.ao.quantization", "torch.fx")
_LOCK = RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence coremltools and what it calls, inside the block; errors are raised as ever."""
    loggers = [logging.getLogger(name) for name in _LOUD]
    with _LOCK, warnings.catch_warnings():
        before = [logger.level for logger in loggers]
        draw = tqdm.tqdm.__init__
        warnings.simplefilter("ignore")
        tqdm.tqdm.__init__ = partialmethod(draw, disable=True)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            tqdm.tqdm.__init__ = draw
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


with quiet():
    import coremltools
    import coremltools.optimize.coreml
    import coremltools.optimize.torch

__all__ = ["coremltools", "quiet"]
