"""The nearest known name to a mistyped one, with a bound on how long it may look."""

from __future__ import annotations

from collections.abc import Collection

LONGEST = 80  # difflib is quadratic in the length of a word


class Nearest:
    """Suggests names. One object serves one load, so that 10,000 mistakes cannot make it slow.

    Args:
        budget: how many candidates may be compared in all; later questions get no suggestion.
    """

    def __init__(self, budget: int = 30_000) -> None:
        self._budget = budget

    def nearest(self, word: str, candidates: Collection[str]) -> str | None:
        """The candidate most like `word`, or None if none is near. Case and `_`/`-` do not count."""
        if len(word) > LONGEST or len(candidates) > self._budget:
            return None
        self._budget -= len(candidates)
        folded: dict[str, str] = {}
        for candidate in sorted(candidates):  # of two that are as near, always the same
            folded.setdefault(_fold(candidate), candidate)
        if _fold(word) in folded:
            return folded[_fold(word)]
        import difflib  # only on the way to an error message

        short = [text for text in folded if len(text) <= LONGEST]
        match = difflib.get_close_matches(_fold(word), short, n=1, cutoff=0.6)
        return folded[match[0]] if match else None


def _fold(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
