"""Stage: a place a version is promoted to, and what has to hold before it may be there."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
)

from mlops.resources.document import (
    Boolean,
    Document,
    Goal,
    Integer,
    MetricName,
    Name,
    Number,
    Section,
    Spec,
    one_of,
    refuse,
)
from mlops.resources.quantities import Duration, Improvement, ImprovementText

ALIAS_PATTERN = r"^[A-Za-z0-9_-]{1,255}$"
_RESERVED_ALIAS = re.compile(r"latest|v[0-9]+", re.IGNORECASE)
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")


def alias_refusal(alias: str) -> str | None:
    """Why MLflow would not take this alias, or None."""
    if not _ALIAS.fullmatch(alias):
        return "is no MLflow alias: letters, digits, - and _ only"
    return "is an alias that MLflow keeps for itself" if _RESERVED_ALIAS.fullmatch(alias) else None


def _usable_alias(alias: str) -> str:
    if why := alias_refusal(alias):
        raise refuse(why, 'Choose another alias; "latest" and "v1", "v2", … are taken.')
    return alias


class Approvals(Section):
    """Who has to approve."""

    required: Annotated[Integer, Field(ge=1, le=100)] = Field(
        default=1, description="How many people. Default: 1."
    )
    from_: tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...] = Field(
        alias="from",
        min_length=1,
        max_length=100,
        description="Groups of Project `groups` whose members count.",
    )
    allow_author: Boolean = Field(
        default=False, description="Whether an author of the change may approve it. Default: false."
    )


class MetricBounds(Section):
    """Bounds for a metric."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["min"]}, {"required": ["max"]}]})

    name: MetricName = Field(description="The name of the metric in MLflow.")
    min: Number | None = Field(default=None, description="The least value that passes.")
    max: Number | None = Field(
        default=None, validate_default=True, description="The greatest value that passes."
    )
    dataset: Name | None = Field(
        default=None, description="Evaluate the model on this Dataset instead of taking the run's metric."
    )

    @field_validator("max")
    @classmethod
    def _bounded(cls, value: float | None, info: ValidationInfo) -> float | None:
        least = info.data.get("min")
        if value is None and least is None and "min" in info.data:
            raise refuse("needs min or max", "Say what passes, such as max: 60.", at=("..",))
        if value is not None and least is not None and value < least:
            raise refuse("is less than min", "Exchange min and max, or mend one of them.")
        return value


class ChampionComparison(Section):
    """A comparison with the version that is now in the stage."""

    metric: MetricName = Field(description="The name of the metric to compare.")
    goal: Goal = Field(description="`minimize` or `maximize`.")
    dataset: Name = Field(description="The Dataset on which both are evaluated.")
    min_improvement: ImprovementText = Field(
        default=Improvement(0.0, relative=False),
        json_schema_extra={"default": 0},
        description="How much better it has to be: `1%` of the champion's value, or an absolute number.",
    )


class Reproduction(Section):
    """A second training from the recorded inputs."""

    tolerance: Annotated[Number, Field(ge=0)] = Field(
        description="How far each metric may be from what it was, as an absolute number."
    )


class MetricGate(Section):
    """Passes when a metric is in bounds."""

    metric: MetricBounds = Field(description="A metric and its bounds.")


class ChampionGate(Section):
    """Passes when it beats the version now in the stage."""

    champion: ChampionComparison = Field(description="How the two are compared.")


class SoakGate(Section):
    """Passes when the version has been in the stage before for some time."""

    soak: Duration = Field(description="How long it must have been in `after`, such as `24h`.")


def _only_true(value: Any) -> Any:
    if value is not True:
        raise refuse("must be true", "Write signature: true, or remove this gate.")
    return value


class SignatureGate(Section):
    """Passes when the model has a signature and an input example that it accepts."""

    signature: Annotated[Literal[True], BeforeValidator(_only_true)] = Field(description="`true`.")


class ReproducibleGate(Section):
    """Passes when training again gives the same metrics."""

    reproducible: Reproduction = Field(description="How close the second training has to come.")


_GATE_TYPES: dict[type[Section], str] = {
    MetricGate: "metric",
    ChampionGate: "champion",
    SoakGate: "soak",
    SignatureGate: "signature",
    ReproducibleGate: "reproducible",
}


def _is_one_gate(value: Any) -> Any:
    if type(value) not in _GATE_TYPES:
        one_of(value, tuple(_GATE_TYPES.values()), "gate")
    return value


def _which_gate(value: Any) -> str:
    return str(next(iter(value))) if isinstance(value, dict) else _GATE_TYPES[type(value)]


AnyGate = MetricGate | ChampionGate | SoakGate | SignatureGate | ReproducibleGate
Gate = Annotated[
    Annotated[MetricGate, Tag("metric")]
    | Annotated[ChampionGate, Tag("champion")]
    | Annotated[SoakGate, Tag("soak")]
    | Annotated[SignatureGate, Tag("signature")]
    | Annotated[ReproducibleGate, Tag("reproducible")],
    Discriminator(_which_gate),
    BeforeValidator(_is_one_gate),
]


class StageSpec(Spec):
    """What a Stage declares."""

    after: Name | None = Field(
        default=None, description="The Stage a version must have been promoted to before."
    )
    alias: (
        Annotated[str, AfterValidator(_usable_alias), Field(json_schema_extra={"pattern": ALIAS_PATTERN})]
        | None
    ) = Field(default=None, description="The alias in MLflow. Default: the stage's name.")
    approvals: Approvals | None = Field(
        default=None, description="Who has to approve. Omitted: it promotes when the gates pass."
    )
    gates: tuple[Gate, ...] = Field(
        default=(),
        max_length=100,
        description="What has to hold before a version may be here; all are evaluated.",
    )


class Stage(Document):
    """A place that versions are promoted to."""

    kind: Literal["Stage"] = Field(description="`Stage`.")
    spec: StageSpec = Field(description="What it is.")

    @property
    def alias(self) -> str:
        """Its alias in MLflow."""
        return self.spec.alias or self.metadata.name
