"""Chaos: a daemon, a generated repository, and everything that can go wrong, from one seed (docs/chaos.md)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "lifecycle"))  # where forking is
