"""Paths, globs and URIs in documents, and the `${VARIABLE}` references in them.

A path is relative to the project root and may not leave it. That is decided on the text alone, segment by
segment, so that no `..`, no absolute path and no look-alike prefix gets as far as a file system.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints, WithJsonSchema

from mlops.resources.document import refuse

DATA_SCHEMES = ("file", "s3", "gs", "abfss", "az")
TRACKING_SCHEMES = (
    *("sqlite", "postgresql", "mysql", "mssql", "http", "https", "file"),
    *("databricks", "databricks-uc", "uc"),
)
ARTIFACT_SCHEMES = (*DATA_SCHEMES, "wasbs", "dbfs", "hdfs", "mlflow-artifacts")
STATE_SCHEMES = ("sqlite", "postgresql")
MAX_GLOB_WILDCARDS = 12

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VARIABLE = re.compile(r"\$\{([^{}]*)(\}?)")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_REGION = "Paths are relative to the folder of mlops.yaml and stay inside it."


def check_relative(text: str) -> str:
    """Refuse a path that is absolute or could leave the project root; returns it unchanged."""
    if not text or text != text.strip():
        raise refuse("is empty or has blanks around it", "Name a file or folder below the project root.")
    if text.startswith(("/", "~")) or _SCHEME.match(text):
        raise refuse("is not a relative path", _REGION)
    if "\\" in text or _CONTROL.search(text):
        raise refuse("holds a backslash or a control character", "Separate folders with /.")
    if ".." in text and ".." in text.split("/"):
        raise refuse('leaves its folder by ".."', _REGION)
    return text


def normal_path(text: str) -> str:
    """A relative path without `./`, `//` and a trailing `/`; the root itself is `.`."""
    check_relative(text)
    if text[-1] == "/" or "/./" in f"/{text}/" or "//" in text:
        return "/".join(part for part in text.split("/") if part not in ("", ".")) or "."
    return text


def check_glob(text: str) -> str:
    """Refuse a pattern that leaves the root or has so many wildcards that matching could take long."""
    check_relative(text)
    if len(re.findall(r"\*+|\?|\[", text)) > MAX_GLOB_WILDCARDS:
        raise refuse(
            f"has more than {MAX_GLOB_WILDCARDS} wildcards", "Split it into several simpler patterns."
        )
    return text


def variables_in(text: str) -> tuple[str, ...]:
    """Names of the `${VARIABLE}` references in a URI or setting."""
    return tuple(match[1] for match in _VARIABLE.finditer(text)) if "${" in text else ()


def check_uri(text: str, schemes: tuple[str, ...], *, local: bool = True) -> str:
    """Refuse a URI whose scheme is not in `schemes`, or a relative path (if `local`) that leaves the root."""
    for variable in _VARIABLE.finditer(text):
        if not variable[2] or not _VARIABLE_NAME.fullmatch(variable[1]):
            raise refuse("holds a ${…} that names no variable", "Write ${NAME}: letters, digits and _.")
    if "::" in text:
        raise refuse("chains file systems with ::", f"Use one scheme of {', '.join(schemes)}.")
    if text.startswith("${"):
        return text  # what it stands for is known to the reconciler only
    if not (match := _SCHEME.match(text)):
        if not local:
            raise refuse("has no scheme", f"Use one of {', '.join(f'{scheme}:' for scheme in schemes)}.")
        return check_glob(text)
    # "postgresql+psycopg" and the like name a dialect and its driver
    if match[1].partition("+")[0] not in schemes:
        allowed = ("a relative path", *schemes) if local else schemes
        raise refuse("has a scheme that is not allowed", f"Use one of {', '.join(allowed)}.")
    if _CONTROL.search(text) or " " in text.partition("?")[0].partition("://")[2].partition("/")[0]:
        raise refuse("holds a blank or a control character", "Percent-encode it.")
    if match[1] == "file" and not text.startswith(("file:///", "file://localhost/")):
        raise refuse(
            "is not an absolute file URI", "Write file:/// and the absolute path, or a relative path."
        )
    return text


def _data_uri(text: str) -> str:
    return check_uri(text, DATA_SCHEMES)


def _tracking_uri(text: str) -> str:
    return text if text in ("databricks", "databricks-uc", "uc") else check_uri(text, TRACKING_SCHEMES)


def _artifact_uri(text: str) -> str:
    return check_uri(text, ARTIFACT_SCHEMES)


def _state_uri(text: str) -> str:
    check_uri(text, STATE_SCHEMES, local=False)
    if text.startswith("sqlite") and not re.match(r"sqlite:///[^?]", text):
        raise refuse("names no file", "Write sqlite:/// and a path, such as sqlite:///.mlops/state.db.")
    return text


def _forge_url(text: str) -> str:
    if not re.match(r"https://[^/@\s]+|http://(localhost|127\.0\.0\.1|\[::1\])([:/]|$)", text):
        raise refuse(
            "is not an https URL", "Write https:// and a host, without a user; tokens are never in a URL."
        )
    return text


# What an editor can check; the rest is checked when the document is loaded.
_RELATIVE = {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": r"^(?!/|~|\.\./|\.\.$)[^\\]+$"}

_Short = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
RelativePath = Annotated[_Short, AfterValidator(normal_path), WithJsonSchema(_RELATIVE)]
Glob = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256),
    AfterValidator(check_glob),
    WithJsonSchema({**_RELATIVE, "maxLength": 256}),
]
DataUri = Annotated[_Short, AfterValidator(_data_uri)]
TrackingUri = Annotated[_Short, AfterValidator(_tracking_uri)]
ArtifactUri = Annotated[_Short, AfterValidator(_artifact_uri)]
StateUri = Annotated[_Short, AfterValidator(_state_uri)]
ForgeUrl = Annotated[_Short, AfterValidator(_forge_url)]
