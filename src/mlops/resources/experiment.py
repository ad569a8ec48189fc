"""Experiment: code, parameters, data and environment that make runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
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
    Document,
    Goal,
    Integer,
    MetricName,
    Name,
    Number,
    ParameterName,
    Scalar,
    Section,
    Spec,
    Variable,
    exactly_one,
    one_of,
    refuse,
)
from mlops.resources.places import Glob, RelativePath
from mlops.resources.quantities import Duration, Size

PYTHON_PATTERN = r"^[0-9]+\.[0-9]+(\.[0-9]+)?$"
MAX_TRIALS = 10_000
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]{0,127})\}")
_ENVIRONMENT_NAME = re.compile(r"[^A-Za-z0-9]")


def placeholders(argument: str) -> tuple[str, ...]:
    """Names that stand as `{name}` in an argument of a command; other braces are plain text."""
    return tuple(_PLACEHOLDER.findall(argument)) if "{" in argument else ()


def environment_name(name: str) -> str:
    """`name` as the tail of an environment variable: `learning-rate` becomes `LEARNING_RATE`."""
    return _ENVIRONMENT_NAME.sub("_", name).upper()


def _check_distinct_in_environment(names: Iterable[str], prefix: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(environment_name(name), name)
        if other != name:
            what = f"and {other} would both be the variable {prefix}{environment_name(name)}"
            raise refuse(what, "Rename one of them.", at=(name,), on_key=True)


class Source(Section):
    """The code that counts."""

    path: RelativePath = Field(
        description="The folder whose code runs, relative to the project root.", examples=["training"]
    )
    include: tuple[Glob, ...] = Field(
        default=("**/*",),
        min_length=1,
        max_length=64,
        description="Globs, relative to `path`, of the files whose change trains again. Default: all.",
    )
    exclude: tuple[Glob, ...] = Field(
        default=(), max_length=64, description="Globs of files that are left out of `include`."
    )


class Environment(Section):
    """What the code runs in."""

    requirements: RelativePath = Field(
        description="A requirements file, relative to the project root; locked and built with uv.",
        examples=["training/requirements.txt"],
    )
    python: Annotated[str, StringConstraints(pattern=PYTHON_PATTERN)] | None = Field(
        default=None,
        description="The Python version, in quotes. Default: the reconciler's.",
        examples=["3.11"],
    )


class Range(Section):
    """A space of numbers to draw from; exactly one of the three is given."""

    model_config = ConfigDict(json_schema_extra=exactly_one("uniform", "logUniform", "int"))

    uniform: tuple[Number, Number] | None = Field(
        default=None, description="Drawn evenly between two bounds."
    )
    log_uniform: tuple[Number, Number] | None = Field(
        default=None, description="Its logarithm is drawn evenly; both bounds are above 0."
    )
    int_: tuple[Integer, Integer] | None = Field(
        default=None, alias="int", description="A whole number between two bounds, both included."
    )

    @field_validator("uniform", "log_uniform", "int_")
    @classmethod
    def _bounds_ascend(
        cls, bounds: tuple[float, float] | None, info: ValidationInfo
    ) -> tuple[float, float] | None:
        if bounds and info.field_name == "log_uniform" and bounds[0] <= 0:
            raise refuse("starts at or below 0, which has no logarithm", "Give two bounds above 0.")
        if bounds and not bounds[0] < bounds[1]:
            raise refuse("has bounds that do not ascend", "Write the lower bound first: [low, high].")
        return bounds


def _values_or_range(value: Any) -> Any:
    if not isinstance(value, Range | list | tuple):
        if not isinstance(value, dict):
            raise refuse("is not a list of values", "Write the values to try as [a, b, c].")
        one_of(value, ("uniform", "logUniform", "int"), "range")
    return value


def _shape(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "list"


SweepValues = Annotated[
    Annotated[Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=1000)], Tag("list")]
    | Annotated[Range, Tag("range")],
    Discriminator(_shape),
    BeforeValidator(_values_or_range),
]


class Sweep(Section):
    """Many trials over a space of parameters."""

    strategy: Literal["grid", "random"] = Field(
        default="grid", description="`grid`: every combination (default). `random`: `trials` drawn ones."
    )
    parameters: Mapping[ParameterName, SweepValues] = Field(
        min_length=1,
        max_length=100,
        description="For each parameter the values to try. With `random` also `{uniform: [a, b]}`, "
        "`{logUniform: [a, b]}` or `{int: [a, b]}`.",
    )
    trials: Annotated[Integer, Field(ge=1, le=MAX_TRIALS)] | None = Field(
        default=None, validate_default=True, description="How many trials `random` draws."
    )
    parallel: Annotated[Integer, Field(ge=1, le=1000)] = Field(
        default=1, description="How many trials run at once. Default: 1."
    )

    @field_validator("parameters")
    @classmethod
    def _grid_is_finite(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if info.data.get("strategy") == "grid":
            for name, values in value.items():
                if not isinstance(values, tuple):
                    fix = "Write the values to try as [a, b, c], or set strategy: random."
                    raise refuse("is a range, but a grid needs values", fix, at=(name,))
            if math.prod(len(values) for values in value.values()) > MAX_TRIALS:
                raise refuse(
                    f"makes more than {MAX_TRIALS} trials", "Try fewer values, or set strategy: random."
                )
        return value

    @field_validator("trials")
    @classmethod
    def _random_says_how_many(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is None and info.data.get("strategy") == "random":
            raise refuse(
                "is required with strategy: random", "Say how many trials to draw, such as trials: 20."
            )
        return value


class Objective(Section):
    """What makes one run better than another."""

    metric: MetricName = Field(description="The name of the metric in MLflow.")
    goal: Goal = Field(description="`minimize` or `maximize`.")


class Resources(Section):
    """What a job may use."""

    cpu: Annotated[Number, Field(gt=0, le=10_000)] | None = Field(
        default=None, description="Processors. Omitted: no limit."
    )
    memory: Size | None = Field(default=None, description="Memory, such as `2Gi`. Omitted: no limit.")


class ExperimentSpec(Spec):
    """What an Experiment declares."""

    model_config = ConfigDict(json_schema_extra=exactly_one("command", "entryPoint"))

    source: Source = Field(description="The code that counts, from the same revision.")
    command: (
        Annotated[
            tuple[Annotated[str, StringConstraints(max_length=10_000)], ...],
            Field(min_length=1, max_length=500),
        ]
        | None
    ) = Field(
        default=None,
        description="The program and its arguments, without a shell; `{name}` is replaced by a parameter.",
        examples=[["python", "train.py", "--depth", "{depth}"]],
    )
    entry_point: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")] | None = (
        Field(
            default=None,
            validate_default=True,
            description="Instead of `command`: an entry point of the MLproject file in `source.path`.",
        )
    )
    parameters: Mapping[ParameterName, Scalar] = Field(
        default_factory=dict,
        max_length=1000,
        description="Parameters of every trial: text, numbers, true or false.",
    )
    datasets: Mapping[ParameterName, Name] = Field(
        default_factory=dict, max_length=100, description="Datasets by the name that the code knows them by."
    )
    environment: Environment | None = Field(
        default=None, description="What the code runs in. Omitted: the reconciler's own environment."
    )
    sweep: Sweep | None = Field(
        default=None, description="Many trials over a space of parameters. Omitted: one trial."
    )
    objective: Objective | None = Field(default=None, description="What makes one run better than another.")
    seed: Annotated[Integer, Field(ge=0, lt=2**32)] | None = Field(
        default=None, description="Given to the code as `MLOPS_SEED`; it also seeds a random sweep."
    )
    on_data_change: Literal["hold", "train"] = Field(
        default="hold",
        description="When unpinned data outside the repository moves: `hold` (default) or `train` again.",
    )
    variables: tuple[Variable, ...] = Field(
        default=(), max_length=100, description="Names from Project `variables` that the job may see."
    )
    executor: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")] = Field(
        default="local", description="`local` (default), `ray` or another installed executor."
    )
    resources: Resources = Field(default_factory=Resources, description="What a job may use.")
    timeout: Duration | None = Field(default=None, description="How long a trial may take, such as `1h`.")
    retries: Annotated[Integer, Field(ge=0, le=100)] = Field(
        default=1, description="How often a failed trial is tried again. Default: 1."
    )

    @field_validator("entry_point")
    @classmethod
    def _one_way_to_run(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "command" in info.data and (value is None) == (info.data["command"] is None):
            if value is None:
                what = "is required, or spec.entryPoint instead of it"
                raise refuse(what, "Write the program and its arguments as a list.", at=("..", "command"))
            raise refuse("stands beside command", "Keep one of command and entryPoint.")
        return value

    @field_validator("parameters")
    @classmethod
    def _parameters_differ(cls, value: dict[str, Any]) -> dict[str, Any]:
        _check_distinct_in_environment(value, "MLOPS_PARAM_")
        return value

    @field_validator("datasets")
    @classmethod
    def _datasets_differ(cls, value: dict[str, str]) -> dict[str, str]:
        _check_distinct_in_environment(value, "MLOPS_DATASET_")
        return value


class Experiment(Document):
    """Training: what runs, on what, and how often."""

    kind: Literal["Experiment"] = Field(description="`Experiment`.")
    spec: ExperimentSpec = Field(description="What it is.")
