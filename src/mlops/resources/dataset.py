"""Dataset: data by URI, what its columns mean, and what has to hold of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationInfo, field_validator, model_validator
from pydantic.config import JsonDict

from mlops.resources.document import Document, Integer, Label, Number, Section, Spec, refuse
from mlops.resources.places import DataUri

Column = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Bound = (
    Number | Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.+Z-]{1,32})?$")]
)
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
PIN_PATTERN = r"^(sha256:[0-9a-f]{64}|delta:[0-9A-Za-z-]{1,64}:[0-9]{1,18})$"
_SUFFIXES = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet"}


class Columns(Section):
    """What the columns mean."""

    target: Column | None = Field(default=None, description="The column to predict.")
    prediction: Column | None = Field(default=None, description="The column that holds a prediction.")
    probability: Column | Mapping[Label, Column] | None = Field(
        default=None, description="Column with the probability of the positive class, or one per class."
    )
    id: Column | None = Field(default=None, description="The column that identifies a row.")
    timestamp: Column | None = Field(default=None, description="The column with the time of a row.")
    categorical: tuple[Column, ...] = Field(
        default=(), max_length=10_000, description="Columns that hold categories, whatever their type."
    )
    ignore: tuple[Column, ...] = Field(
        default=(), max_length=10_000, description="Columns that nothing looks at."
    )


class ExpectedColumn(Section):
    """What has to hold of one column."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        default=None, description="Its type, such as `double`, `int64`, `string`, `bool` or `timestamp`."
    )
    min: Bound | None = Field(default=None, description="No value is less; a number, or a date in quotes.")
    max: Bound | None = Field(default=None, description="No value is greater; a number, or a date in quotes.")
    max_null: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        default=None, description="The greatest share of missing values, from 0 to 1."
    )

    @field_validator("max")
    @classmethod
    def _min_is_not_above_max(cls, value: float | str | None, info: ValidationInfo) -> float | str | None:
        least = info.data.get("min")
        if isinstance(value, float) and isinstance(least, float) and value < least:
            raise refuse("is less than min", "Exchange min and max, or mend one of them.")
        return value


class Expect(Section):
    """What has to hold of the data."""

    min_rows: Annotated[Integer, Field(ge=0)] | None = Field(
        default=None, description="The least number of rows."
    )
    columns: Mapping[Column, ExpectedColumn] = Field(
        default_factory=dict, max_length=10_000, description="What has to hold of single columns, by name."
    )


def _format_may_be_left_out(schema: JsonDict) -> None:
    schema["required"] = ["uri"]


class DatasetSpec(Spec):
    """What a Dataset declares."""

    model_config = ConfigDict(json_schema_extra=_format_may_be_left_out)

    uri: DataUri = Field(
        description="A file, a folder or glob of files, or a table: a path relative to the project root, or "
        "`file://`, `s3://`, `gs://`, `abfss://`, `az://`. `${VAR}` is replaced (see Project `variables`).",
        examples=["data/bikes-2011.parquet", "s3://bucket/bikes/*.parquet"],
    )
    format: Literal["csv", "parquet", "delta"] = Field(
        description="`csv`, `parquet` or `delta`. May be left out where `uri` ends in .csv or .parquet."
    )
    version: Annotated[Integer, Field(ge=0)] | None = Field(
        default=None, description="Delta: the table's version. Omitted: the latest when observed."
    )
    digest: Annotated[str, StringConstraints(pattern=PIN_PATTERN)] | None = Field(
        default=None, description="Pin of the content, as `mlops describe` prints it. A mismatch is an error."
    )
    columns: Columns = Field(default_factory=Columns, description="What the columns mean.")
    expect: Expect | None = Field(
        default=None, description="What has to hold of the data when it is observed."
    )

    @model_validator(mode="before")
    @classmethod
    def _format_by_suffix(cls, data: Any) -> Any:
        if isinstance(data, dict) and "format" not in data and isinstance(data.get("uri"), str):
            for suffix, name in _SUFFIXES.items():
                if data["uri"].lower().endswith(suffix):
                    return {**data, "format": name}
        return data

    @field_validator("version")
    @classmethod
    def _only_delta_has_versions(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("format", "delta") != "delta":
            raise refuse("is for format delta only", "Leave it out; pin a file by its digest.")
        return value


class Dataset(Document):
    """Data that experiments train on and gates evaluate on."""

    kind: Literal["Dataset"] = Field(description="`Dataset`.")
    spec: DatasetSpec = Field(description="What it is.")
