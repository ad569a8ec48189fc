"""How far a window is from its reference, and whether chance would do it: one detector a module.

`detector(name)` finds one, built in or brought by an installed package. Detectors work on counts in bins, whatever
the number of rows; those that need rows get a bounded sample. Imported only from inside functions of other rooms.
"""

from mlops.monitoring.detectors.binned import Binned, Measured
from mlops.monitoring.detectors.registry import BinDetector, Detector, RowDetector, detector, installed

__all__ = ["BinDetector", "Binned", "Detector", "Measured", "RowDetector", "detector", "installed"]
