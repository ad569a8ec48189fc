"""Datasets as content: what a URI names, its digest, rows and columns, and what a training job gets of it.

Nothing here knows MLflow or git: the files of a revision are handed in as `Inside`.
"""

from mlops.data.materialising import Materialised, materialise
from mlops.data.observing import Description, describe, observe, observe_all, profile
from mlops.data.profiles import Profile
from mlops.data.request import (
    ColumnExpectation,
    DatasetRequest,
    DigestCache,
    Expectation,
    Format,
    Inside,
    Problem,
)
from mlops.data.rows import RowFile, RowFiles, row_files
from mlops.data.tallies import ColumnProfile

__all__ = [
    "ColumnExpectation",
    "ColumnProfile",
    "DatasetRequest",
    "Description",
    "DigestCache",
    "Expectation",
    "Format",
    "Inside",
    "Materialised",
    "Problem",
    "Profile",
    "RowFile",
    "RowFiles",
    "describe",
    "materialise",
    "observe",
    "observe_all",
    "profile",
    "row_files",
]
