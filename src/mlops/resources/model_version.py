"""ModelVersion: one version of a model and the run it comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from mlops.resources.dataset import DIGEST_PATTERN
from mlops.resources.document import Document, Name, Section, Spec, exactly_one, refuse
from mlops.resources.places import RelativePath
from mlops.resources.semver import SEMVER_PATTERN


def _allowed_in_refs(version: str) -> str:
    if version.endswith(".lock"):
        raise refuse('ends in ".lock", which git refuses in the name of a ref', "Choose another version.")
    return version


Version = Annotated[
    str, StringConstraints(pattern=SEMVER_PATTERN, max_length=100), AfterValidator(_allowed_in_refs)
]


class VersionSource(Section):
    """Where the model of a version comes from."""

    model_config = ConfigDict(json_schema_extra=exactly_one("experiment", "runId"))

    experiment: Name | None = Field(
        default=None, description="The Experiment whose best finished run, by its objective, is bound."
    )
    run_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")] | None = Field(
        default=None, validate_default=True, description="Instead of `experiment`: the id of one MLflow run."
    )
    artifact: RelativePath = Field(
        default="model", description="The model's name or artifact path in that run. Default: `model`."
    )

    @field_validator("run_id")
    @classmethod
    def _one_source(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "experiment" in info.data and (value is None) == (info.data["experiment"] is None):
            if value is None:
                what = "is required, or spec.source.runId instead of it"
                raise refuse(what, "Name the Experiment that trains it.", at=("..", "experiment"))
            raise refuse("stands beside experiment", "Keep one of experiment and runId.")
        return value


class ModelVersionSpec(Spec):
    """What a ModelVersion declares."""

    model: Name = Field(description="The Model it is a version of.")
    version: Version = Field(
        description="A semantic version (semver.org), unique for the model.", examples=["1.1.0"]
    )
    source: VersionSource = Field(description="Where it comes from; bound once, then immutable.")
    digest: Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)] | None = Field(
        default=None, description="Pin of the artifact's content, `sha256:` and 64 hexadecimal digits."
    )
    deletion_policy: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="What happens in MLflow when this is removed from git: `Retain` (default) or `Delete`.",
    )


class ModelVersion(Document):
    """One version of a model."""

    kind: Literal["ModelVersion"] = Field(description="`ModelVersion`.")
    spec: ModelVersionSpec = Field(description="What it is.")
