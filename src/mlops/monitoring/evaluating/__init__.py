"""From a policy and files of data to evaluations: the one engine of the daemon, of backtests and of simulations.

`assess` reads only files of which there are no summaries yet, and decodes only windows that changed. Whatever order
files come in, however rows are cut into them, and wherever it was killed before: the same rows give the same
evaluations to the byte. All I/O goes through what is passed in. Import this inside a function: numpy, scipy and
pyarrow stand behind it.
"""

from mlops.monitoring.evaluating.assessing import assess
from mlops.monitoring.evaluating.values import (
    Assessed,
    DataFile,
    Predict,
    Progress,
    Stored,
    Subject,
    Summaries,
    Table,
    Unread,
)

__all__ = [
    "Assessed",
    "DataFile",
    "Predict",
    "Progress",
    "Stored",
    "Subject",
    "Summaries",
    "Table",
    "Unread",
    "assess",
]
