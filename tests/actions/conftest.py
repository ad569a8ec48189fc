"""The small project of the lifecycle's tests serves these, too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "lifecycle"))
