"""JSON Schemas (2020-12) of the kinds, generated from the models.

`python -m mlops.resources.schema schemas/` writes them, `--check` only says whether they are up to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mlops.errors import MlopsError
from mlops.resources.kinds import MODELS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANY = "mlops"  # the schema of any kind is mlops.json


def schema(kind: str | None = None) -> dict[str, Any]:
    """The JSON Schema of a kind; of any kind if it is None."""
    if kind is not None:
        generated = MODELS[kind].model_json_schema(by_alias=True)
        return {"$schema": DIALECT, **_tidy(generated)}
    from pydantic.json_schema import models_json_schema

    _, generated = models_json_schema([(model, "validation") for model in MODELS.values()], by_alias=True)
    return {
        "$schema": DIALECT,
        "title": "mlops resource",
        "description": "Any document of an mlops project.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in MODELS],
        "$defs": _tidy(generated["$defs"]),
    }


def _tidy(node: Any, *, names: bool = False) -> Any:
    """Leave out the titles that only repeat the name of a field, and the defaults that are null.

    Args:
        node: a part of a schema.
        names: whether the keys of `node` are names of fields, not keywords.
    """
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy: dict[str, Any] = {}
    for key, value in node.items():
        if key == "title" and not names and "properties" not in node:
            continue
        if key in ("default", "examples", "enum", "const", "required") and not names:
            if value is not None:
                tidy[key] = value
            continue
        tidy[key] = _tidy(value, names=not names and key in ("properties", "$defs", "patternProperties"))
    return tidy


def texts() -> dict[str, str]:
    """The content of every schema file, by file name."""
    schemas = {ANY: schema(), **{kind.lower(): schema(kind) for kind in MODELS}}
    return {f"{name}.json": json.dumps(content, indent=2) + "\n" for name, content in schemas.items()}


def stale(folder: Path) -> list[str]:
    """Names of the schema files in `folder` that are not what the models say."""
    return [
        name
        for name, text in texts().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write the schemas into a folder, or check them."""
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    if len(folders) != 1:
        raise MlopsError("needs one folder", fix="Run python -m mlops.resources.schema schemas/ [--check].")
    old = stale(folders[0])
    if "--check" in arguments:
        if old:
            print(f"out of date: {', '.join(old)}. Run `make schemas`.", file=sys.stderr)
        return 1 if old else 0
    folders[0].mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        (folders[0] / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
