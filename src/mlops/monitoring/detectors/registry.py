"""Detectors by name: those built in, and others that come with installed packages as entry points.

An entry point of the group `mlops.detectors` names a `BinDetector` or a `RowDetector`; a policy asks for it by
`package/name`, the names of its distribution and of the entry point, so it can shadow none that is built in. Those of
alibi-detect are `alibi/<name>`: they are measured by a child process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlops.errors import Stalled
from mlops.monitoring.alibi.catalogue import OFFERED, AlibiDetector
from mlops.monitoring.detectors.binned import Binned, Floats, Measured
from mlops.monitoring.detectors.chi_square import chi_square
from mlops.monitoring.detectors.domain_classifier import domain_classifier
from mlops.monitoring.detectors.jensen_shannon import jensen_shannon
from mlops.monitoring.detectors.ks import ks
from mlops.monitoring.detectors.psi import psi
from mlops.monitoring.detectors.total_variation import total_variation
from mlops.monitoring.detectors.wasserstein import wasserstein

GROUP = "mlops.detectors"

Kind = Literal["numeric", "categorical"]


@dataclass(frozen=True, slots=True)
class BinDetector:
    """Compares one column by its counts. `squared` says that the effect grows as the square of a distance."""

    name: str
    threshold: float
    kinds: tuple[Kind, ...]
    measure: Callable[[Binned], Measured]
    squared: bool = False


@dataclass(frozen=True, slots=True)
class RowDetector:
    """Compares rows of all columns at once: reference, window (rows, columns), which columns are categorical, seed."""

    name: str
    threshold: float
    measure: Callable[[Floats, Floats, NDArray[np.bool_], int], Measured]


Detector = BinDetector | RowDetector | AlibiDetector

_BUILT_IN: dict[str, Detector] = {
    found.name: found
    for found in (
        BinDetector("psi", 0.2, ("numeric", "categorical"), psi, squared=True),
        BinDetector("jensenShannon", 0.1, ("numeric", "categorical"), jensen_shannon),
        BinDetector("ks", 0.1, ("numeric",), ks),
        BinDetector("wasserstein", 0.1, ("numeric",), wasserstein),
        BinDetector("chiSquare", 0.1, ("numeric", "categorical"), chi_square),
        BinDetector("totalVariation", 0.1, ("numeric", "categorical"), total_variation),
        RowDetector("domainClassifier", 0.2, domain_classifier),
    )
}


def installed() -> tuple[str, ...]:
    """Names of all detectors that can be asked for, sorted."""
    return tuple(sorted({*_BUILT_IN, *OFFERED, *_others()}))


def detector(name: str) -> Detector:
    """The detector of this name. Raises Stalled if there is none or it cannot be loaded."""
    built_in = _BUILT_IN.get(name) or OFFERED.get(name)
    if built_in is not None:
        return built_in
    entry = _others().get(name)
    if entry is None:
        raise Stalled(
            f"there is no detector {name[:80]!r}",
            fix=f"Use one of {', '.join(installed())}, or install the package that brings it.",
        )
    try:
        loaded = entry.load()
    except Exception as error:  # the code of another package: whatever it raises must stop only its checks
        raise Stalled(
            f"the detector {name!r} could not be loaded: {type(error).__name__}",
            where=entry.value,
            fix="Repair or upgrade the package that brings it.",
        ) from error
    if not isinstance(loaded, BinDetector | RowDetector):
        raise Stalled(
            f"the entry point of {name!r} is neither a BinDetector nor a RowDetector",
            where=entry.value,
            fix="Repair or upgrade the package that brings it.",
        )
    return loaded


def _others() -> dict[str, EntryPoint]:
    return {f"{entry.dist.name}/{entry.name}": entry for entry in entry_points(group=GROUP) if entry.dist}
