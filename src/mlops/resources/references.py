"""Which fields of a resource name another one."""

from __future__ import annotations

from mlops.resources.fields import View, find, steps
from mlops.resources.key import Key
from mlops.resources.kinds import Resource
from mlops.resources.problem import FieldPath

# A Promotion also names a ModelVersion, by model and number: see `relations`.
_REFERENCES = {
    kind: [(steps(pattern), target) for pattern, target in fields]
    for kind, fields in {
        "Experiment": [("spec.datasets.*", "Dataset")],
        "ModelVersion": [("spec.model", "Model"), ("spec.source.experiment", "Experiment")],
        "Stage": [
            ("spec.after", "Stage"),
            ("spec.gates.*.metric.dataset", "Dataset"),
            ("spec.gates.*.champion.dataset", "Dataset"),
        ],
        "Promotion": [("spec.model", "Model"), ("spec.stage", "Stage")],
    }.items()
}


def references(resource: Resource) -> tuple[tuple[FieldPath, Key], ...]:
    """The fields of a resource that name another one, each with the key that it names."""
    return references_in(resource.kind, resource)


def references_in(kind: str, view: View) -> tuple[tuple[FieldPath, Key], ...]:
    """The same for a document that may be broken; fields that hold no text are left out."""
    return tuple(
        (path, Key(target, name))
        for pattern, target in _REFERENCES.get(kind, ())
        for path, name in find(view, pattern)
        if isinstance(name, str)
    )
