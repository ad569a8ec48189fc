"""What is measured on rows, not on counts: alibi-detect's detectors, asked together so that one child answers all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mlops.errors import MlopsError
from mlops.monitoring.alibi.catalogue import AlibiDetector
from mlops.monitoring.alibi.requests import Request, of_all, of_column
from mlops.monitoring.detectors.binned import Measured
from mlops.monitoring.samples import RowSample

ALL_COLUMNS = "*"

Told = Measured | MlopsError | str
"""A measure, a failure, or why it cannot be measured."""

Measure = Callable[[Sequence[Request]], Sequence[Measured | MlopsError]]


def asked(
    wanted: Mapping[str, AlibiDetector], rows: RowSample | None, measure: Measure | None, measures: int
) -> dict[str, Told]:
    """What each detector says of its column, or of all columns under `*`.

    Args:
        wanted: by column; `*` for all at once.
        rows: of reference and window.
        measure: `Worker.measure`.
        measures: how many p-values are corrected together.
    """
    if not wanted:
        return {}
    if rows is None or measure is None:
        return dict.fromkeys(wanted, "there are no rows to compare")
    found: dict[str, Told] = {}
    requests: dict[str, Request] = {}
    for name, detector in wanted.items():
        if bool(detector.kinds) is (name == ALL_COLUMNS):
            asks: Request | str = (
                "it compares one column"
                if name == ALL_COLUMNS
                else "this detector compares all columns at once"
            )
        elif name == ALL_COLUMNS:
            asks = of_all(detector, rows, measures)
        elif name in rows.columns:
            asks = of_column(detector, rows, rows.columns.index(name))
        else:
            asks = "there are no rows to compare"
        if isinstance(asks, str):
            found[name] = asks
        else:
            requests[name] = asks
    answers = measure(list(requests.values())) if requests else []
    return {**found, **dict(zip(requests, answers, strict=True))}
