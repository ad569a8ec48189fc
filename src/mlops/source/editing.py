"""Edits of YAML files of which only the text that means the change differs: no line is laid out anew.

The text is read into nodes that know where they begin and end; a value is replaced in place, a new field
is put before the first one. Comments, quotes, flow style and line ends stay as they were written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mlops.errors import MlopsError


def set_suspend(path: Path, kind: str, name: str, suspended: bool) -> None:
    """Set `spec.suspend` of one resource in a file, or raise MlopsError and change nothing."""
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    edited = with_field(text, kind, name, "suspend", "true" if suspended else "false", where=str(path))
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        file.write(edited)
    partial.chmod(path.stat().st_mode)
    partial.replace(path)


def with_field(text: str, kind: str, name: str, field: str, value: str, *, where: str = "") -> str:
    """`text` with `spec.<field>` of one resource set to the YAML text `value`."""
    spec = _spec(text, kind, name)
    if spec is None:
        fix = "Edit the file by hand: an alias or an unusual layout keeps its spec from being found"
        raise MlopsError(f"{kind}/{name} has no spec of its own to edit", where=where, fix=fix)
    for key, node in spec.value:
        if key.value == field:
            return text[: node.start_mark.index] + value + text[node.end_mark.index :]
    if not spec.value:
        return text[: spec.start_mark.index] + f"{{{field}: {value}}}" + text[spec.end_mark.index :]
    first = spec.value[0][0].start_mark
    if spec.flow_style:
        return text[: first.index] + f"{field}: {value}, " + text[first.index :]
    newline = "\r\n" if "\r\n" in text else "\n"
    return text[: first.index] + f"{field}: {value}{newline}{' ' * first.column}" + text[first.index :]


def _spec(text: str, kind: str, name: str) -> Any:
    """The mapping node of a resource's spec; None if there is none, or it is shared by an alias."""
    for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
        fields = _fields(document)
        metadata = _fields(fields.get("metadata"))
        if getattr(fields.get("kind"), "value", None) != kind:
            continue
        if getattr(metadata.get("name"), "value", None) != name:
            continue
        spec = fields.get("spec")
        begins = document.start_mark.index
        if (
            isinstance(spec, yaml.MappingNode)
            and spec.start_mark.index >= begins
            and not _aliased(text, spec)
        ):
            return spec
    return None


def _aliased(text: str, spec: yaml.MappingNode) -> bool:
    """Whether the node carries an anchor, so that an edit would reach other places too."""
    return (
        text[: spec.start_mark.index + 1].rstrip("{ \r\n").rpartition(":")[2].lstrip().startswith(("&", "*"))
    )


def _fields(node: Any) -> dict[str, Any]:
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
