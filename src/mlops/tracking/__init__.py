"""The only package that knows MLflow's API."""

from mlops.tracking.artifacts import Artifact
from mlops.tracking.marks import Marks
from mlops.tracking.runs import DatasetInput, takes_metric
from mlops.tracking.tracker import Tracker

__all__ = ["Artifact", "DatasetInput", "Marks", "Tracker", "takes_metric"]
