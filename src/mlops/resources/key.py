"""The identity of a resource: its kind and its name, written `Kind/name`."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from mlops.errors import MlopsError
from mlops.resources.nearest import Nearest

KINDS = (
    *("Project", "Dataset", "Experiment", "Model", "ModelVersion", "Stage", "Promotion"),
    *("Notifier", "MonitoringPolicy"),
)


class Key(NamedTuple):
    """Kind and name of a resource; sorts by kind, then by name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str, known: Collection[Key] = ()) -> Key:
        """Read `Kind/name`; the kind in any case. With `known`, the key has to be one of those.

        Raises MlopsError when it is not of that form, when the kind does not exist, or when `known`
        does not hold it; the error offers the nearest name.
        """
        kind, slash, name = text.partition("/")
        if not slash or not name or "/" in name:
            raise MlopsError(
                f'"{text}" is not a resource', fix="Write it as Kind/name, e.g. Experiment/bikes."
            )
        key = cls(parse_kind(kind), name)
        if known and key not in known:
            near = Nearest().nearest(name, [other.name for other in known if other.kind == key.kind])
            fix = f"Did you mean {key.kind}/{near}?" if near else f"Declare a {key.kind} of that name first."
            raise MlopsError(f"there is no {key}", fix=fix)
        return key


def parse_kind(text: str) -> str:
    """The kind that `text` names, in any case; raises MlopsError with the nearest kind if there is none."""
    for kind in KINDS:
        if kind.lower() == text.lower():
            return kind
    near = Nearest().nearest(text, KINDS)
    fix = f"Did you mean {near}?" if near else f"The kinds are {', '.join(KINDS)}."
    raise MlopsError(f'"{text}" is not a kind', fix=fix)
