"""Evidence: what was found out about a model by loading it, kept as a tag of its run, where every plan sees it.

A tag is named after all that can change its content: the model's digest, what was looked into, the data's digest,
and the evaluator. So nothing is evaluated twice, and whoever evaluates it writes the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

from mlops.planning.canonical import canonical, sha256_of

EVALUATOR: Final = 1  # raise it when the same model and data would be judged differently
PREFIX: Final = "mlops.evaluation."
MOST_TEXT: Final = 600  # characters of a message; registries allow 5,000 in a tag

Task = Literal["regression", "classification"]


@dataclass(frozen=True, slots=True)
class Scoring:
    """Metrics of a model on a dataset: `data` is its digest, `target` the column that is predicted."""

    dataset: str
    data: str
    target: str
    task: Task

    @property
    def label(self) -> str:
        return self.dataset

    @property
    def identity(self) -> list[str]:
        """All that the numbers depend on beside the model; the dataset's name is not among it."""
        return ["scores", self.data, self.target, self.task]


@dataclass(frozen=True, slots=True)
class Example:
    """Whether a model has a signature and an input example, and accepts it."""

    @property
    def label(self) -> str:
        return "signature"

    @property
    def identity(self) -> list[str]:
        return ["signature"]


@dataclass(frozen=True, slots=True)
class Loading:
    """Whether a model can still be loaded, asked anew for each return to a stage; `since`: its last stay's end."""

    stage: str
    since: str

    @property
    def label(self) -> str:
        return "loading"

    @property
    def identity(self) -> list[str]:
        return ["loads", self.stage, self.since]


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What training again, from what is recorded of the model's run, comes to."""

    @property
    def label(self) -> str:
        return "reproduction"

    @property
    def identity(self) -> list[str]:
        return ["reproduction"]


Check = Scoring | Example | Loading | Reproduction


@dataclass(frozen=True, slots=True)
class Evidence:
    """What came of a check of one model.

    `failed` says what is wrong with the model, `error` why nothing can be said of it. `metrics` are by scikit-learn's
    names; NaN where one is not defined. `rows` had a target, `left_out` had none.
    """

    model: str  # digest
    artifact: str
    check: tuple[str, ...]  # the identity
    metrics: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    left_out: int = 0
    failed: str | None = None
    error: str | None = None

    @property
    def tag(self) -> str:
        return tag_of(self.check, self.model)

    def to_json(self) -> dict[str, Any]:
        """As JSON without NaN; what is not told is left out."""
        row: dict[str, Any] = {
            "evaluator": EVALUATOR,
            "model": self.model,
            "artifact": self.artifact,
            "check": list(self.check),
            "metrics": {name: _plain(value) for name, value in sorted(self.metrics.items())},
            "rows": self.rows,
            "left_out": self.left_out,
            "failed": self.failed,
            "error": self.error,
        }
        return {name: value for name, value in row.items() if value not in (None, {}, 0)}

    def text(self) -> str:
        return canonical(self.to_json())


def tag_of(identity: tuple[str, ...], model: str) -> str:
    """The tag that holds the evidence of a check of the model with this digest."""
    return PREFIX + sha256_of([EVALUATOR, list(identity), model])[:32]


def find(tags: Mapping[str, str], check: Check, model: str | None, artifact: str) -> Evidence | None:
    """The evidence of a check among a run's tags; `model` is the digest, None where it is not bound yet."""
    identity = tuple(check.identity)
    if model is not None:
        found = _read(tags.get(tag_of(identity, model), ""))
        return found if found is not None and (found.check, found.model) == (identity, model) else None
    for tag in sorted(tags):
        if tag.startswith(PREFIX):
            found = _read(tags[tag])
            if found is not None and (found.check, found.artifact, found.tag) == (identity, artifact, tag):
                return found
    return None


@lru_cache(maxsize=8192)
def _read(text: str) -> Evidence | None:
    """What `Evidence.text` gave; None for anything else, as a tag can be edited by hand."""
    try:
        row = json.loads(text)
        if row.pop("evaluator") != EVALUATOR:
            return None
        metrics = {str(name): float(value) for name, value in row.pop("metrics", {}).items()}
        found = Evidence(**{**row, "check": tuple(row["check"]), "metrics": metrics})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    texts = (found.model, found.artifact, *found.check)
    counts = (found.rows, found.left_out)
    if not all(isinstance(one, str) for one in texts) or not all(type(one) is int for one in counts):
        return None
    return found if all(isinstance(one, str | None) for one in (found.failed, found.error)) else None


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
