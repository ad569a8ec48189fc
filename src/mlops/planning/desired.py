"""What should be: the resources of one revision with the content ids that planning needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlops.approvals import Asked, Decision
from mlops.planning.authority import Rules
from mlops.resources import Dataset, Key, Resource


@dataclass(frozen=True, slots=True)
class Code:
    """What an experiment runs: files by path within `source.path`, the argv template, the environment.

    `problem` says why it cannot run (no such folder, no such entry point).
    """

    files: Mapping[str, str]  # path → git blob id
    command: tuple[str, ...]
    defaults: Mapping[str, str | int | float | bool]  # parameters that an MLproject file gives
    environment: str  # digest of requirements, lock and Python; "reconciler" where none is declared
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """A revision as it was read. `whole` is false when a document in it was broken: then nothing is pruned.

    Of broken documents, `kept` have their last good text in `resources`, `invalid` have none.
    """

    revision: str
    dirty: bool
    project: str
    self_heal: bool
    prune: bool
    resources: Mapping[Key, Resource]
    invalid: frozenset[Key]
    whole: bool
    code: Mapping[str, Code]  # by Experiment name
    prune_refused: str | None = None  # why nothing may be pruned although Project.spec.prune is true
    rules: Mapping[str, Rules] = field(
        default_factory=dict
    )  # of other revisions, where promotions have their base
    decisions: Mapping[Asked, Decision] = field(default_factory=dict)  # about promotions that need approvals
    executors: frozenset[str] = field(default_factory=lambda: frozenset({"local"}))
    folder: str = "."  # of the project, in its repository
    kept: frozenset[Key] = frozenset()
    why: Mapping[Key, str] = field(default_factory=dict)  # why each is kept, or left out though well-formed
    kept_data: Mapping[str, Dataset] = field(default_factory=dict)  # by name: as kept experiments know them
    not_held: str | None = None  # why the last good text of broken documents is not known

    def ledger_name(self, experiment: str) -> str:
        """The name that an Experiment has in MLflow."""
        return f"{self.project}/{experiment}"
