"""What was changed by hand, in words: what a heal found and what it restored."""

from __future__ import annotations

from typing import Any, Final

from mlops.planning.plan import UNKNOWN, Change

LONGEST: Final = 80  # characters of a value


def restored(change: Change) -> str:
    """What was found and what is there now: `alias dev was on v2, and is on v1 again`."""
    subject, found, wanted = _told(change)
    return f"{subject} was {found}, and is {wanted or 'computed'} again"


def deviation(change: Change) -> str:
    """What is found in the place of what git declares: `alias dev is on v2, not on v1`."""
    subject, found, wanted = _told(change)
    return f"{subject} is {found}, not {wanted}" if wanted is not None else f"{subject} is {found}"


def _told(change: Change) -> tuple[str, str, str | None]:
    """What it is about, what was found, and what belongs there; None where that is not known yet."""
    kind, _, name = change.field.partition(".")
    match kind:
        case "alias" if name:
            found, wanted = ("gone" if at is None else f"on v{at}" for at in (change.before, change.after))
            return f"alias {name}", found, wanted
        case "stay":
            return f"v{name}", "in the stage, too, by its record", "out of it"
        case "tags":
            return (
                f"tag {name}",
                _value(change.before),
                None if change.after == UNKNOWN else _value(change.after),
            )
        case _:
            return f"the {change.field}", _value(change.before), _value(change.after)


def _value(value: Any) -> str:
    if value is None:
        return "gone"
    text = str(value)
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}…") if text else "empty"
