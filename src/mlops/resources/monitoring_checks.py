"""The checks of a MonitoringPolicy: what is looked for, with which detectors, from which effect on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    Tag,
    WithJsonSchema,
    field_validator,
)

from mlops.resources.document import Boolean, Name, Number, Section, refuse
from mlops.resources.nearest import Nearest
from mlops.resources.notifier import Severity
from mlops.resources.problem import shown

NUMERIC = ("psi", "ks", "wasserstein", "jensenShannon", "chiSquare", "totalVariation")
CATEGORICAL = ("jensenShannon", "psi", "chiSquare", "totalVariation")
MULTIVARIATE = ("domainClassifier",)
UpstreamDetector = Literal[
    "schema", "nullRate", "newCategory", "constant", "unitRatio", "tailExceedance", "expect"
]
WITH_THRESHOLD = ("nullRate", "newCategory", "tailExceedance")
UPSTREAM: tuple[UpstreamDetector, ...] = get_args(UpstreamDetector)
ALIBI = ("ks", "cvm", "chiSquare", "fet", "tabular", "mmd", "lsdd", "classifier", "spotTheDiff")
CLASSIFICATION_METRICS = ("accuracy", "f1", "rocAuc", "averagePrecision", "logLoss", "brier")
REGRESSION_METRICS = ("rmse", "mae", "mape", "r2")
SCORED_METRICS = ("rocAuc", "averagePrecision", "logLoss", "brier")  # made of probabilities
DETECTOR_PATTERN = r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99}/)?[A-Za-z][A-Za-z0-9._-]{0,99}$"

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


def _detector(*built_in: str) -> AfterValidator:
    """Takes those built in, those of alibi-detect, and any of another package."""

    def check(name: str) -> str:
        package, slash, rest = name.partition("/")
        if not slash:
            _choose(name, built_in, "a detector here", "an installed one is written package/name")
        elif package == "alibi":
            _choose(rest, ALIBI, "a detector of alibi-detect", "all of them are alibi/<name>", "alibi/")
        return name

    return AfterValidator(check)


def _choose(name: str, choices: tuple[str, ...], noun: str, more: str, prefix: str = "") -> None:
    if name not in choices:
        near = Nearest().nearest(name, choices)
        fix = f"Did you mean {prefix}{near}?" if near else f"Choose one of {', '.join(choices)}; {more}."
        raise refuse(f"{shown(prefix + name)} is not {noun}", fix)


def parse_share(value: object) -> float:
    """A share, written `3%` or 0.03; refuses everything else."""
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)):
        return round(float(match[1]) / 100, 8)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    raise refuse("is not a share", "Write it as 3%, or as a number such as 0.03.")


_DetectorText = Annotated[str, StringConstraints(pattern=DETECTOR_PATTERN)]
Numeric = Annotated[_DetectorText, _detector(*NUMERIC)]
Categorical = Annotated[_DetectorText, _detector(*CATEGORICAL)]
Multivariate = Annotated[_DetectorText, _detector(*MULTIVARIATE)]
Effects = Mapping[_DetectorText, Annotated[Number, Field(gt=0)]]
Share = Annotated[
    float,
    PlainValidator(parse_share),
    PlainSerializer(lambda share: f"{round(share * 100, 6):g}%", return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]{1,6})?%$"},
            ],
            "examples": ["3%", 0.03],
        }
    ),
]


def _effects_or_calibrated(value: Any) -> Any:
    if isinstance(value, str) and value != "calibrated":
        raise refuse(f"{shown(value)} is not a mapping", "Write {psi: 0.2}, or calibrated.")
    return value


Thresholds = Annotated[
    Annotated[Literal["calibrated"], Tag("calibrated")]
    | Annotated[Annotated[Effects, Field(max_length=20)], Tag("effects")],
    Discriminator(lambda value: "calibrated" if isinstance(value, str) else "effects"),
    BeforeValidator(_effects_or_calibrated),
]


class _Check(Section):
    name: Name = Field(description="Unique in the policy; `actions` say it in `on`.")
    severity: Severity | None = Field(
        default=None,
        description="`info`, `warning` or `critical`. Default: `critical` for `upstreamChange` and `conceptDrift`, "
        "else `warning`.",
    )


class UpstreamChange(_Check):
    """Whether a feature changed its meaning at its source."""

    type: Literal["upstreamChange"] = Field(description="`upstreamChange`.")
    detectors: tuple[UpstreamDetector, ...] = Field(
        default=UPSTREAM, min_length=1, max_length=20, description="What is looked for. Default: all."
    )
    thresholds: Effects = Field(
        default_factory=dict,
        max_length=20,
        description="Effects from which on it is a change, by detector. Default: `{nullRate: 0.02, newCategory: "
        "0.005, tailExceedance: 0.01}`.",
    )

    @field_validator("thresholds")
    @classmethod
    def _of_parts_that_have_one(cls, thresholds: Mapping[str, float]) -> Mapping[str, float]:
        for name in thresholds:
            if name not in WITH_THRESHOLD:
                fix = f"Only {', '.join(WITH_THRESHOLD)} have one."
                raise refuse(f"{shown(name)} has no threshold", fix, at=(name,), on_key=True)
        return thresholds


class DataDrift(_Check):
    """Whether the features' distributions moved."""

    type: Literal["dataDrift"] = Field(description="`dataDrift`.")
    numeric: Numeric = Field(default="psi", description="The detector of numeric columns. Default: `psi`.")
    categorical: Categorical = Field(
        default="jensenShannon", description="The detector of categories. Default: `jensenShannon`."
    )
    multivariate: Multivariate | None = Field(
        default=None,
        description="A detector of all columns at once, beside those: `domainClassifier`, `alibi/mmd` and others.",
    )
    thresholds: Thresholds = Field(
        default_factory=dict,
        description="Effects from which on a column drifts, by detector, or `calibrated` on the reference's own "
        "windows. Default: 0.2 for `psi`, 0.1 for the others.",
    )
    share: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        default=None, description="The share of columns that has to drift. Omitted: one column is enough."
    )


class TargetDrift(_Check):
    """Whether labels or predictions moved."""

    type: Literal["targetDrift"] = Field(description="`targetDrift`.")
    numeric: Numeric = Field(default="psi", description="The detector of numbers. Default: `psi`.")
    categorical: Categorical = Field(
        default="jensenShannon", description="The detector of categories. Default: `jensenShannon`."
    )
    thresholds: Thresholds = Field(
        default_factory=dict, description="Effects from which on it drifts, by detector, or `calibrated`."
    )


class ConceptDrift(_Check):
    """Whether the relation between features and target moved: performance on labels."""

    type: Literal["conceptDrift"] = Field(description="`conceptDrift`.")
    metric: (
        Literal[
            "accuracy", "f1", "rocAuc", "averagePrecision", "logLoss", "brier", "rmse", "mae", "mape", "r2"
        ]
        | None
    ) = Field(
        default=None,
        description="What performance is measured by. Default, by task: `rocAuc`, `accuracy` or `rmse`.",
    )
    max_drop: Share = Field(
        default=0.05,
        json_schema_extra={"default": "5%"},
        description="How much worse it may get than on the reference, relative to that. Default: `5%`.",
    )
    loss: tuple[Literal["adwin", "pageHinkley"], ...] = Field(
        default=(), max_length=2, description="Detectors that also watch the loss, row by row."
    )
    estimate: Boolean = Field(
        default=False,
        description="Estimate performance while labels are late; an estimate never clears. Default: false.",
    )


AnyCheck = UpstreamChange | DataDrift | TargetDrift | ConceptDrift
CHECKS: dict[str, type[AnyCheck]] = {
    "upstreamChange": UpstreamChange,
    "dataDrift": DataDrift,
    "targetDrift": TargetDrift,
    "conceptDrift": ConceptDrift,
}


def _is_one_check(value: Any) -> Any:
    """Refuse what has no known type, and a field of a check of another type."""
    if isinstance(value, BaseModel):
        return value
    if not isinstance(value, dict):
        raise refuse("is not a check", f"Write {{name: …, type: …}}; the types are {', '.join(CHECKS)}.")
    kind = value.get("type")
    if kind is None:
        raise refuse("is required", f"Choose one of {', '.join(CHECKS)}.", at=("type",))
    if not isinstance(kind, str) or kind not in CHECKS:
        near = Nearest().nearest(kind, tuple(CHECKS)) if isinstance(kind, str) else None
        fix = f"Did you mean {near}?" if near else f"Choose one of {', '.join(CHECKS)}."
        raise refuse(f"{shown(kind)} is not a type of check", fix, at=("type",))
    known = _fields(CHECKS[kind])
    elsewhere = {name: other for other, model in CHECKS.items() for name in _fields(model)}
    for field in value:
        if field in elsewhere and field not in known:
            fix = f"Remove it; the fields here are {', '.join(sorted(known))}."
            raise refuse(f"is a field of {elsewhere[field]}, not of {kind}", fix, at=(field,), on_key=True)
    return value


def _fields(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _type_of(value: Any) -> str:
    return str(value["type"] if isinstance(value, dict) else value.type)


Check = Annotated[
    Annotated[UpstreamChange, Tag("upstreamChange")]
    | Annotated[DataDrift, Tag("dataDrift")]
    | Annotated[TargetDrift, Tag("targetDrift")]
    | Annotated[ConceptDrift, Tag("conceptDrift")],
    Discriminator(_type_of),
    BeforeValidator(_is_one_check),
]
