"""Templates to text: every value is escaped, and every text made harmless, at one place."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from mlops.monitoring.reporting.wording import (
    DETECTORS,
    GLYPHS,
    MISSING,
    REASONS,
    TYPES,
    VERDICTS,
    chance,
    effect,
    number,
    percent,
    text,
)  # fmt: skip

if TYPE_CHECKING:
    from jinja2 import Environment


def rendered(template: str, **values: Any) -> str:
    """The template with these values. Deterministic; a value that is missing raises jinja2.UndefinedError."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "chance": chance, "effect": effect, "number": number, "percent": percent, "cut": text, "drawn": _drawn,
    }  # fmt: skip
    environment.globals |= {
        "GLYPHS": GLYPHS, "VERDICTS": VERDICTS, "TYPES": TYPES, "REASONS": REASONS, "DETECTORS": DETECTORS,
        "MISSING": MISSING,
    }  # fmt: skip
    return environment


def _harmless(value: object) -> object:
    """What an expression of a template gives: texts from anywhere without controls and not too long.

    Markup is left: it is what a macro made, of values that came through here.
    """
    if value is None:
        return MISSING
    return text(value) if type(value) is str else value


def _drawn(data: str) -> object:
    """Path data, which is long, and made of numbers by this package alone."""
    from markupsafe import Markup

    if not set(data) <= _PATH:
        raise ValueError("path data is made of numbers and commands")
    return Markup(data)


_PATH = frozenset("MLHVhvlZz0123456789 .,-e+")
