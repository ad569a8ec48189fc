"""Why a trial has to be trained: what differs from the last finished run with its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlops.observation.observed import ObservedRun
from mlops.planning.canonical import sha256_of
from mlops.planning.desired import Code
from mlops.planning.runs import CODE, DATASET_DIGEST, ENVIRONMENT, is_finished
from mlops.planning.trials import mlflow_text
from mlops.planning.work import Trial

NEW: Final = "no finished run has this fingerprint"


def code_digest(code: Code) -> str:
    """SHA-256 of the code's paths and blobs, as the tag of a run holds it."""
    return f"sha256:{sha256_of(dict(code.files))}"


def why_train(before: Sequence[ObservedRun], trial: Trial, code: Code) -> str:
    """What of `trial` changed since it was last trained, as far as runs tell; `NEW` if it never was.

    Args:
        before: the runs of its experiment, newest last.
        trial: what is to be trained.
        code: what it runs, and in which environment.
    """
    wanted = {name: mlflow_text(value) for name, value in trial.parameters.items()}
    last = next((run for run in reversed(before) if _is_of(run, wanted)), None)
    if last is None:
        return NEW
    changed = [
        f"Dataset/{item.dataset}"
        for item in trial.data
        if last.tags.get(DATASET_DIGEST + item.role) != item.digest
    ]
    if last.tags.get(ENVIRONMENT) != code.environment:
        changed.append("its environment")
    if last.tags.get(CODE, "") not in ("", code_digest(code)):
        changed.append("its code")
    if not changed:  # what is left of a fingerprint
        changed.append("its command or seed" if CODE in last.tags else "its code, command or seed")
    return f"{', '.join(changed)} changed since it was trained"


def _is_of(run: ObservedRun, parameters: dict[str, str]) -> bool:
    return is_finished(run) and all(run.parameters.get(name) == value for name, value in parameters.items())
