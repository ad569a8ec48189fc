"""Which fields of a resource name another one."""

from __future__ import annotations

from mlops.resources.fields import View, find, steps, text_at
from mlops.resources.key import Key
from mlops.resources.kinds import Resource
from mlops.resources.problem import FieldPath

# A Promotion also names a ModelVersion, by model and number: see `relations`.
_REFERENCES = {
    "Experiment": [("spec.datasets.*", "Dataset")],
    "ModelVersion": [("spec.model", "Model"), ("spec.source.experiment", "Experiment")],
    "Stage": [
        ("spec.after", "Stage"),
        ("spec.gates.*.metric.dataset", "Dataset"),
        ("spec.gates.*.champion.dataset", "Dataset"),
    ],
    "Promotion": [("spec.model", "Model"), ("spec.stage", "Stage")],
    "MonitoringPolicy": [
        ("spec.model", "Model"),
        ("spec.stage", "Stage"),
        ("spec.data.predictions", "Dataset"),
        ("spec.data.labels.dataset", "Dataset"),
        ("spec.reference.source.dataset", "Dataset"),
        ("spec.actions.*.alert.*", "Notifier"),
        ("spec.actions.*.retrain.experiment", "Experiment"),
        ("spec.actions.*.retrain.datasets.*", "Dataset"),
        ("spec.actions.*.retrain.propose", "Promotion"),
    ],
}
# Those of one field are found without a search: a large project has tens of thousands.
_PLAIN = {
    kind: [
        (steps(pattern), tuple(pattern.split(".")), target)
        for pattern, target in fields
        if "*" not in pattern
    ]
    for kind, fields in _REFERENCES.items()
}
_SPREAD = {
    kind: [(steps(pattern), target) for pattern, target in fields if "*" in pattern]
    for kind, fields in _REFERENCES.items()
}


def references(resource: Resource) -> tuple[tuple[FieldPath, Key], ...]:
    """The fields of a resource that name another one, each with the key that it names."""
    return references_in(resource.kind, resource)


def references_in(kind: str, view: View) -> tuple[tuple[FieldPath, Key], ...]:
    """The same for a document that may be broken; fields that hold no text are left out."""
    found: list[tuple[FieldPath, Key]] = []
    for pattern, path, target in _PLAIN.get(kind, ()):
        if (name := text_at(view, pattern)) is not None:
            found.append((path, Key(target, name)))
    for pattern, target in _SPREAD.get(kind, ()):
        found += [(path, Key(target, name)) for path, name in find(view, pattern) if isinstance(name, str)]
    return tuple(found)
