"""Which columns mean what, under one name in reference and windows, and what the model does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlops.errors import Stalled
from mlops.monitoring.evaluating.values import Subject, Table
from mlops.monitoring.performance.metrics import Task

_CLASSES: Final = ("string", "boolean")


@dataclass(frozen=True, slots=True)
class Roles:
    """What columns mean. Names are those of the predictions' table; the target's is that of where labels come from.

    Args:
        features: columns that the model reads, sorted.
        target: the label; `inline` says that it is a column of the predictions.
        prediction: what the model said.
        probabilities: class → column of its probability; the key None is the positive class's.
        timestamp, id: of the predictions; `id` is what labels are joined on.
        renamed: column of the reference → its name here.
        excluded: columns that are not summed up.
        categorical: columns that hold categories although they may be numbers.
        slices: columns whose values are judged on their own, too.
    """

    features: tuple[str, ...]
    target: str | None
    inline: bool
    prediction: str | None
    probabilities: Mapping[str | None, str]
    timestamp: str | None
    id: str | None
    renamed: Mapping[str, str]
    excluded: frozenset[str]
    categorical: frozenset[str]
    slices: tuple[str, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that the model makes."""
        return tuple(name for name in (self.prediction, *self.probabilities.values()) if name is not None)


def roles_of(subject: Subject, reference: Table, task: Task | None) -> Roles:
    """Tell features from the rest. `reference` is that of the subject, or the predictions for one that rolls."""
    spec, mine = subject.spec, subject.predictions.columns
    theirs = reference.columns
    inline = subject.labels is None
    label = mine.target if subject.labels is None else subject.labels.columns.target
    target = label or theirs.target
    probabilities = probabilities_of(subject.predictions)
    before = probabilities_of(reference)
    renamed: dict[str, str] = {}
    for old, new in ((theirs.target, target), (theirs.prediction, mine.prediction)):
        if old is not None and new is not None:
            renamed[old] = new
    for label_of, old in before.items():
        if label_of in probabilities:
            renamed[old] = probabilities[label_of]
    joined_on = mine.id
    if spec.data.labels is not None and spec.data.labels.join_on is not None:
        joined_on = spec.data.labels.join_on
    apart = {mine.timestamp, mine.id, joined_on, theirs.timestamp, theirs.id}
    excluded = {name for name in apart if name is not None and name not in spec.slices}
    excluded |= {*spec.columns.exclude, *mine.ignore, *theirs.ignore} - {target, mine.prediction}
    outputs = {target, mine.prediction, *probabilities.values()}
    meant = {*outputs, theirs.target, theirs.prediction, *before.values(), *excluded}
    features = sorted(set(reference.types) - meant)
    if subject.features is not None:
        features = [name for name in features if name in subject.features]
    categorical = {*mine.categorical, *theirs.categorical}
    if task in ("binary", "multiclass"):
        categorical |= {name for name in (target, mine.prediction) if name is not None}
    return Roles(
        tuple(features),
        target,
        inline,
        mine.prediction,
        probabilities,
        mine.timestamp,
        joined_on,
        {old: new for old, new in renamed.items() if old != new},
        frozenset(excluded),
        frozenset(categorical),
        tuple(spec.slices),
    )


def probabilities_of(table: Table) -> dict[str | None, str]:
    """Class → column of its probability; of a single column the key is None."""
    given = table.columns.probability
    if given is None:
        return {}
    return {None: given} if isinstance(given, str) else {str(label): name for label, name in given.items()}


def task_of(subject: Subject) -> Task | None:
    """What the model does, from the policy, or else from target, probabilities and signature; None: it is not clear.

    Texts and truth values are classes, of which the reference says how many there are; a number with a fraction is a
    value; whole numbers are classes where there are probabilities, and else unclear.
    """
    if subject.spec.task is not None:
        return subject.spec.task
    probabilities = {**probabilities_of(subject.predictions)}
    if subject.reference is not None:
        probabilities |= probabilities_of(subject.reference)
    if probabilities:
        return "binary" if None in probabilities or len(probabilities) <= 2 else "multiclass"
    kinds = {kind for table, name in _targets(subject) if (kind := table.types.get(name)) is not None}
    kinds |= {subject.output} if subject.output is not None else set()
    if kinds & {*_CLASSES}:
        return "binary" if kinds & {"boolean"} else "multiclass"
    return "regression" if "double" in kinds else None


def unclear_task(subject: Subject) -> Stalled:
    """What is told where `task_of` knows nothing and a check needs it."""
    return Stalled(
        "Whether the model tells classes or values is not clear from its target and signature",
        where=f"MonitoringPolicy/{subject.policy}",
        fix="Set spec.task to binary, multiclass or regression.",
    )


def renamed(batch: Any, roles: Roles) -> Any:
    """A batch of the reference under the names of here; a column whose name another takes over is left out."""
    taken = set(roles.renamed.values())
    names = [name for name in batch.schema.names if name in roles.renamed or name not in taken]
    if len(names) == len(batch.schema.names) and not any(name in roles.renamed for name in names):
        return batch
    return batch.select(names).rename_columns([roles.renamed.get(name, name) for name in names])


def renamed_types(types: Mapping[str, str], roles: Roles) -> dict[str, str]:
    """The same of types."""
    taken = set(roles.renamed.values())
    return {
        roles.renamed.get(name, name): kind
        for name, kind in types.items()
        if name in roles.renamed or name not in taken
    }


def _targets(subject: Subject) -> list[tuple[Table, str]]:
    tables = [subject.reference, subject.labels, subject.predictions]
    return [(table, table.columns.target) for table in tables if table is not None and table.columns.target]
