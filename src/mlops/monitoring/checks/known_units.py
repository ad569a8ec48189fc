"""Conversions of units that data goes through by accident, by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import Final

TOLERANCE: Final = 0.05  # of a factor: rates of exchange move


@dataclass(frozen=True, slots=True)
class Conversion:
    """slope·x + offset turns `source` into `target`; a `floating` slope is a rate of exchange, true of its time."""

    source: str
    target: str
    slope: float
    offset: float = 0.0
    floating: bool = False

    @property
    def label(self) -> str:
        """For people: `EUR to CFA franc (XOF, XAF)`."""
        return f"{self.source} to {self.target}"

    @property
    def inverse(self) -> Conversion:
        """The way back."""
        return Conversion(self.target, self.source, 1 / self.slope, -self.offset / self.slope, self.floating)


_CFA: Final = "CFA franc (XOF, XAF)"
_YEN: Final = "yen (JPY)"

# The CFA francs are pegged to the euro at 655.957; other rates are the European Central Bank's averages of 2024.
_FACTORS: Final = (
    Conversion("EUR", _CFA, 655.957),
    Conversion("USD", _CFA, 606.0, floating=True),
    Conversion("GBP", _CFA, 774.8, floating=True),
    Conversion("CHF", _CFA, 688.6, floating=True),
    Conversion("EUR", _YEN, 163.85, floating=True),
    Conversion("USD", _YEN, 151.4, floating=True),
    Conversion("GBP", _YEN, 193.5, floating=True),
    Conversion("CHF", _YEN, 172.0, floating=True),
    # By definition: international yard and pound agreement of 1959; US liquid and imperial gallon.
    Conversion("miles", "km", 1.609344),
    Conversion("metres", "feet", 1 / 0.3048),
    Conversion("inches", "cm", 2.54),
    Conversion("inches", "mm", 25.4),
    Conversion("kg", "pounds", 1 / 0.45359237),
    Conversion("US gallons", "litres", 3.785411784),
    Conversion("imperial gallons", "litres", 4.54609),
    Conversion("whole currency or shares", "cents or per cent", 100.0),
    Conversion("thousands", "ones", 1_000.0),
    Conversion("millions", "ones", 1_000_000.0),
    Conversion("minutes or hours", "seconds or minutes", 60.0),
)

_AFFINE: Final = (
    Conversion("°C", "°F", 1.8, 32.0),
    Conversion("°C", "K", 1.0, 273.15),
    Conversion("°F", "K", 1 / 1.8, 273.15 - 32.0 / 1.8),
)

FACTORS: Final = tuple(chain.from_iterable((one, one.inverse) for one in _FACTORS))
AFFINE: Final = tuple(chain.from_iterable((one, one.inverse) for one in _AFFINE))


def of_ratio(ratio: float, tolerance: float, unit: str | None = None) -> list[Conversion]:
    """Known factors within `tolerance` (of the logarithm) of `ratio`: fixed ones first, then the nearest.

    Args:
        unit: what the column is declared to be in; conversions of it alone count where it has any.
    """
    if not 0 < ratio < math.inf:
        return []

    def apart(one: Conversion) -> float:
        return abs(math.log(ratio) - math.log(one.slope))

    found = (one for one in _from(unit, FACTORS) if apart(one) <= tolerance)
    return sorted(found, key=lambda one: (one.floating, apart(one)))


def affine(unit: str | None = None) -> tuple[Conversion, ...]:
    """Known conversions with an offset, of `unit` alone where it has any."""
    return _from(unit, AFFINE)


def named(found: list[Conversion]) -> str:
    """The likeliest, and another that is nearly as good a guess."""
    return " or ".join(one.label for one in found[:2])


def _from(unit: str | None, known: tuple[Conversion, ...]) -> tuple[Conversion, ...]:
    own = tuple(
        one for one in known if unit is not None and unit in (one.source, one.source.split(" ", 1)[-1])
    )
    return own or known
