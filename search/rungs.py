"""On which rung is a candidate trained?  Not for the sampler to say: it draws what, the search decides how long.

Everything drawn begins on the rung that `rung` gives for its backbone; trials that stand in line bring their own. The
study's record has the rung like any other parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from coreml_pareto.spaces.space import RUNG, Space, choose_from


@final
class RungSampler(BaseSampler):
    """Any of Optuna's samplers, for all parameters but the rung."""

    def __init__(self, inner: BaseSampler, space: Space, rung: Callable[[str], int]) -> None:
        self.inner, self.space, self.rung = inner, space, rung

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what the inner sampler draws together."""
        found = self.inner.infer_relative_search_space(study, trial)
        return {name: distribution for name, distribution in found.items() if name != RUNG}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw what is drawn together."""
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a lone parameter, or decide the rung of what is drawn so far."""
        if param_name == RUNG:
            return self.rung(self.space.decode(choose_from(trial.params)).network.backbone)
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Give the inner sampler new random numbers."""
        self.inner.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Hand on to the inner sampler."""
        self.inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Hand on to the inner sampler."""
        self.inner.after_trial(study, trial, state, values)
