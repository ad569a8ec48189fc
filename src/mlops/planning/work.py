"""What each kind of step does, as values: the planner makes them, `applying` matches on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.approvals import Asked

if TYPE_CHECKING:
    from mlops.planning.evidence import Check

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class TrialData:
    """One dataset of a trial: its role in the experiment, the Dataset's name and the digest it is pinned to."""

    role: str
    dataset: str
    digest: str
    outside: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of an experiment's sweep, with the fingerprint of all that can change its result."""

    experiment: str
    parameters: Mapping[str, Scalar]
    command: tuple[str, ...]  # argv, still with its {name} placeholders
    data: tuple[TrialData, ...]
    fingerprint: str
    declaration: str
    seed: int | None

    @property
    def name(self) -> str:
        """The name of its first run in MLflow."""
        return f"{self.experiment}-{self.fingerprint[:8]}"

    def run_name(self, attempt: int) -> str:
        """The name of the run of an attempt, put back after training code renamed the run."""
        return self.name if attempt == 1 else f"{self.name}-{attempt}"


@dataclass(frozen=True, slots=True)
class TrainTrial:
    """Train a trial, or go on with the run that is open for it; `attempts` more failures are allowed."""

    trial: Trial
    open_run: str | None
    first_attempt: int
    attempts: int


@dataclass(frozen=True, slots=True)
class UpdateExperiment:
    """Put an MLflow experiment's tags right (None removes one)."""

    name: str
    tags: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class RegisterModel:
    """Create a registered model."""

    registered_name: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UpdateModel:
    """Put a registered model's description and tags right."""

    registered_name: str
    description: str | None
    tags: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class BindVersion:
    """Bind a ModelVersion to a run for ever: by experiment (its best trial) or to the run named."""

    name: str
    registered_name: str
    experiment: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True)
class UpdateVersion:
    """Put a registered version's tags and description right."""

    registered_name: str
    number: int
    tags: Mapping[str, str | None]
    description: str | None = None
    recompute_digest: bool = False


@dataclass(frozen=True, slots=True)
class EvaluateModel:
    """Make the evidence that a gate waits for: load a model in a process of its own and look into it.

    The model is the artifact of `run_id`, or of the best run of the ModelVersion's experiment where that is not known
    yet. `again` looks into it although there is evidence already, since that says it could not be done.
    """

    subject: str  # what people call it: `ModelVersion/loan-3`, or `loan v3`
    model_version: str | None  # the resource, where the run has still to be found
    run_id: str | None
    artifact: str
    digest: str | None  # of the bound version: nothing else is loaded in its place
    check: Check
    experiment: str | None  # whose promotion waits for it
    again: bool = False


@dataclass(frozen=True, slots=True)
class MoveAlias:
    """Make a stage's alias name the version that a Promotion asks for, and keep the record of its stay."""

    promotion: str
    model_version: str
    registered_name: str
    stage: str
    alias: str
    retired_aliases: tuple[str, ...]  # names the stage's alias had before, which are taken away
    base: str | None
    asked: Asked | None = None  # what has to be approved, looked at again before the alias moves


@dataclass(frozen=True, slots=True)
class RestoreAlias:
    """Put a stage's alias back to the version whose stay there lasts, while another one may not follow it yet."""

    registered_name: str
    stage: str
    alias: str
    number: int


@dataclass(frozen=True, slots=True)
class RememberBase:
    """Write down the revision in force when a promotion that is blocked was first asked for."""

    model_version: str
    stage: str
    base: str


@dataclass(frozen=True, slots=True)
class TakeAliasAway:
    """Remove the alias of a stage whose Promotion left git, and end the stays there."""

    registered_name: str
    stage: str
    alias: str | None
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeleteVersion:
    """Delete a registered version whose resource left git and said `deletionPolicy: Delete`."""

    registered_name: str
    number: int


@dataclass(frozen=True, slots=True)
class MonitorPolicy:
    """Evaluate the new and changed windows of a policy, and decide; `inputs` is what planning saw of its data."""

    policy: str
    version: str
    inputs: str


@dataclass(frozen=True, slots=True)
class ProposeChange:
    """Write a proposal of a policy to its branch; with `run_id`, what was trained for it, publish it for people."""

    policy: str
    action: str
    run_id: str | None


Work = (
    TrainTrial
    | UpdateExperiment
    | RegisterModel
    | UpdateModel
    | BindVersion
    | UpdateVersion
    | EvaluateModel
    | MoveAlias
    | RestoreAlias
    | RememberBase
    | TakeAliasAway
    | DeleteVersion
    | MonitorPolicy
    | ProposeChange
)
