"""One redactor for everything that leaves the process: logs, errors, plans, comments, tags, events.

Two things are masked. *Known values*: those of the variables that the project names, and of variables whose
name says that they are secret, in every form in which programs repeat them (as they are, URL-encoded,
JSON- and HTML-escaped, in base64 at any alignment, line by line). *Known shapes*, whatever the environment
holds: credentials in URLs, `Authorization` headers, secret query parameters and connection string fields,
private keys in PEM, and the tokens of well-known services.

A value shorter than 6 bytes is not searched for: masking every `dev` or `1234` would destroy the output, and
tell the value by its gaps. `Redactor.too_short` names the variables, so that somebody can be told. In a URL
or a header such a value is masked by its shape. Time grows linearly with the text: values are found with
`bytes.find`, and every pattern is anchored at a literal that was found that way.
"""

from __future__ import annotations

from mlops.redaction.redactor import RedactingStream, Redactor
from mlops.redaction.spans import MASK

__all__ = ["MASK", "RedactingStream", "Redactor"]
