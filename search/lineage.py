"""From which trained network does the next one inherit its weights?  The nearest of its backbone.

Wei et al. 2016 (Network Morphism, arXiv:1603.01670) and Cai et al. 2020 (Once-for-All, arXiv:1908.09791) train networks
from the weights of larger or smaller ones. Here the same network comes first, then its width at another input size,
then the next wider (whose first channels are taken), then the next narrower; of equals the most accurate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from coreml_pareto.search.outcome import Infeasible, Scored
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.candidate import Candidate

TRAINING = "training"
"""Where a package's provenance has the key of its training."""


def parent_of(candidate: Candidate, results: Iterable[Result]) -> str | None:
    """Return the key of the training to inherit from; None where no network of the backbone and depth is trained.

    Another compression of a training inherits what that training inherited, so that it is the same training.
    """
    network, known = candidate.network, tuple(results)
    for result in known:
        if result.candidate.training == candidate.training and not isinstance(result.outcome, Infeasible):
            return result.parent
    related = [
        result
        for result in known
        if isinstance(result.outcome, Scored)
        and (result.candidate.network.backbone, result.candidate.network.depth) == (network.backbone, network.depth)
    ]
    if not related:
        return None
    nearest = min(related, key=lambda result: (*_distance(candidate, result.candidate), -_top1(result), -result.trial))
    assert isinstance(nearest.outcome, Scored)
    return nearest.outcome.provenance[TRAINING]


def _distance(child: Candidate, parent: Candidate) -> tuple[int, float]:
    """Return class and distance within the class, both the smaller the nearer."""
    own, other = child.network, parent.network
    if own == other:
        return 0, 0.0
    if own.width == other.width:
        return 1, abs(math.log(own.resolution / other.resolution))
    return (2 if other.width > own.width else 3), abs(math.log(own.width / other.width))


def _top1(result: Result) -> float:
    return result.score["top1"].value
