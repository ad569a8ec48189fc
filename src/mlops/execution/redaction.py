"""Text of other programs made fit to be shown: no credentials, no terminal control."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,30}://)[^/\s@'\"]{1,1000}@")
_QUERY = re.compile(
    r"([?&](?:[a-z0-9_\-]{0,40}(?:token|secret|password|passwd|signature|api_?key|credential)|sig|key)=)"
    r"[^&\s'\"]{1,4000}",
    re.IGNORECASE,
)
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]{0,40}[ -/]{0,4}[@-~]|\x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)|\x1b[@-_]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def without_control(text: str) -> str:
    """The text without ANSI escapes and control characters; line ends and tabs stay."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def without_credentials(text: str) -> str:
    """The text with user and password of each URL, and what looks like a token in its query, replaced."""
    return _QUERY.sub(r"\1***", _USERINFO.sub(r"\1***@", text))


def fit_to_show(text: str) -> str:
    """Both of the above."""
    return without_credentials(without_control(text))
