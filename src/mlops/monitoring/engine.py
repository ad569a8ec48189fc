"""Versions of what judges: they are part of every key, so that what another one said is said anew.

Raise `ENGINE` with every change after which the same rows, by the same policy, may come to another evaluation: another
verdict, value, p-value, note or field. Closed windows are then judged again at the next pass from kept summaries: no
file is read, and nothing that was done for a firing is done twice. Raise `SUMMED` as well where summaries hold
something else than before: then every file and every reference is read again.
"""

from __future__ import annotations

from typing import Final

# 2: chance in `wasserstein`, no power of calibrated thresholds, the metric of `conceptDrift`, dependent rows.
ENGINE: Final = 2
SUMMED: Final = 1
