"""The same network for Core AI, Apple's newer runtime (iOS 27): `.aimodel`, by coreai-torch.

Beta, and not executed here: Core AI's runtime exists on Apple's systems only. coreai-torch 0.4.3 reads what `torch.export`
gives, so the trained network is taken from the run's store (`search/stages/coreai.py`). Compression made for Core ML does
not enter; the accuracy on record is the package's, not this one's.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.search.delivery.subject import Subject
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.record import STORE
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.stages.coreai import convert_for_coreai
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import Store, installed_version
from coreml_pareto.spaces.errors import UserError

INSTALL: Final = "pip install 'coreml-pareto[aimodel]'"


def require(run: Run, result: Result) -> Path:
    """The folder of the training that the package came from.

    Raises:
        UserError: the extra is not installed, or the training is not in the store any more.
    """
    if find_spec("coreai_torch") is None:
        raise UserError(
            f"--also aimodel needs Apple's coreai-torch, which is not installed; {INSTALL}, or leave it out"
        )
    key = result.outcome.provenance.get(TRAINING) if isinstance(result.outcome, Scored) else None
    found = Store(run.folder / STORE).own.find("train", key) if key else None
    if found is None:
        raise UserError(
            f"--also aimodel converts the trained network; training {key} of trial {result.trial} is not in "
            f"{run.folder / STORE}; restore it, search again, or leave --also out"
        )
    return found


def write_aimodel(subject: Subject, file: Path) -> str:
    """Convert the trained network and save it; returns a sentence on what it is.

    Raises:
        UserError: as `require`, or coreai-torch does not convert this network.
    """
    trained = Trained.of(require(subject.run, subject.result))
    try:
        convert_for_coreai(trained, file, subject.program.metadata.get("short_description", ""), _facts(subject))
    except Exception as error:  # what a beta raises has no common class
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"--also aimodel: coreai-torch {installed_version('coreai-torch')} does not convert "
            f"{trained.network.label} ({told[:200]}); leave --also out"
        ) from error
    compressed = subject.result.candidate.compression.scheme not in ("fp16", "fp32")
    plain = "; its weights are not compressed as those of the package are" if compressed else ""
    return f"{file.name} is for Core AI, a beta: it was converted and not run{plain}"


def _facts(subject: Subject) -> dict[str, Any]:
    """What a Core ML package carries and this format has no place for."""
    return {
        f"{PREFIX}labels": list(subject.labels),
        f"{PREFIX}preprocessing": subject.rule.model_dump(),
        f"{PREFIX}pixels": f"RGB, 0 to 255, [1, 3, {subject.rule.resolution}, {subject.rule.resolution}]",
    }
