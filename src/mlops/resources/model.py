"""Model: a registered model, its owners and its tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from mlops.resources.document import Document, Label, Spec, Text, refuse

TagName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./: -]{1,250}$")]  # what MLflow takes
REGISTERED_NAME_PATTERN = r"^[A-Za-z0-9_.-]([A-Za-z0-9_. -]{0,253}[A-Za-z0-9_.-])?$"
RESERVED_TAGS = ("mlops.", "mlflow.")  # the ledger: not for users to write


class ModelSpec(Spec):
    """What a Model declares."""

    description: Text = Field(default="", description="What it predicts, for people; shown in MLflow.")
    owners: tuple[Annotated[str, StringConstraints(min_length=1, max_length=320)], ...] = Field(
        default=(), max_length=100, description="Groups or e-mail addresses that answer for it."
    )
    tags: Mapping[TagName, Label] = Field(
        default_factory=dict, max_length=100, description="Tags of the registered model in MLflow."
    )
    registered_name: Annotated[str, StringConstraints(pattern=REGISTERED_NAME_PATTERN)] | None = Field(
        default=None,
        description="Its name in MLflow, `catalog.schema.model` on Unity Catalog. Default: the name.",
    )

    @field_validator("tags")
    @classmethod
    def _leaves_the_ledger_alone(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name.startswith(RESERVED_TAGS):
                raise refuse(
                    "is kept for the reconciler", "Choose a tag without that prefix.", at=(name,), on_key=True
                )
        return value

    @field_validator("registered_name")
    @classmethod
    def _is_no_path(cls, value: str | None) -> str | None:
        if value in (".", ".."):
            raise refuse("is a path", "Choose a name with letters or digits.")
        return value


class Model(Document):
    """A registered model."""

    kind: Literal["Model"] = Field(description="`Model`.")
    spec: ModelSpec = Field(description="What it is.")

    @property
    def registered_name(self) -> str:
        """Its name in MLflow."""
        return self.spec.registered_name or self.metadata.name
