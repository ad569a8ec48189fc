"""Reduces the published descriptions of both APIs to the operations that are used, for the tests to check against.

    npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
    python tests/forges/openapi/reduce.py github package
    git clone https://github.com/MicrosoftDocs/vsts-rest-api-specs
    python tests/forges/openapi/reduce.py azure vsts-rest-api-specs/specification/git/7.1/git.json REVISION

Texts and examples are left out; schemas are kept as published. Both descriptions are under the MIT licence; see
LICENSE beside this file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GITHUB = {
    "/user": ["get"],
    "/repos/{owner}/{repo}/commits/{commit_sha}/pulls": ["get"],
    "/repos/{owner}/{repo}/pulls": ["get", "post"],
    "/repos/{owner}/{repo}/pulls/{pull_number}": ["get", "patch"],
    "/repos/{owner}/{repo}/pulls/{pull_number}/reviews": ["get"],
    "/repos/{owner}/{repo}/issues/{issue_number}/comments": ["get", "post"],
    "/repos/{owner}/{repo}/issues/comments/{comment_id}": ["patch"],
    "/repos/{owner}/{repo}/statuses/{sha}": ["post"],
    "/repos/{owner}/{repo}/collaborators/{username}/permission": ["get"],
}
_AZURE = "/{organization}/{project}/_apis/git/repositories/{repositoryId}"
AZURE = {
    f"{_AZURE}/pullrequestquery": ["post"],
    f"{_AZURE}/pullrequests": ["get", "post"],
    f"{_AZURE}/pullrequests/{{pullRequestId}}": ["get", "patch"],
    f"{_AZURE}/pullRequests/{{pullRequestId}}/iterations": ["get"],
    f"{_AZURE}/pullRequests/{{pullRequestId}}/threads": ["get", "post"],
    f"{_AZURE}/pullRequests/{{pullRequestId}}/threads/{{threadId}}/comments/{{commentId}}": ["patch"],
    f"{_AZURE}/commits/{{commitId}}/statuses": ["post"],
}
_TEXTS = {"description", "summary", "example", "examples", "externalDocs", "operationId", "tags", "title"}


def without_texts(node: Any, *, names: bool = False) -> Any:
    """`node` without prose; the keys of `properties` and the like are names, never prose."""
    if isinstance(node, list):
        return [without_texts(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: without_texts(
            value, names=key in ("properties", "schemas", "definitions", "responses") and not names
        )
        for key, value in node.items()
        if names or (key not in _TEXTS and not key.startswith("x-"))
    }


def references(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(references, node.values()))
    return found | ({node["$ref"]} if isinstance(node.get("$ref"), str) else set())


def reduced(
    document: dict[str, Any], operations: dict[str, list[str]], source: dict[str, str]
) -> dict[str, Any]:
    """The operations, and everything they refer to."""
    paths = {}
    for path, methods in operations.items():
        there = document["paths"][path]
        paths[path] = {key: without_texts(there[key]) for key in (*methods, "parameters") if key in there}
    result: dict[str, Any] = {"source": source, "paths": paths}
    todo, done = references(paths), set()
    while todo:
        reference = todo.pop()
        done.add(reference)
        keys = reference.removeprefix("#/").split("/")
        node, into = document, result
        for key in keys[:-1]:
            node, into = node[key], into.setdefault(key, {})
        into[keys[-1]] = without_texts(node[keys[-1]])
        todo |= references(into[keys[-1]]) - done
    return result


def main() -> None:
    which, where = sys.argv[1], Path(sys.argv[2])
    if which == "github":
        package = json.loads((where / "package.json").read_text())
        document = json.loads((where / "generated/api.github.com.json").read_text())
        source = {"package": package["name"], "version": package["version"], "licence": package["license"]}
        result = reduced(document, GITHUB, source)
    else:
        document = json.loads(where.read_text(encoding="utf-8-sig"))
        source = {"repository": "MicrosoftDocs/vsts-rest-api-specs", "file": "specification/git/7.1/git.json"}
        result = reduced(document, AZURE, {**source, "revision": sys.argv[3], "licence": "MIT"})
    (HERE / f"{which}.json").write_text(json.dumps(result, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
