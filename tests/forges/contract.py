"""Requests and answers held against a published description of an API (see openapi/)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from jsonschema import Draft4Validator


@dataclass(frozen=True)
class Operation:
    """One operation, its parameters, and where its schemas stand."""

    path: str
    definition: dict[str, Any]
    parameters: list[dict[str, Any]]
    document: dict[str, Any]

    def broken_by_request(self, query: str, body: Any) -> list[str]:
        """What a request does that the description does not allow."""
        faults = []
        known = {one["name"]: one for one in self.parameters if one["in"] == "query"}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in known:
                faults.append(f"no parameter {name}")
                continue
            schema = known[name].get("schema") or known[name]
            given = int(value) if schema.get("type") == "integer" and value.isdigit() else value
            faults += self._faults(
                given, {k: schema[k] for k in ("type", "enum", "minimum", "maximum") if k in schema}
            )
        given_names = {name for name, _ in parse_qsl(query)}
        faults += [
            f"{name} is missing"
            for name, one in known.items()
            if one.get("required") and name not in given_names
        ]
        schema = self._body_schema()
        if (schema is None) != (body is None):
            faults.append("a body where there is none" if schema is None else "no body")
        elif schema is not None:
            faults += self._faults(body, schema)
            known_fields = self._fields(schema)
            if known_fields is not None and isinstance(body, dict):
                faults += [f"no field {name}" for name in body if name not in known_fields]
        return faults

    def broken_by_answer(self, status: int, body: Any) -> list[str]:
        """What an answer is that the description does not allow; errors of any kind may come at any time."""
        responses = self.definition["responses"]
        if str(status) not in responses:
            return [] if status >= 300 else [f"no status {status}"]
        response = self._resolved(responses[str(status)])
        content = response.get("content", {}).get("application/json", response)
        schema = content.get("schema")
        if schema is None or status >= 400 or status == 304:
            return []
        # The Azure description leaves the envelope of a list out.
        if schema.get("type") == "array" and isinstance(body, dict) and body.keys() == {"count", "value"}:
            body = body["value"]
        return self._faults(body, schema)

    def _body_schema(self) -> dict[str, Any] | None:
        if "requestBody" in self.definition:
            content = self._resolved(self.definition["requestBody"])["content"]
            return content["application/json"]["schema"]  # type: ignore[no-any-return]
        return next((one["schema"] for one in self.parameters if one["in"] == "body"), None)

    def _fields(self, schema: dict[str, Any]) -> set[str] | None:
        schema = self._resolved(schema)
        fields = set(schema.get("properties", {}))
        for part in schema.get("allOf", ()):
            fields |= self._fields(part) or set()
        return fields or None

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            keys = node["$ref"].removeprefix("#/").split("/")
            node = self.document
            for key in keys:
                node = node[key]
        return node

    def _faults(self, value: Any, schema: dict[str, Any]) -> list[str]:
        roots = ("components", "definitions", "parameters")
        whole = {**schema, **{root: self.document[root] for root in roots if root in self.document}}
        found = Draft4Validator(whole).iter_errors(value)
        return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in found]


class Contract:
    """A description of an API."""

    def __init__(self, name: str) -> None:
        text = (Path(__file__).parent / "openapi" / f"{name}.json").read_text()
        self.document = _nullable(json.loads(text))
        self._paths = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)), re.IGNORECASE), path)
            for path in self.document["paths"]
        ]

    def operation(self, method: str, url: str) -> Operation | None:
        """The operation of a request, None if there is none."""
        path = urlsplit(url).path
        for pattern, name in self._paths:
            item = self.document["paths"][name]
            if pattern.fullmatch(path) and method.lower() in item:
                definition = item[method.lower()]
                found = Operation(name, definition, [], self.document)
                parameters = [
                    found._resolved(p) for p in definition.get("parameters", ()) + item.get("parameters", [])
                ]
                return Operation(name, definition, parameters, self.document)
        return None


def _nullable(node: Any) -> Any:
    """OpenAPI 3.0's `nullable` in the words of JSON Schema."""
    if isinstance(node, list):
        return [_nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _nullable(value) for key, value in node.items()}
    if node.pop("nullable", None) is not True:
        return node
    return {"anyOf": [{"type": "null"}, node]}


def sample(contract: Contract, schema: dict[str, Any], **known: Any) -> Any:
    """The smallest value that a schema takes, with what is `known` of it."""
    schema = Operation("", {}, [], contract.document)._resolved(schema)
    if "anyOf" in schema and schema["anyOf"][0] == {"type": "null"}:
        return None if not known else sample(contract, schema["anyOf"][1], **known)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object" | None:
            properties = schema.get("properties", {})
            made = {name: sample(contract, properties.get(name, {})) for name in schema.get("required", ())}
            return {**made, **known}
        case "string":
            return {"uri": "https://forge.test/x", "date-time": "2026-01-01T00:00:00Z"}.get(
                schema.get("format", ""), ""
            )
        case "array":
            return []
        case "boolean":
            return False
        case _:
            return 0
