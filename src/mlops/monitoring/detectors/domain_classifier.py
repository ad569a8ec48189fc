"""Domain classifier: can a model tell rows of the window from rows of the reference?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from mlops.monitoring.detectors.binned import Floats, Measured

MOST_ROWS = 2_000  # of each sample: enough to see an AUC of 0.53, and a second's work
MOST_CATEGORIES = 200  # of a column; what the trees can hold is 255
_FEWEST = 50  # rows of each


def domain_classifier(
    reference: Floats, window: Floats, categorical: NDArray[np.bool_], seed: int
) -> Measured:
    """2·AUC − 1 of boosted trees that tell `window` from `reference` on rows they were not fitted on, not below 0.

    `reference` and `window`, of the shape (rows, columns), hold numbers, NaN for nulls, and whole numbers for
    categories where `categorical`, (columns,), says so. At most 2,000 rows of each are drawn by `seed`. Sees what no
    column shows alone, such as a changed correlation. The two-sample test by classifier: Friedman 2003; Lopez-Paz &
    Oquab 2017; Rabanser et al. 2019. The trees are fitted on one half and judged on the other: there, without drift,
    the AUC has the variance (n+m+1)/(12·n·m) (Mann & Whitney 1947), which gives the one-sided p-value. An AUC over
    folds that are fitted on each other's rows varies more than that.

    >>> rows = np.random.default_rng(0).normal(size=(600, 2))
    >>> measured = domain_classifier(rows[:300], rows[300:] + 1.0, np.array([False, False]), seed=1)
    >>> measured.effect > 0.5, measured.p_value < 1e-6
    (True, True)
    """
    from scipy.stats import rankdata
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    draw = np.random.default_rng(seed)
    left, right = _sample(reference, draw), _sample(window, draw)
    if min(len(left), len(right)) < _FEWEST:
        return Measured(float("nan"), None, f"fewer than {_FEWEST} rows")
    rows = np.concatenate([left, right])
    rows[~np.isfinite(rows)] = np.nan
    for column in np.flatnonzero(categorical):
        rows[:, column] = _codes(rows[:, column])
    telling = [column for column in range(rows.shape[1]) if len(np.unique(rows[:, column])) > 1]
    if not telling:
        return Measured(0.0, 1.0, "all columns are constant")
    rows, categorical = rows[:, telling], categorical[telling]
    is_window = np.repeat([0, 1], [len(left), len(right)])
    test = np.concatenate([draw.permutation(np.arange(size) % 2) for size in (len(left), len(right))]) == 1
    model = HistGradientBoostingClassifier(
        max_iter=50,
        max_leaf_nodes=15,
        learning_rate=0.1,
        early_stopping=False,
        categorical_features=categorical,
        random_state=0,
    )
    with threadpool_limits(1, "openmp"):  # more threads cost more than they save on so few rows
        model.fit(rows[~test], is_window[~test])
        ranks = rankdata(model.predict_proba(rows[test])[:, 1])
    m = float(is_window[test].sum())
    n = float(test.sum()) - m
    area = (float(ranks[is_window[test] == 1].sum()) - m * (m + 1) / 2) / (n * m)
    p_value = float(ndtr((0.5 - area) / np.sqrt((n + m + 1) / (12 * n * m))))
    return Measured(max(0.0, 2 * area - 1), p_value, f"AUC {area:.3f}")


def _sample(rows: Floats, draw: np.random.Generator) -> Floats:
    if len(rows) <= MOST_ROWS:
        return np.array(rows, np.float64)
    return np.array(rows[np.sort(draw.choice(len(rows), MOST_ROWS, replace=False))], np.float64)


def _codes(values: Floats) -> Floats:
    """Categories as 0, 1, …: the most frequent apart, all others as one."""
    present = ~np.isnan(values)
    known, index, counts = np.unique(values[present], return_inverse=True, return_counts=True)
    rank = np.empty(len(known))
    rank[np.lexsort((known, -counts))] = np.arange(len(known))
    coded = np.full(len(values), np.nan)
    coded[present] = np.minimum(rank[index], MOST_CATEGORIES)
    return coded
