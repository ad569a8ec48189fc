"""What the licence of alibi-detect asks, for those who have it."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

from mlops.monitoring.alibi.catalogue import PYTHON

TERMS = (
    "Business Source License 1.1: not for commercial production use without a licence from Seldon Technologies; each "
    "version becomes Apache-2.0 four years after its release"
)


def notice() -> str | None:
    """One line for `mlops version`, or None where there is no alibi-detect. Nothing is imported or started."""
    try:
        return f"alibi-detect {version('alibi-detect')} ({TERMS})"
    except PackageNotFoundError:
        elsewhere = os.environ.get(PYTHON)
        return f"alibi-detect of {elsewhere} ({TERMS})" if elsewhere else None
