"""Text of other programs made fit to be shown: no credentials, no terminal control."""

from __future__ import annotations

import re
from collections.abc import Mapping

_CONTROL = re.compile(
    r"\x1b\[[0-9;?]{0,40}[ -/]{0,4}[@-~]|\x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)|\x1b[@-_]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def without_control(text: str) -> str:
    """The text without ANSI escapes and control characters; line ends and tabs stay."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def fit_to_show(text: str, environ: Mapping[str, str] | None = None) -> str:
    """Without control characters, and without what looks like a secret or is one of these variables'."""
    from mlops.redaction import Redactor

    return Redactor.from_environ(environ or {}).redact(without_control(text))
