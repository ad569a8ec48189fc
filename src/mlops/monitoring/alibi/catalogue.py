"""What of alibi-detect is offered, from which effect on, and for what.

Its online detectors are not: they read a stream row by row and alarm at an expected run time, while a window is a set
of rows whose verdict is held to a p-value. For losses row by row there are `adwin` and `pageHinkley`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PYTHON = "MLOPS_ALIBI_PYTHON"
"""Variable with the Python of the environment that has alibi-detect, where that is not the one of mlops."""


@dataclass(frozen=True, slots=True)
class AlibiDetector:
    """One of them.

    Args:
        name: `alibi/` and its name.
        threshold: the effect from which on there is drift.
        kinds: columns that it compares one by one; none: it compares all columns at once.
        rows: how many of each sample it is given at most, which bounds its time.
        permuted: whether its p-value is counted over permutations.
    """

    name: str
    threshold: float
    kinds: tuple[Literal["numeric", "categorical"], ...] = ()
    rows: int = 2_000
    permuted: bool = False

    @property
    def own_name(self) -> str:
        """Without `alibi/`."""
        return self.name.removeprefix("alibi/")


OFFERED: dict[str, AlibiDetector] = {
    one.name: one
    for one in (
        AlibiDetector("alibi/ks", 0.1, ("numeric",)),
        AlibiDetector("alibi/cvm", 0.075, ("numeric",)),  # as far as a KS distance of 0.1 in a shifted normal
        AlibiDetector("alibi/chiSquare", 0.1, ("categorical",)),
        AlibiDetector("alibi/fet", 0.1, ("numeric", "categorical")),
        AlibiDetector("alibi/tabular", 0.1),
        AlibiDetector("alibi/mmd", 0.1, rows=400, permuted=True),
        AlibiDetector("alibi/lsdd", 0.1, rows=1_000, permuted=True),
        AlibiDetector("alibi/classifier", 0.15),
        AlibiDetector("alibi/spotTheDiff", 0.15),
    )
}
