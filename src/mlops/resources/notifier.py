"""Notifier: who is told."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from mlops.resources.document import Document, Spec, refuse
from mlops.resources.places import variables_in

Severity = Literal["info", "warning", "critical"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://\S+")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]{0,127}\}")


def _notifier_url(text: str) -> str:
    if "${" in text and len(_VARIABLE.findall(text)) != text.count("${"):
        raise refuse("holds a ${…} that names no variable", "Write ${NAME}: letters, digits and _.")
    if _CONTROL.search(text):
        raise refuse("holds a blank or a control character", "Percent-encode it.")
    if not text.startswith("${") and not _URL.fullmatch(text):
        raise refuse(
            "has no scheme", "Write an Apprise URL such as slack://…, mailto://… or ${TEAM_WEBHOOK}."
        )
    return text


NotifierUrl = Annotated[str, StringConstraints(min_length=1, max_length=2048), AfterValidator(_notifier_url)]


class NotifierSpec(Spec):
    """What a Notifier declares."""

    urls: tuple[NotifierUrl, ...] = Field(
        min_length=1,
        max_length=20,
        description="Where messages go: Apprise URLs for Slack, Teams, e-mail, a webhook and many more. `${VAR}` is "
        "replaced (see Project `variables`), so that no secret stands here.",
        examples=[["${TEAM_WEBHOOK}"]],
    )
    min_severity: Severity = Field(
        default="info",
        description="What is less severe is not sent: `info` (default), `warning` or `critical`.",
    )


class Notifier(Document):
    """Who is told when something happens."""

    kind: Literal["Notifier"] = Field(description="`Notifier`.")
    spec: NotifierSpec = Field(description="What it is.")

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that its URLs are made of."""
        return tuple(dict.fromkeys(name for url in self.spec.urls for name in variables_in(url)))
