"""Settings of a Project as they hold on this machine: variables put in, relative places made absolute."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from mlops.errors import MlopsError
from mlops.resources import Project

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def substitute(text: str, project: Project, environ: Mapping[str, str]) -> str:
    """Replace `${VAR}` from the environment; only names in `Project.spec.variables` are looked up.

    Raises MlopsError, which never holds a value, for a name that is not allowed or not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in project.spec.variables:
            raise MlopsError(
                f"${{{name}}} is not in Project.spec.variables", fix=f"Add {name} to the list to allow it"
            )
        if not environ.get(name):  # CI systems set what they do not know to nothing
            how = "is empty" if name in environ else "is not set"
            raise MlopsError(
                f"the environment variable {name} {how}, and the Project needs it",
                fix=f"Export {name} and run again",
            )
        return environ[name]

    return _VARIABLE.sub(value, text)


def absolute_uri(uri: str, root: Path) -> str:
    """`sqlite:///relative` and plain relative paths stand on the project's root; anything else is kept.

    Raises MlopsError, which does not hold the value, for a relative path that leaves the project.
    """
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{_below(root, uri.removeprefix('sqlite:///'))}"
    if "://" not in uri and not uri.startswith(("file:", "databricks")):
        return str(_below(root, uri))
    return uri


def _below(root: Path, path: str) -> Path:
    place = Path(os.path.normpath(root / path))
    if not Path(path).is_absolute() and not place.is_relative_to(os.path.normpath(root)):
        raise MlopsError(
            "a relative path in spec.tracking or spec.state leaves the project",
            where="mlops.yaml",
            fix="Write a path below the project, or an absolute one",
        )
    return root / path
