"""A category that the reference never had."""

from __future__ import annotations

from mlops.monitoring.checks.pairs import Pair
from mlops.monitoring.checks.significance import more_than
from mlops.monitoring.checks.upstream.findings import Finding
from mlops.monitoring.summaries.categorical import CategoricalSummary

THRESHOLD = 0.005
_NAMED = 3


def new_category(pair: Pair, threshold: float = THRESHOLD) -> Finding | None:
    """The share of the most frequent category that the reference does not have; a change from `threshold` on.

    Where the reference has too many categories to know them all, those it counted among its own unknown ones are not
    new. None for columns that are not categories.
    """
    reference, window = pair.reference, pair.window
    if not isinstance(reference, CategoricalSummary) or not isinstance(window, CategoricalSummary):
        return None
    if not reference.values or not window.values:
        return None
    enough = threshold * window.values
    unknown = dict(zip(reference.unseen.names, reference.unseen.counts.tolist(), strict=True))
    # A category without a name may be any of the reference's nameless ones.
    nameless = 0 if reference.unseen.spilled is None else int(reference.unseen.spilled.max())
    new = [
        (name, rows)
        for name, rows in window.unseen.heavy(min(1.0, enough))
        if (nameless if name is None else unknown.get(name, 0)) * window.values < rows * reference.values / 10
    ]
    if not new:
        return Finding(pair.column, pair.slice, "newCategory", 0.0, threshold, False, 1.0)
    share = new[0][1] / window.values
    changed = share >= threshold
    told = [f"{_shown(name)} ({rows / window.values:.1%})" for name, rows in new if rows >= enough]
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return Finding(
        pair.column,
        pair.slice,
        "newCategory",
        share,
        threshold,
        changed,
        more_than(share, window.values, 0.0, reference.values),
        f"new: {', '.join(told[:_NAMED])}{more}" if changed else None,
    )


def _shown(name: str | None) -> str:
    return "one without a name" if name is None else repr(name[:40])
