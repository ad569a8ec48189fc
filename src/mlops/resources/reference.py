"""Reference pages of the kinds: `python -m mlops.resources.reference docs/reference [--check]`.

Field, type, default and meaning come from the models, so that a page cannot say what the loader does not do.
The example of a kind is `examples/mlops.yaml` or `examples/resources/<kind>.yaml` in the same folder;
together they are one project that loads.
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from mlops.errors import MlopsError
from mlops.resources.document import NAME_PATTERN
from mlops.resources.kinds import MODELS
from mlops.resources.quantities import DURATION_PATTERN, SIZE_PATTERN

# Fields that are read and checked, but that nothing acts on yet: what happens where one is given.
NOT_YET: Final[Mapping[str, Mapping[str, str]]] = {
    "Project": {
        "spec.source.verify": "Signatures are not checked.",
        "spec.groups": "Approvals are not read, so stages that ask for one stay closed.",
        "spec.approvers": "As for `groups`.",
    },
    "Experiment": {
        "spec.executor": "`local` is built in; `ray` is not there, and blocks with `ExecutorMissing`.",
        "spec.resources.cpu": "The local executor does not limit processors; it does limit `memory`.",
    },
    "Stage": {
        "spec.approvals": "No approval can be checked, so a stage that asks for one blocks every promotion.",
    },
}

_WRITE: Final = "python -m mlops.resources.reference docs/reference"
_GENERATED: Final = f"<!-- Written by `{_WRITE}` from the models; do not edit. -->"
_SCALARS: Final = frozenset(("string", "boolean", "integer", "number"))
_TYPES: Final = {"string": "text", "boolean": "`true` or `false`", "null": "nothing"}
_FORMS: Final = {NAME_PATTERN: "name", DURATION_PATTERN: "duration", SIZE_PATTERN: "size"}
_ABSENT: Final = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One field: its path as people write it, its type, its default and what it means."""

    path: str
    type: str
    default: str
    meaning: str


def rows(kind: str) -> tuple[Row, ...]:
    """Every field of a kind, outer ones before those inside them; raises KeyError for an unknown kind."""
    model = MODELS[kind]
    schema = _schema(model)
    return tuple(_fields(model, schema, schema["$defs"], ""))


def page(kind: str, example: str) -> str:
    """The page of a kind, in Markdown.

    Args:
        kind: such as `Dataset`.
        example: a YAML document of that kind.
    """
    found = rows(kind)
    shown = [line for line in example.strip().splitlines() if not line.startswith("# yaml-language-server:")]
    lines = [f"# {kind}", "", _GENERATED, "", _sentence(MODELS[kind].__doc__ or ""), ""]
    lines += ["```yaml", *shown, "```", "", "## Fields", ""]
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{row.path}` | {row.type} | {row.default} | {row.meaning} |" for row in found]
    notes = NOT_YET.get(kind, {})
    if notes:
        lines += ["", "## Read, but not acted on yet", "", "| field | today |", "|---|---|"]
        lines += [f"| `{path}` | {today} |" for path, today in notes.items()]
    lines += ["", "How values are written, and what all kinds share: [resources](README.md).", ""]
    return "\n".join(lines)


def pages(folder: Path) -> dict[Path, str]:
    """Every page below `folder`, by its path; examples are read from `folder/examples`."""
    made = {}
    for kind in MODELS:
        examples = folder / "examples"
        path = (
            examples / "mlops.yaml" if kind == "Project" else examples / "resources" / f"{kind.lower()}.yaml"
        )
        try:
            example = path.read_text("utf-8")
        except OSError as error:
            raise MlopsError(
                f"the example of {kind} cannot be read: {error.strerror}", where=str(path)
            ) from error
        made[folder / f"{kind.lower()}.md"] = page(kind, example)
    return made


def stale(folder: Path) -> tuple[Path, ...]:
    """The pages below `folder` that are missing or not as the models say."""
    return tuple(
        path for path, text in pages(folder).items() if not path.is_file() or path.read_text("utf-8") != text
    )


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, schema_generator=_WithoutDefaults)
    return {"$defs": {}, **schema}


class _WithoutDefaults(GenerateJsonSchema):
    """Types only: defaults are taken from the models, where they are values and not yet JSON."""

    def default_schema(self, schema: Any) -> Any:
        return self.generate_inner(schema["schema"])


def _fields(
    model: type[BaseModel],
    schema: Mapping[str, Any],
    defs: Mapping[str, Any],
    prefix: str,
    *,
    choice: bool = False,
) -> Iterator[Row]:
    """The rows of a section; with `choice` it is one of several, told apart by their field."""
    for name, field in model.model_fields.items():
        alias = field.alias or name
        path = f"{prefix}{alias}"
        inner = schema["properties"][alias]
        default = "one of these" if choice else _default(field)
        yield Row(path, _cell(_type(inner, defs)), default, _sentence(field.description or ""))
        sections = tuple(_sections(inner, defs))
        for suffix, section in sections:
            target = next(m for m in _models_in(field.annotation) if m.__name__ == section)
            kind = defs[section]["properties"].get("type", {}).get("const")
            several = kind is None and (len(sections) > 1 or "oneOf" in defs[section])
            shown = suffix if kind is None else f"[{kind}]"  # one of a list, told apart by its type
            yield from _fields(target, defs[section], defs, f"{path}{shown}.", choice=several)


def _sections(
    schema: Mapping[str, Any], defs: Mapping[str, Any], suffix: str = ""
) -> Iterator[tuple[str, str]]:
    """Sections that a value may hold: how to get there from its path, and the name of the section."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        if "properties" in defs[name]:
            yield suffix, name
        else:
            yield from _sections(defs[name], defs, suffix)
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _sections(choice, defs, suffix)
    if isinstance(schema.get("items"), dict):
        yield from _sections(schema["items"], defs, f"{suffix}[]")
    for value in _values(schema):
        yield from _sections(value, defs, f"{suffix}.<name>")


def _values(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The schemas of the values of a mapping with free names."""
    others = schema.get("additionalProperties")
    return (*((others,) if isinstance(others, dict) else ()), *schema.get("patternProperties", {}).values())


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _type(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """What may stand there, in a few words."""
    if "$ref" in schema:
        target = defs[str(schema["$ref"]).rpartition("/")[2]]
        return "mapping" if "properties" in target else _type(target, defs)
    if "const" in schema or "enum" in schema:
        return " or ".join(
            f"`{json.dumps(c).strip(chr(34))}`" for c in schema.get("enum") or [schema["const"]]
        )
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if choices and {c.get("type") for c in choices} >= _SCALARS:
        return "value"
    if choices:
        texts = dict.fromkeys(_type(c, defs) for c in choices if c.get("type") != "null")
        return " or ".join(texts)
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"list `[{', '.join(['a', 'b', 'c'][: len(schema['prefixItems'])])}]`"
        case "array":
            return f"list of {_plural(_type(schema.get('items', {}), defs))}"
        case "object" if _values(schema):
            return " or ".join(f"mapping of names to {_plural(_type(v, defs))}" for v in _values(schema))
        case "object":
            return "mapping"
        case "integer" | "number" as kind:
            return ("whole number" if kind == "integer" else "number") + _bounds(schema)
        case str(kind):
            return _FORMS.get(schema.get("pattern", ""), _TYPES.get(kind, kind))
        case _:
            return "any value"


def _bounds(schema: Mapping[str, Any]) -> str:
    words = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    )
    return "".join(f", {word} {schema[key]}" for key, word in words if key in schema)


def _plural(text: str) -> str:
    """`name` → `names`; of alternatives, each."""
    singular = ("name", "text", "value", "mapping", "number", "whole number", "duration", "size")
    return " or ".join(f"{part}s" if part in singular else part for part in text.split(" or "))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel) or value in ((), {}):
        return _ABSENT
    annotated: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    plain = TypeAdapter(annotated).dump_python(value, mode="json", by_alias=True)
    return f"`{plain if isinstance(plain, str) else json.dumps(plain)}`"


def _sentence(text: str) -> str:
    return _cell(" ".join(text.split()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` say which are not as they would be written."""
    folders = [argument for argument in arguments if argument != "--check"]
    if len(folders) != 1:
        print("usage: python -m mlops.resources.reference FOLDER [--check]", file=sys.stderr)
        return 64
    folder = Path(folders[0])
    if "--check" in arguments:
        for path in (old := stale(folder)):
            print(f"{path} is not as the models say; run {_WRITE}", file=sys.stderr)
        return 1 if old else 0
    for path, text in pages(folder).items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
