"""Runs first in a training process (this folder leads its PYTHONPATH) and gets out of the way.

Whatever `sitecustomize` the environment has of its own runs as if this one were not here. Then, only if the
process imports MLflow, models it logs take their requirements from the environment's lock. Standard library
only, any Python from 3.8.
"""

from __future__ import annotations

import os
import sys


def _give_way() -> None:
    """Run the `sitecustomize` that this one hides, if there is one; its faults are reported as site does."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH120, PTH100 - pathlib costs a script 10 ms
    own = sys.modules.pop("sitecustomize", None)
    before = list(sys.path)
    sys.path[:] = [p for p in before if os.path.abspath(p or ".") != here]  # noqa: PTH100
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", own or sys.modules[__name__])


def _watch() -> None:
    locked = os.environ.get("MLOPS_LOCKED_PACKAGES")
    if locked:
        import mlops_watch_mlflow  # type: ignore[import-not-found]

        mlops_watch_mlflow.watch(frozenset(locked.split()))


_watch()
_give_way()
