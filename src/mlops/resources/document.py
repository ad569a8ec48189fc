"""The frame that every document stands in, and the plain types its fields are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from mlops.resources.key import Key
from mlops.resources.problem import FieldPath

API_VERSION = "mlops/v1"

# Letters, digits, "-" and "."; no "..", as git refuses that in the names of refs.
NAME_PATTERN = r"^(?:[a-z0-9](?:\.?[a-z0-9-])*\.?)?[a-z0-9]$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
PARAMETER_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"
METRIC_PATTERN = r"^[A-Za-z0-9_./ -]{1,250}$"  # what MLflow takes


def refuse(what: str, fix: str, at: FieldPath = (), *, on_key: bool = False) -> PydanticCustomError:
    """The error a validator raises.

    Args:
        what: what is wrong.
        fix: what to do about it.
        at: leads from the validated value to the part that is wrong.
        on_key: it is the name of that field that is wrong, not its value.
    """
    return PydanticCustomError("refused", "{what}", {"what": what, "fix": fix, "at": at, "on_key": on_key})


class Section(BaseModel):
    """A mapping in a document: camelCase outside, snake_case inside, and no field beyond the declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, defer_build=True)


def _allowed_in_refs(name: str) -> str:
    if name.endswith(".lock"):
        raise refuse('ends in ".lock", which git refuses in the name of a ref', "Choose another name.")
    return name


Text = Annotated[str, StringConstraints(max_length=20_000)]
Label = Annotated[str, StringConstraints(max_length=5_000)]
Boolean = Annotated[bool, Strict()]
Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Scalar = (
    Annotated[str, StringConstraints(max_length=6_000)]  # the longest parameter that MLflow takes
    | Annotated[bool, Strict()]
    | Annotated[int, Strict()]
    | Annotated[float, Strict(), Field(allow_inf_nan=False)]
)
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=63)]
RefName = Annotated[Name, AfterValidator(_allowed_in_refs)]
Variable = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]
ParameterName = Annotated[str, StringConstraints(pattern=PARAMETER_PATTERN)]
MetricName = Annotated[str, StringConstraints(pattern=METRIC_PATTERN)]
Goal = Literal["minimize", "maximize"]


class Metadata(Section):
    """What a resource is called."""

    name: RefName = Field(
        description="Unique per kind: lower-case letters, digits, `-` and `.`, 1 to 63 of them, "
        "starting and ending with a letter or digit.",
    )
    labels: Mapping[Label, Label] = Field(
        default_factory=dict, max_length=100, description="Short texts to group and select resources by."
    )
    annotations: Mapping[Label, Label] = Field(
        default_factory=dict, max_length=100, description="Longer texts for people and other programs."
    )


class Spec(Section):
    """What all kinds share in `spec`."""

    suspend: Boolean = Field(
        default=False, description="Freeze it: it is observed and shown, never acted on. Default: false."
    )


class Document(Section):
    """The frame: `apiVersion`, `kind`, `metadata`, `spec`."""

    api_version: Literal["mlops/v1"] = Field(description="The version of this format: `mlops/v1`.")
    kind: str
    metadata: Metadata = Field(description="Name, labels and annotations.")
    spec: Spec

    @property
    def key(self) -> Key:
        """Kind and name."""
        return Key(self.kind, self.metadata.name)


def exactly_one(*names: str) -> JsonDict:
    """The part of a JSON Schema that asks for exactly one of these fields."""
    return {"oneOf": [{"required": [name]} for name in names]}


def one_of(value: Any, choices: tuple[str, ...], noun: str) -> None:
    """Refuse a mapping that has not exactly one key, out of `choices`."""
    options = ", ".join(choices)
    if not isinstance(value, dict):
        raise refuse(f"is not a {noun}", f"Write a mapping with one of {options}.")
    for key in value:
        if key not in choices:
            raise refuse(f"is not a {noun}", f"Choose one of {options}.", at=(key,), on_key=True)
    if len(value) != 1:
        raise refuse(f"is not one {noun}", f"Give each item exactly one of {options}.")
