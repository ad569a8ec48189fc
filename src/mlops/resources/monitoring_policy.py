"""MonitoringPolicy: how the version in a stage is watched, and what happens when it is no longer right."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
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

from mlops.resources.dataset import Column
from mlops.resources.document import Document, Integer, Name, Section, Spec, one_of, refuse
from mlops.resources.monitoring_actions import Decide, PolicyAction
from mlops.resources.monitoring_checks import Check
from mlops.resources.quantities import Duration

WINDOW_FROM_PATTERN = r"^(start|promotion|[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.+Z-]{1,32})?)$"


def parse_time(text: str) -> float:
    """Seconds since 1970 of a date or time, in UTC unless it says otherwise. Raises ValueError for any other text."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _window_from(text: str) -> str:
    if text not in ("start", "promotion"):
        try:
            parse_time(text)
        except (ValueError, OverflowError):
            raise refuse("is not a time", "Write a date such as 2026-01-31, or start or promotion.") from None
    return text


class Labels(Section):
    """Labels that come apart from predictions."""

    dataset: Name = Field(description="The Dataset with the labels; its `columns.target` is the label.")
    join_on: Column | None = Field(
        default=None,
        description="The column in both that says which row is meant. Default: the predictions' `id`.",
    )
    max_delay: Duration | None = Field(
        default=None,
        description="How late a label may be, in event time: then a window is judged on those there are. Omitted: when "
        "nearly all are there.",
    )


class Data(Section):
    """What is looked at."""

    predictions: Name = Field(
        description="The Dataset with features, predictions and timestamps; it grows by files or table versions."
    )
    labels: Labels | None = Field(
        default=None, description="Labels that come later. Omitted: `columns.target` of the predictions."
    )


class Window(Section):
    """Which rows are judged together; exactly one of size and rows is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["size"]}, {"required": ["rows"]}],
            "not": {"required": ["size", "rows"]},
        }
    )

    size: Duration | None = Field(default=None, description="Windows of event time, such as `1d`.")
    rows: Annotated[Integer, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None,
        validate_default=True,
        description="Windows of so many rows, in the order of files as first seen.",
    )
    lateness: Duration | None = Field(
        default=None, description="How late a row may be before its window closes. Omitted: not at all."
    )
    min_rows: Annotated[Integer, Field(ge=1)] = Field(
        default=100, description="A window, or a slice of one, with fewer is insufficient. Default: 100."
    )
    from_: Annotated[str, StringConstraints(pattern=WINDOW_FROM_PATTERN), AfterValidator(_window_from)] = (
        Field(
            default="start",
            alias="from",
            description="The first window: `start` of the data (default), `promotion` of the version, or a time.",
        )
    )

    @field_validator("rows")
    @classmethod
    def _one_kind_of_window(cls, value: int | None, info: ValidationInfo) -> int | None:
        if "size" in info.data and (value is None) == (info.data["size"] is None):
            if value is None:
                raise refuse("is required, or rows instead of it", "Write size: 1d.", at=("..", "size"))
            raise refuse("stands beside size", "Keep one of size and rows.")
        return value

    @field_validator("lateness")
    @classmethod
    def _rows_are_never_late(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("rows") is not None:
            raise refuse("is for windows of event time", "Remove it: late rows come in the next window.")
        return value


class ReferenceDataset(Section):
    """A Dataset as reference."""

    dataset: Name = Field(description="The Dataset.")


class RollingReference(Section):
    """The past as reference."""

    rolling: Duration = Field(description="The windows of so much time before each, such as `8w`.")


def _is_one_source(value: Any) -> Any:
    if isinstance(value, str) and value != "training":
        raise refuse("is not a reference", "Write training, {dataset: NAME} or {rolling: 8w}.")
    if isinstance(value, dict):
        one_of(value, ("dataset", "rolling"), "reference")
    elif not isinstance(value, str | Section):
        raise refuse("is not a reference", "Write training, {dataset: NAME} or {rolling: 8w}.")
    return value


def _which_source(value: Any) -> str:
    if isinstance(value, str):
        return "training"
    return "rolling" if isinstance(value, RollingReference) or "rolling" in value else "dataset"


ReferenceSource = Annotated[
    Annotated[Literal["training"], Tag("training")]
    | Annotated[ReferenceDataset, Tag("dataset")]
    | Annotated[RollingReference, Tag("rolling")],
    Discriminator(_which_source),
    BeforeValidator(_is_one_source),
]


class Reference(Section):
    """What windows are compared with."""

    source: ReferenceSource = Field(
        default="training",
        description="`training`: what the watched version was trained on (default); `{dataset: NAME}`; or "
        "`{rolling: 8w}`.",
    )
    season: Literal["none", "hourOfWeek", "dayOfWeek", "month"] = Field(
        default="none",
        description="Compare with the same season only: `none` (default), `hourOfWeek`, `dayOfWeek` or `month`.",
    )


class ColumnOverride(Section):
    """What a policy knows about a column."""

    unit: Annotated[str, StringConstraints(min_length=1, max_length=40)] | None = Field(
        default=None, description="The unit that it is in, such as `EUR`, `km` or `°C`."
    )


class WatchedColumns(Section):
    """Which columns are looked at."""

    exclude: tuple[Column, ...] = Field(
        default=(), max_length=10_000, description="Columns that no check looks at."
    )
    overrides: Mapping[Column, ColumnOverride] = Field(
        default_factory=dict, max_length=10_000, description="What is known about single columns, by name."
    )


class MonitoringPolicySpec(Spec):
    """What a MonitoringPolicy declares."""

    model: Name = Field(description="The Model.")
    stage: Name = Field(description="The Stage; whatever version is promoted to it is watched.")
    task: Literal["binary", "multiclass", "regression"] | None = Field(
        default=None, description="What the model does. Default: as its target and signature say."
    )
    data: Data = Field(description="What is looked at.")
    window: Window = Field(description="Which rows are judged together.")
    reference: Reference = Field(default_factory=Reference, description="What windows are compared with.")
    schedule: Duration = Field(
        default=3600.0,
        json_schema_extra={"default": "1h"},
        description="How often due windows are looked for. Default: `1h`.",
    )
    slices: tuple[Column, ...] = Field(
        default=(), max_length=10, description="Columns whose values are judged on their own, too."
    )
    columns: WatchedColumns = Field(
        default_factory=WatchedColumns, description="Which columns are looked at."
    )
    checks: tuple[Check, ...] = Field(min_length=1, max_length=100, description="What is looked for.")
    decide: Decide = Field(default_factory=Decide, description="When a check fires and clears.")
    actions: tuple[PolicyAction, ...] = Field(
        default=(), max_length=100, description="What happens when checks fire."
    )


class MonitoringPolicy(Document):
    """How the version in a stage is watched."""

    kind: Literal["MonitoringPolicy"] = Field(description="`MonitoringPolicy`.")
    spec: MonitoringPolicySpec = Field(description="What it is.")
