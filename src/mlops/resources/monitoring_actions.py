"""When the checks of a MonitoringPolicy fire and clear, and what happens then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from mlops.resources.document import Boolean, Integer, Name, ParameterName, Section, refuse
from mlops.resources.notifier import Severity
from mlops.resources.quantities import Duration, parse_duration, render_duration

MAX_OF = 64
_FIRE = re.compile(r"([1-9][0-9]?) of ([1-9][0-9]?)")
_BUDGET = re.compile(r"([1-9][0-9]{0,3}) per ([1-9][0-9]{0,8}[smhdw])")


@dataclass(frozen=True, slots=True)
class Fire:
    """`k` of the newest `n` windows, and the newest among them."""

    k: int
    n: int


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `times` in `period` seconds of event time."""

    times: int
    period: float


def parse_fire(value: object) -> Fire:
    """Read `2 of 3`; refuses everything else."""
    if isinstance(value, Fire):
        return value
    match = _FIRE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise refuse("is not k of n", "Write it as 2 of 3.")
    k, n = int(match[1]), int(match[2])
    if k > n:
        raise refuse(f"asks for {k} windows out of {n}", "Write the smaller number first, such as 2 of 3.")
    if n > MAX_OF:
        raise refuse(f"looks at more than {MAX_OF} windows", "Choose a smaller n, or larger windows.")
    return Fire(k, n)


def parse_budget(value: object) -> Budget:
    """Read `4 per 30d`; refuses everything else."""
    if isinstance(value, Budget):
        return value
    match = _BUDGET.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise refuse("is not a budget", "Write how often in which time, such as 4 per 30d.")
    return Budget(int(match[1]), parse_duration(match[2]))


FireText = Annotated[
    Fire,
    PlainValidator(parse_fire),
    PlainSerializer(lambda fire: f"{fire.k} of {fire.n}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_FIRE.pattern}$", "examples": ["2 of 3"]}),
]
BudgetText = Annotated[
    Budget,
    PlainValidator(parse_budget),
    PlainSerializer(lambda one: f"{one.times} per {render_duration(one.period)}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_BUDGET.pattern}$", "examples": ["4 per 30d"]}),
]


class Decide(Section):
    """When a check fires and clears."""

    fire: FireText = Field(
        default=Fire(2, 3),
        json_schema_extra={"default": "2 of 3"},
        description="How many of the newest judged windows have to violate, the newest among them. Default: `2 of 3`.",
    )
    clear: Annotated[Integer, Field(ge=1, le=MAX_OF)] = Field(
        default=3,
        description="How many windows in a row have to be quiet at 0.8 of the threshold. Default: 3.",
    )
    warmup: Annotated[Integer, Field(ge=0, le=10_000)] = Field(
        default=3, description="Windows after a promotion before any retraining; alerts go out. Default: 3."
    )


class Retrain(Section):
    """A training again, and its proposal."""

    experiment: Name = Field(description="The Experiment that is run again.")
    datasets: Mapping[ParameterName, Name] = Field(
        default_factory=dict,
        max_length=100,
        description="Datasets instead of the Experiment's own, by the name that its code knows them by.",
    )
    propose: Name | None = Field(
        default=None,
        description="The Promotion that is to name the new version. Default: the one of this model and stage.",
    )
    cooldown: Duration | None = Field(
        default=None, description="The least event time between two of them. Omitted: none."
    )
    budget: BudgetText | None = Field(
        default=None, description="How many there may be in which event time, such as `4 per 30d`."
    )


class PolicyAction(Section):
    """What happens when checks fire; at least one of alert, retrain, rollback and blockRetrain is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [name]} for name in ("alert", "retrain", "rollback", "blockRetrain")]
        }
    )

    on: tuple[Name, ...] = Field(min_length=1, max_length=100, description="Names of checks.")
    severity: Severity | None = Field(
        default=None, description="Only from this severity on. Omitted: whatever the severity."
    )
    alert: tuple[Name, ...] = Field(default=(), max_length=20, description="Notifiers.")
    retrain: Retrain | None = Field(default=None, description="Train again, and propose what comes of it.")
    rollback: Literal["propose"] | None = Field(
        default=None, description="`propose`: to go back to the version before."
    )
    block_retrain: Boolean | None = Field(
        default=None,
        validate_default=True,
        description="Whether these checks block every retraining until they clear. Default: true for "
        "`upstreamChange`, else false.",
    )

    @field_validator("block_retrain")
    @classmethod
    def _does_something(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        others = ("alert", "retrain", "rollback")
        if value is None and all(name in info.data and not info.data[name] for name in others):
            raise refuse("does nothing", "Give it alert, retrain, rollback or blockRetrain.", at=("..",))
        return value
