"""Edits of 200 files of all layouts: only the lines that mean the change differ, and what they mean is the change.

Every name, value and comment of a file is a word of its own, so that it can be told from the text alone which lines
are those of a field.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from mlops.errors import Stalled
from mlops.resources.key import Key
from mlops.resources.yaml_places import read_documents
from mlops.source.editing import RemoveField, SetField, with_document, with_fields

FILES = 200
_WORD = re.compile(r"[kvc]\d+w")
_PATHS = tuple[str, ...]


class Writer:
    """Writes documents in a layout of its own, and knows which words belong to a field."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.count = 0
        self.features: set[str] = set()
        self.anchors: list[str] = []

    def file(self) -> tuple[str, list[str]]:
        """A text, and the names of its documents."""
        names = [f"d{at}" for at in range(self.dice.randint(1, 4))]
        texts = [self.document(name) for name in names]
        if len(names) > 1:
            self.features.add("several documents")
        text = self.pick("", "# first\n", "---\n", "%YAML 1.2\n---\n") + "\n---\n".join(texts)
        text += self.pick("", "\n", "\n\n# the end\n", "\n...\n")
        if not text.endswith("\n"):
            self.features.add("no final newline")
        if self.dice.random() < 0.3:
            self.features.add("CRLF")
            text = text.replace("\n", "\r\n")
        if self.dice.random() < 0.2:
            self.features.add("byte order mark")
            text = "\ufeff" + text
        return text, names

    def document(self, name: str) -> str:
        self.anchors = []
        kind = self.pick("kind: Dataset", '"kind": Dataset', "kind:   'Dataset' # c", "!!str kind: Dataset")
        metadata = self.pick(
            f"metadata: {{name: {name}}}", f'metadata:\n    name: "{name}"', f"metadata: {{'name': {name},}}"
        )
        if self.dice.random() < 0.2:
            self.features.add("flow style")
            return f"{kind}\n{metadata}\nspec: {self.flow(3)}{self.comment()}"
        parts = [kind, metadata, f"spec:{self.comment()}\n{self.mapping(3, 2, at_least=3)}"]
        self.dice.shuffle(parts)
        return "\n".join(parts)

    def mapping(self, depth: int, indent: int, at_least: int = 1) -> str:
        pad, lines = " " * indent, []
        for _ in range(self.dice.randint(at_least, 4)):
            if self.dice.random() < 0.15:
                lines.append(self.pick("", f"{pad}# {self.word('c')}: 'x", f"  # {self.word('c')} }} - ["))
                self.features.add("comments")
            key = self.key()
            if depth and self.dice.random() < 0.35:
                if self.dice.random() < 0.3:
                    self.features.add("flow style")
                    lines.append(f"{pad}{key}: {self.flow(depth - 1)}{self.comment()}")
                else:
                    inner = self.mapping(depth - 1, indent + self.dice.choice([1, 2, 4]))
                    lines.append(f"{pad}{key}:{self.comment()}\n{inner}")
            elif self.dice.random() < 0.12:
                self.features.add("sequences")
                items = [f"{pad}{self.pick('', '  ')}- {self.scalar()}{self.comment()}"] * 1
                lines.append(f"{pad}{key}:{self.comment()}\n" + "\n".join(items))
            elif self.dice.random() < 0.12:
                self.features.add("block scalars")
                sign = (
                    self.pick("|", ">", "|-", ">+", "|2-") if indent == 0 else self.pick("|", ">", "|-", ">-")
                )
                lines.append(
                    f"{pad}{key}: {sign}\n{pad}  {self.word('v')} # no comment\n\n{pad}  {self.word('v')}"
                )
            elif self.dice.random() < 0.1:
                self.features.add("values on several lines")
                lines.append(f"{pad}{key}: {self.word('v')}\n{pad}   {self.word('v')}{self.comment()}")
            else:
                space = " " * self.dice.randint(1, 3)
                lines.append(f"{pad}{key}{self.pick('', ' ')}:{space}{self.scalar()}{self.comment()}")
        return "\n".join(lines)

    def flow(self, depth: int) -> str:
        inside = []
        for _ in range(self.dice.randint(1, 3)):
            value = self.flow(depth - 1) if depth and self.dice.random() < 0.3 else self.scalar()
            inside.append(f"{self.key()}: {value}")
        if self.dice.random() < 0.3:
            self.features.add("flow on several lines")
            gap = self.pick(",\n      ", " ,\n       ", f", # {self.word('c')}\n      ")
            return "{\n      " + gap.join(inside) + self.pick("\n    }", ",\n    }")
        return (
            "{" + self.pick("", " ") + f",{self.pick('', ' ')}".join(inside) + self.pick("", " ", ",") + "}"
        )

    def key(self) -> str:
        word = self.word("k")
        return self.pick(word, word, word, f'"{word}"', f"'{word}'")

    def scalar(self) -> str:
        if self.anchors and self.dice.random() < 0.1:
            self.features.add("aliases")
            return f"*{self.dice.choice(self.anchors)} "
        word = self.word("v")
        if self.dice.random() < 0.06:
            self.features.add("long lines")
            word = f'"{word} {"long " * self.dice.choice([40, 400])}"'
        elif self.dice.random() < 0.3:
            self.features.add("unusual quotes")
            word = self.pick(
                f'"{word}\\u00e9\\t"', f"'{word}: it''s # {{'", f'"{word} \\"said\\""', f"{word}'s"
            )
        if self.dice.random() < 0.1:
            self.features.add("anchors")
            self.anchors.append(f"a{self.count}")
            word = f"&{self.anchors[-1]} {word}"
        elif self.dice.random() < 0.05:
            self.features.add("tags")
            word = f"!!str {word}"
        return word

    def comment(self) -> str:
        return f"{self.pick(' ', '   ')}# {self.word('c')}: 1" if self.dice.random() < 0.2 else ""

    def word(self, what: str) -> str:
        self.count += 1
        return f"{what}{self.count}w"

    def pick(self, *options: str) -> str:
        return self.dice.choice(options)


def values_of(text: str) -> list[Any]:
    documents, broken = read_documents(text.removeprefix("\ufeff"))
    assert not broken, (broken, text)
    return [document.value for document in documents]


def paths(value: Any, path: _PATHS = ()) -> Iterator[tuple[_PATHS, Any]]:
    for name, inner in value.items():
        yield (*path, name), inner
        if isinstance(inner, dict):
            yield from paths(inner, (*path, name))


def span(lines: list[str], path: _PATHS, value: Any) -> tuple[int, int]:
    """The lines of a field: of its name, and of the words of its value that stand below it."""
    begin = next(at for at, line in enumerate(lines) if re.search(rf"\b{path[-1]}\b", line))
    words = set(_WORD.findall(repr(value)))
    ends = [at for at, line in enumerate(lines) if at >= begin and words & set(_WORD.findall(line))]
    end = max(ends, default=begin) + 1
    while end < len(lines) and isinstance(value, dict) and re.match(r"\s*(\}|- \*)", lines[end]):
        end += 1  # what ends it, or stands for words that are elsewhere
    return begin, end


def region(before: list[str], after: list[str]) -> tuple[int, int, list[str]]:
    """Which lines are not as they were: from, up to, and what is there now."""
    start = next(
        (at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]),
        min(len(before), len(after)),
    )
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return start, len(before) - end, after[start : len(after) - end]


def changed(values: list[Any], at: int, path: _PATHS, *to: Any) -> list[Any]:
    """The values with a field set or removed; what an alias meant stays what it was."""

    def within(value: Any, rest: _PATHS) -> Any:
        out = dict(value)
        if len(rest) > 1:
            out[rest[0]] = within(value[rest[0]], rest[1:])
        elif to:
            out[rest[0]] = to[0]
        else:
            del out[rest[0]]
        return out

    return [within(value, ("spec", *path)) if index == at else value for index, value in enumerate(values)]


SEEN: Counter[str] = Counter()
DONE: Counter[str] = Counter()


@pytest.mark.parametrize("seed", range(FILES))
def test_only_the_lines_that_mean_the_change_differ(seed: int) -> None:
    writer = Writer(seed)
    text, names = writer.file()
    SEEN.update(writer.features)
    values, lines = values_of(text), text.splitlines(keepends=True)
    at = writer.dice.randrange(len(names))
    key = Key("Dataset", names[at])
    fields = list(paths(values[at]["spec"]))
    for path, value in writer.dice.sample(fields, min(4, len(fields))):
        edits: dict[str, tuple[Any, list[Any]]] = {
            "remove": (RemoveField(key, ("spec", *path)), changed(values, at, path))
        }
        if isinstance(value, dict):
            to: Any = {"p": "q", "n": 1}
            edits["replace"] = (SetField(key, ("spec", *path), to), changed(values, at, path, to))
            added = (*path, "added")
            edits["add"] = (SetField(key, ("spec", *added), "x"), changed(values, at, added, "x"))
        elif not isinstance(value, list):
            edits["set"] = (SetField(key, ("spec", *path), "s3://new"), changed(values, at, path, "s3://new"))
        for name, (edit, wanted) in edits.items():
            try:
                edited = with_fields(text, [edit])
            except Stalled:
                DONE[f"{name} by hand"] += 1
                assert "anchors" in writer.features or name == "remove"
                continue
            DONE[name] += 1
            assert values_of(edited) == wanted
            after = edited.splitlines(keepends=True)
            start, stop, came = region(lines, after)
            around = dict(fields).get(path[:-1], values[at]["spec"])
            begin, end = span(lines, path, value)
            if name == "remove" and len(around) == 1:  # an empty mapping is left
                begin, end = span(lines, ("spec", *path)[:-1], around)
            assert begin <= start or name == "add", edited
            assert stop <= end + (name in ("add", "remove")), edited
            assert len(came) <= {"remove": 1, "add": 2}.get(name, 1), edited
            lost = {word for word in _WORD.findall(text) if word[0] != "c"} - set(_WORD.findall(edited))
            assert lost <= set(_WORD.findall(repr({path[-1]: value}))), edited
            assert edited.startswith("\ufeff") == text.startswith("\ufeff")
            if "CRLF" in writer.features:
                assert "\n" not in edited.replace("\r\n", "")
            else:
                assert "\r" not in edited


@pytest.mark.parametrize("seed", range(0, FILES, 4))
def test_a_document_at_the_end_leaves_every_line_as_it_was(seed: int) -> None:
    text, _ = Writer(seed).file()
    document = "kind: Dataset\nmetadata: {name: added}\nspec: {uri: x}\n"
    try:
        edited = with_document(text, document)
    except Stalled:
        assert text.rstrip().endswith("...") or "|" in text or ">" in text
        return
    assert edited.startswith(text)
    assert values_of(edited) == [*values_of(text), *values_of(document)]


def test_every_layout_was_there_and_few_edits_are_left_to_people() -> None:
    if sum(DONE.values()) < FILES:
        pytest.skip("only some of the files were edited")
    expected = ["anchors", "aliases", "CRLF", "tags", "sequences", "comments"]
    expected += ["flow style", "flow on several lines", "several documents", "long lines", "unusual quotes"]
    expected += ["byte order mark", "no final newline", "block scalars", "values on several lines"]
    assert [name for name in expected if SEEN[name] < 10] == []
    by_hand = sum(count for name, count in DONE.items() if name.endswith("by hand"))
    assert by_hand < 0.1 * sum(DONE.values()), DONE
