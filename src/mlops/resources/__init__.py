"""What a user declares: kinds, loading with positions, JSON Schemas."""

from mlops.resources.dataset import Dataset
from mlops.resources.experiment import Experiment, environment_name, placeholders
from mlops.resources.key import Key
from mlops.resources.kinds import Resource
from mlops.resources.loading import Loaded, load
from mlops.resources.model import Model
from mlops.resources.model_version import ModelVersion
from mlops.resources.monitoring_policy import MonitoringPolicy
from mlops.resources.notifier import Notifier
from mlops.resources.problem import Problem
from mlops.resources.project import Project
from mlops.resources.promotion import Promotion
from mlops.resources.references import references
from mlops.resources.semver import semver_key
from mlops.resources.stage import Stage

__all__ = [
    "Dataset",
    "Experiment",
    "Key",
    "Loaded",
    "Model",
    "ModelVersion",
    "MonitoringPolicy",
    "Notifier",
    "Problem",
    "Project",
    "Promotion",
    "Resource",
    "Stage",
    "environment_name",
    "load",
    "placeholders",
    "references",
    "semver_key",
]
