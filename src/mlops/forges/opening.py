"""The forge that a project names, with the token of the environment."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from mlops.errors import MlopsError
from mlops.forges.azure_devops import API, AzureDevOps
from mlops.forges.forge import Answers, Forge, ForgeRefused
from mlops.forges.github import HEADERS, GitHub
from mlops.forges.http import Client
from mlops.redaction import Redactor
from mlops.resources.project import Forge as ForgeSpec

PUBLIC: Final = "https://api.github.com"
GITHUB_TOKEN: Final = "GITHUB_TOKEN"
GITHUB_URL: Final = "GITHUB_API_URL"  # GitHub Actions sets it, on GitHub Enterprise to that server
AZURE_TOKEN: Final = "AZURE_DEVOPS_TOKEN"
AZURE_URL: Final = "SYSTEM_COLLECTIONURI"  # Azure Pipelines sets it


def forge_of(
    spec: ForgeSpec | None,
    *,
    environment: Mapping[str, str],
    answers: Answers,
    now: Callable[[], float],
) -> Forge | None:
    """The forge that `Project.spec.forge` names, None without one. Asks nothing yet.

    A repository must not decide where a token goes: it is the public host's, or, if the environment names
    another (GITHUB_API_URL, SYSTEM_COLLECTIONURI), that one's. One object serves a whole process, as it knows until
    when the forge takes no requests.

    Args:
        environment: holds the token, and where it belongs.
        answers: keeps what was answered.
        now: seconds since 1970.

    Raises:
        ForgeRefused: the token belongs to another host than the one that the project names, or cannot be one.
    """
    if spec is None:
        return None
    redactor = Redactor.from_environ(environment, (GITHUB_TOKEN, AZURE_TOKEN))
    if (github := spec.github) is not None:
        token = _token(environment, GITHUB_TOKEN, GITHUB_URL, PUBLIC, github.url)
        client = Client(
            base=github.url.rstrip("/"),
            authorization=f"Bearer {token}" if token else None,
            variable=GITHUB_TOKEN,
            rights=f"read and write pull requests and statuses of {github.repository}",
            answers=answers,
            redactor=redactor,
            now=now,
            headers=HEADERS,
        )
        return GitHub(client, github.repository)
    azure = spec.azure_dev_ops
    assert azure is not None  # exactly one of the two is declared
    token = _token(environment, AZURE_TOKEN, AZURE_URL, "https://dev.azure.com", azure.url)
    client = Client(
        base=f"{azure.url.rstrip('/')}/{quote(azure.organization)}/{quote(azure.project)}",
        authorization=f"Basic {base64.b64encode(f':{token}'.encode()).decode()}" if token else None,
        variable=AZURE_TOKEN,
        rights=f"read code, and contribute to pull requests and statuses, of {azure.repository}",
        answers=answers,
        redactor=redactor,
        now=now,
        query={"api-version": API},
    )
    return AzureDevOps(client, azure.repository)


def forge_here(spec: ForgeSpec | None, environment: Mapping[str, str]) -> ForgeSpec:
    """The repository whose workflow this runs in, whatever its files say; elsewhere the forge that a Project names.

    Raises:
        MlopsError: there is neither.
    """
    repository = environment.get("GITHUB_REPOSITORY", "").strip()
    if repository:
        url = environment.get(GITHUB_URL, "").strip() or PUBLIC
        return ForgeSpec.model_validate({"github": {"repository": repository, "url": url}})
    if spec is None:
        raise MlopsError(
            "there is no forge to talk to",
            where="Project.spec.forge",
            fix="Name one, or set GITHUB_REPOSITORY.",
        )
    return spec


def missing_token(spec: ForgeSpec, environment: Mapping[str, str]) -> str | None:
    """The variable that would hold the forge's token, where it is not set: nothing can be changed there."""
    variable = GITHUB_TOKEN if spec.github is not None else AZURE_TOKEN
    return None if environment.get(variable, "").strip() else variable


def _token(environment: Mapping[str, str], variable: str, home: str, public: str, url: str) -> str:
    token = environment.get(variable, "").strip()
    if not token:
        return ""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ForgeRefused(
            "it holds characters that no token has", where=variable, fix="Set it again, on one line."
        )
    belongs = environment.get(home, "").strip() or public
    if _origin(belongs) != _origin(url):
        raise ForgeRefused(
            f"the token in {variable} is for {_origin(belongs)}, and is not sent to {_origin(url)}",
            where="Project.spec.forge",
            fix=f"If it is meant for that host, set {home}={url}",
        )
    return token


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "an address that is none"
    default = {"https": 443, "http": 80}.get(parts.scheme)
    shown = "" if port in (None, default) else f":{port}"
    return f"{parts.scheme}://{(parts.hostname or '').lower()}{shown}"
