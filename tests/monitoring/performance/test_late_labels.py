"""A week of predictions whose labels come days later, in pieces: what is told of a window meanwhile and in the end."""

import numpy as np
from drawn import BINARY, chance, drawn

from mlops.monitoring.performance.concept_drift import (
    chunks_of,
    concept_drift,
    estimated_drift,
    meanwhile,
    sums_of,
)
from mlops.monitoring.performance.estimates import cbpe
from mlops.monitoring.performance.metrics import METRICS
from mlops.monitoring.performance.rows import (
    Joined,
    LabelRows,
    PredictionRows,
    joined,
    labels_are_due,
    latest_labels,
)
from mlops.monitoring.verdicts import CheckVerdict

DAY = 86_400_000_000
ROC = METRICS["rocAuc"]


class Watched:
    """A reference, a window of one day of 2,000 rows in which the relation has flipped, and its labels."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        past = drawn(rng, 10_000)
        chances = cbpe.out_of_fold(BINARY, past.rows.ids, past.rows.scores, past.targets)
        calibration = cbpe.calibrated(BINARY, past.rows.scores, past.targets)
        assert chances is not None
        assert calibration is not None
        self.calibration = calibration
        self.labelled = [sums_of(BINARY, chunk)[None] for chunk in chunks_of(past, 2000)]
        parts = np.array_split(np.arange(10_000), 5)
        self.expected = [self._expected(past.rows.take(part), chances[part]) for part in parts]
        self.window = drawn(rng, 2000, truth=lambda x: chance(-x))
        order = rng.permutation(2000)
        self.pieces = [
            (k, LabelRows(self.window.rows.ids[part], self.window.targets[part]))
            for k, part in enumerate(np.split(order, [600, 1200, 1800]))
        ]

    def check(self, files: list[tuple[int, LabelRows]], days: float, *, stored: bool = False) -> CheckVerdict:
        """The verdict when these label files are here and event time is `days` after the window's end."""
        predictions = self.window.rows
        if stored:
            predictions = PredictionRows.decode(predictions.encode())
            files = [(k, LabelRows.decode(rows.encode())) for k, rows in files]
        found = joined([(0, predictions)], latest_labels(files), 0)
        due = labels_are_due(2000, found.labelled, end=DAY, watermark=(1 + days) * DAY, max_delay=30 * DAY)
        labels = concept_drift(
            "concept",
            "y",
            ROC,
            max_drop=0.03,
            min_rows=500,
            window=sums_of(BINARY, found),
            reference={None: self.labelled},
            predicted=len(found.targets),
            due=due,
        )
        window = self._expected(found.rows, self.calibration.chances(found.rows.scores))
        estimate = estimated_drift(
            "concept",
            "y",
            ROC,
            "cbpe",
            max_drop=0.03,
            min_rows=500,
            window={None: window},
            reference={None: self.expected},
        )
        return meanwhile(labels, estimate)

    @staticmethod
    def _expected(rows: PredictionRows, chances: np.ndarray) -> object:
        return cbpe.expected(BINARY, rows.predictions, rows.scores, chances)


def test_a_window_is_estimated_until_its_labels_are_due_and_then_judged_on_them() -> None:
    watched = Watched()
    for here in (0, 1, 2):
        told = watched.check(watched.pieces[:here], days=5)
        assert (told.verdict, told.estimate) == ("insufficient", True)
        assert told.columns[0].note == f"labels of {600 * here} of 2000 rows are here: more are waited for"
        assert [column.detector for column in told.columns] == ["rocAuc", "cbpe"]
    enough = watched.check(watched.pieces[:3], days=5)  # 90 %
    assert (enough.verdict, enough.estimate) == ("violated", False)
    late = watched.check(watched.pieces[:1], days=30)  # no more will come
    assert (late.verdict, late.estimate) == ("violated", False)
    never = watched.check([], days=30)
    assert (never.verdict, never.estimate) == ("insufficient", True)
    assert never.columns[0].note == "no labelled rows"


def test_labels_in_any_order_of_files_with_kills_between_give_the_same_verdict() -> None:
    watched = Watched()
    whole = watched.check(watched.pieces, days=5)
    assert watched.check(watched.pieces[::-1], days=5) == whole
    assert watched.check(watched.pieces, days=5, stored=True) == whole
    twice = [*watched.pieces, (9, watched.pieces[0][1])]
    assert watched.check(twice, days=5) == whole


def test_labels_put_right_later_change_the_verdict() -> None:
    watched = Watched()
    right = LabelRows(watched.window.rows.ids, 1 - watched.window.targets)
    assert watched.check(watched.pieces, days=5).verdict == "violated"
    assert watched.check([*watched.pieces, (9, right)], days=5).verdict == "quiet"
    assert watched.check([(9, right), *watched.pieces], days=5).verdict == "quiet"


def test_labels_of_rows_that_were_never_predicted_change_nothing() -> None:
    watched = Watched()
    strangers = LabelRows(np.arange(500, dtype=np.uint64), np.ones(500))
    whole = watched.check(watched.pieces, days=5)
    assert watched.check([*watched.pieces, (9, strangers)], days=5) == whole


def test_an_empty_window_has_no_data() -> None:
    watched = Watched()
    watched.window = Joined(watched.window.rows.take(np.zeros(0, np.int64)), np.zeros(0))
    assert watched.check(watched.pieces, days=5).verdict == "noData"
