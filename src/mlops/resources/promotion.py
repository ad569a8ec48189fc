"""Promotion: which version of a model is in a stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from mlops.resources.document import Document, Name, Spec
from mlops.resources.semver import SEMVER

LATEST = "latest"
PROMOTED_PATTERN = f"^(?:latest|{SEMVER})$"


class PromotionSpec(Spec):
    """What a Promotion declares."""

    model: Name = Field(description="The Model.")
    stage: Name = Field(description="The Stage.")
    version: Annotated[str, StringConstraints(pattern=PROMOTED_PATTERN, max_length=100)] = Field(
        description="A declared version of the model, or `latest` where the stage asks for no approvals.",
        examples=["1.1.0", LATEST],
    )


class Promotion(Document):
    """Which version of a model is in a stage."""

    kind: Literal["Promotion"] = Field(description="`Promotion`.")
    spec: PromotionSpec = Field(description="What it is.")
