"""All kinds together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mlops.resources.dataset import Dataset
from mlops.resources.document import Document
from mlops.resources.experiment import Experiment
from mlops.resources.model import Model
from mlops.resources.model_version import ModelVersion
from mlops.resources.monitoring_policy import MonitoringPolicy
from mlops.resources.notifier import Notifier
from mlops.resources.project import Project
from mlops.resources.promotion import Promotion
from mlops.resources.stage import Stage

Resource = (
    Project | Dataset | Experiment | Model | ModelVersion | Stage | Promotion | Notifier | MonitoringPolicy
)
AnyResource = Annotated[Resource, Field(discriminator="kind")]

MODELS: dict[str, type[Document]] = {
    "Project": Project,
    "Dataset": Dataset,
    "Experiment": Experiment,
    "Model": Model,
    "ModelVersion": ModelVersion,
    "Stage": Stage,
    "Promotion": Promotion,
    "Notifier": Notifier,
    "MonitoringPolicy": MonitoringPolicy,
}
