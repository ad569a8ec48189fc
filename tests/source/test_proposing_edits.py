"""Edits of YAML change the text that means the change, whatever the layout, and nothing else."""

from __future__ import annotations

import random

import pytest

from mlops.errors import Stalled
from mlops.resources.key import Key
from mlops.resources.yaml_places import read_documents
from mlops.source.editing import SetField, with_document, with_fields

DATASET = Key("Dataset", "loans")
DIGEST = "sha256:" + "ab" * 32
TEXT = """\
# What is trained on.
apiVersion: mlops/v1
kind: Dataset
metadata: {name: loans} # asked for by risk
spec:
  uri: 's3://bucket/loans/*.parquet'   # grows daily
  digest: "sha256:old" # pinned

# The end.
"""


def set_in(text: str, *path: str | int, to: object, of: Key = DATASET) -> str:
    return with_fields(text, [SetField(of, path, to)], where="f.yaml")  # type: ignore[arg-type]


def test_only_the_characters_of_the_value_differ_and_quotes_stay():
    assert set_in(TEXT, "spec", "digest", to=DIGEST) == TEXT.replace("sha256:old", DIGEST)
    assert set_in(TEXT, "spec", "uri", to="it's") == TEXT.replace("s3://bucket/loans/*.parquet", "it''s")


def test_a_new_field_stands_behind_the_last_one_and_its_comment():
    assert set_in(TEXT, "spec", "version", to=3) == TEXT.replace("# pinned\n", "# pinned\n  version: 3\n")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_stay_and_no_last_line_end_is_made(newline, mark):
    text = (mark + TEXT[: TEXT.index(" # pinned")]).replace("\n", newline)
    assert set_in(text, "spec", "version", to=3) == text + newline + "  version: 3"
    assert set_in(text, "spec", "digest", to=DIGEST) == text.replace("sha256:old", DIGEST)


FRAME = "kind: Dataset\nmetadata: {name: loans}\n"


@pytest.mark.parametrize(
    ("spec", "path", "value", "becomes"),
    [
        ("spec: {uri: a}\n", ("digest",), DIGEST, f"spec: {{uri: a, digest: {DIGEST}}}\n"),
        ("spec: {uri: a,}\n", ("digest",), "x", "spec: {uri: a, digest: x,}\n"),
        ("spec: {}\n", ("digest",), "x", "spec: {digest: x}\n"),
        ("spec:\n", ("digest",), "x", "spec: {digest: x}\n"),
        ("spec:\n  digest: # none yet\n", ("digest",), "x", "spec:\n  digest: x # none yet\n"),
        ("spec:\n  a: 1\n", ("datasets", "train"), "x", "spec:\n  a: 1\n  datasets: {train: x}\n"),
        ("spec:\n  datasets: {test: y}\n", ("datasets", "train"), "x", "spec:\n  datasets: {test: y, train: x}\n"),
        ("spec:\n  a: |\n    b\n\n  c: 1\n", ("a",), "x", "spec:\n  a: x\n\n  c: 1\n"),
        ("spec:\n  c: |+\n    b\n\n", ("a",), "x", "spec:\n  a: x\n  c: |+\n    b\n\n"),
        ("spec:\n  a: &here old\n  b: 1\n", ("a",), "x", "spec:\n  a: &here x\n  b: 1\n"),
        ("spec:\n  a: &here old\n  b: *here\n", ("b",), "x", "spec:\n  a: &here old\n  b: x\n"),
        ("spec: {a: [1, 2]}\n", ("a", 1), True, "spec: {a: [1, true]}\n"),
        ("spec:\n- a\n", (0,), "b", "spec:\n- b\n"),
    ],
)  # fmt: skip
def test_every_layout_keeps_to_itself(spec, path, value, becomes):
    assert set_in(FRAME + spec, "spec", *path, to=value) == FRAME + becomes


@pytest.mark.parametrize(
    "value", ["no", "1e3", "012", "0x1f", "1:30", "2026-01-31", "null", "", "a: b", "#", "é\n"]
)
def test_a_text_that_could_mean_something_else_is_quoted(value):
    edited = set_in(FRAME + "spec:\n  a: b\n", "spec", "a", to=value)
    assert read_documents(edited)[0][0].value["spec"] == {"a": value}
    assert '"' in edited


@pytest.mark.parametrize(
    "spec",
    [
        "spec:\n  a: &here old\n  b: *here\n",  # another field would change with it
        "spec: &all {a: old}\nother: *all\n",
        "other: &all {a: old}\nspec: *all\n",
        "spec: {a: {b: 1}}\n",  # a mapping is never replaced
        "spec: old\n",
        "spec: {a: x, a: y}\n",
        "spec: {a: [\n",
    ],
)
def test_what_cannot_be_done_alone_is_left_to_a_person(spec):
    with pytest.raises(Stalled) as refused:
        set_in(FRAME + spec, "spec", "a", to="new")
    assert refused.value.where == "f.yaml"
    assert refused.value.fix


def test_the_right_document_of_a_file_is_edited_and_two_of_one_name_are_not():
    other = "---\n# empty\n---\nkind: Model\nmetadata: {name: loans}\nspec: {digest: keep}\n---\n"
    assert set_in(other + TEXT, "spec", "digest", to=DIGEST) == other + TEXT.replace("sha256:old", DIGEST)
    for text in (other, f"{TEXT}---\n{TEXT}"):
        with pytest.raises(Stalled):
            set_in(text, "spec", "digest", to=DIGEST)


def test_a_field_that_holds_the_value_already_is_left_as_it_is_written():
    text = FRAME + "spec: {a: 0x10, b: &x 1, c: *x}\n"
    assert set_in(text, "spec", "a", to=16) == set_in(text, "spec", "c", to=1) == text
    assert set_in(text, "spec", "c", to=True) == text.replace("*x", "true")  # 1 is not true


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("", "kind: New\n"),
        ("# only this", "# only this\nkind: New\n"),
        ("a: 1", "a: 1\n---\nkind: New\n"),
        ("\ufeffa: 1\n", "\ufeffa: 1\n---\nkind: New\n"),
        ("a: 1\r\nb: |+\r\n  c\r\n\r\n", "a: 1\r\nb: |+\r\n  c\r\n\r\n---\r\nkind: New\r\n"),
        ("a: 1\n...\n# end\n", "a: 1\n...\n# end\n---\nkind: New\n"),
    ],
)
def test_a_document_is_put_behind_the_last_one(text, becomes):
    assert with_document(text, "kind: New\n") == becomes


def test_nothing_is_put_behind_broken_yaml():
    with pytest.raises(Stalled):
        with_document("a: [\n", "kind: New\n", where="f.yaml")


def _layout(rng: random.Random, value: object, indent: int) -> str:
    """Some YAML text of a plain value: block or flow, any quotes, comments and blank lines."""
    pad = " " * indent
    if isinstance(value, dict) and (indent == 0 or rng.random() < 0.6):
        step = rng.choice([1, 2, 4])
        lines = []
        for name, inner in value.items():
            if rng.random() < 0.2:
                lines.append(rng.choice(["", f"{pad}# {name}: 'x", "  # } - [", "\t"]).rstrip("\t"))
            if isinstance(inner, dict) and rng.random() < 0.6:
                lines.append(f"{pad}{name}:{rng.choice(['', ' # of ' + name])}")
                lines.append(_layout(rng, inner, indent + step) if inner else f"{pad}  {{}}")
            else:
                lines.append(
                    f"{pad}{name}:{' ' * rng.randint(1, 3)}{_flow(rng, inner)}{rng.choice(['', '  # x: 1'])}"
                )
        return "\n".join(lines)
    return pad + _flow(rng, value)


def _flow(rng: random.Random, value: object) -> str:
    if isinstance(value, dict):
        inside = f",{rng.choice(['', ' '])}".join(
            f"{name}: {_flow(rng, inner)}" for name, inner in value.items()
        )
        return f"{{{inside}{rng.choice(['', ' '])}}}"
    return rng.choice([str(value), f'"{value}"', f"'{value}'"])


def _value(rng: random.Random, depth: int) -> dict[str, object]:
    return {
        name: _value(rng, depth - 1) if depth and rng.random() < 0.4 else f"v{rng.randint(0, 99)}"
        for name in rng.sample("abcdefg", rng.randint(1, 4))
    }


def _paths(value: dict[str, object], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = [p for name, v in value.items() if isinstance(v, dict) for p in _paths(v, (*path, name))]
    return [*inner, *((*path, name) for name, v in value.items() if not isinstance(v, dict)), (*path, "new")]


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


@pytest.mark.parametrize("seed", range(150))
def test_in_any_layout_all_but_the_value_stays_byte_by_byte(seed):
    rng = random.Random(seed)
    names = ["one", "two", "three"]
    specs = {name: _value(rng, 3) for name in names}
    texts = [
        _layout(rng, {"kind": "Dataset", "metadata": {"name": name}, "spec": specs[name]}, 0)
        for name in names
    ]
    text = "\n---\n".join(texts) + rng.choice(["", "\n", "\n# end\n"])
    if rng.random() < 0.3:
        text = text.replace("\n", "\r\n")
    name = rng.choice(names)
    path = rng.choice(_paths(specs[name]))
    edited = set_in(text, "spec", *path, to="changed-it", of=Key("Dataset", name))
    start = _shared(text, edited)
    tail = _shared(text[start:][::-1], edited[start:][::-1])
    gone, came = text[start : len(text) - tail], edited[start : len(edited) - tail]
    assert edited.replace("changed-it", "", 1).count("\n") - text.count("\n") in (0, 1)
    assert "\n" not in gone
    assert len(gone) <= 5  # the old value and its quotes
    assert came.count(":") == (path[-1] == "new")
    values = [document.value["spec"] for document in read_documents(edited)[0]]
    inner = values[names.index(name)]
    for part in path[:-1]:
        inner = inner[part]
    assert inner.pop(path[-1]) == "changed-it"
