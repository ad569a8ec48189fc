"""Globs that choose which files count."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.errors import MlopsError
from mlops.source.select import compile_glob, select

FILES = (
    "mlops.yaml",
    "training/train.py",
    "training/lib/model.py",
    "training/lib/deep/er.py",
    "training/data/a.csv",
    "training/data/more/b.csv",
    "training/.hidden/x.py",
    "training/[x].py",
    "training-evil/train.py",
)


def chosen(*include: str, exclude: tuple[str, ...] = (), under: str = "training") -> list[str]:
    return [path.removeprefix("training/") for path in select(FILES, under, include, exclude)]


EVERYTHING = [
    ".hidden/x.py",
    "[x].py",
    "data/a.csv",
    "data/more/b.csv",
    "lib/deep/er.py",
    "lib/model.py",
    "train.py",
]
PYTHON = [".hidden/x.py", "[x].py", "lib/deep/er.py", "lib/model.py", "train.py"]


PATTERNS = [
    ("**", EVERYTHING),
    ("**/*", EVERYTHING),
    ("*", EVERYTHING),
    ("**/*.py", PYTHON),
    ("*.py", PYTHON),
    ("/*.py", ["[x].py", "train.py"]),
    ("data/*.csv", ["data/a.csv"]),
    ("data/**/*.csv", ["data/a.csv", "data/more/b.csv"]),
    ("data/**", ["data/a.csv", "data/more/b.csv"]),
    ("data", ["data/a.csv", "data/more/b.csv"]),
    ("data/", ["data/a.csv", "data/more/b.csv"]),
    ("more", ["data/more/b.csv"]),
    ("**/more/", ["data/more/b.csv"]),
    ("train.py/", []),
    ("train.py/**", []),
    ("**/deep/**", ["lib/deep/er.py"]),
    ("lib/*/*.py", ["lib/deep/er.py"]),
    ("lib/**/model.py", ["lib/model.py"]),
    ("?r.py", ["lib/deep/er.py"]),
    ("tr[a-c]in.py", ["train.py"]),
    ("tr[!a-c]in.py", []),
    ("[^l]*", [".hidden/x.py", "[x].py", "data/a.csv", "data/more/b.csv", "lib/deep/er.py",
               "lib/model.py", "train.py"]),
    ("/[^l]*", [".hidden/x.py", "[x].py", "data/a.csv", "data/more/b.csv", "train.py"]),
    ("\\[x\\].py", ["[x].py"]),
    ("[[]x[]].py", ["[x].py"]),
    ("*a*n*.py", ["train.py"]),
    ("TRAIN.PY", []),
    ("data?a.csv", []),
    ("data[/]a.csv", None),
    ("a.csv", ["data/a.csv"]),
    ("tra", []),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS)
def test_patterns_mean_what_they_mean_in_a_gitignore(pattern, expected):
    if expected is None:  # git splits at the slash, so the bracket stays open
        with pytest.raises(MlopsError, match="not closed"):
            chosen(pattern)
    else:
        assert chosen(pattern) == expected


def test_git_itself_agrees(tmp_path, git):
    git(tmp_path, "init", "--quiet")
    paths = [path.removeprefix("training/") for path in FILES if path.startswith("training/")]
    for pattern, expected in PATTERNS:
        if expected is not None:
            (tmp_path / ".gitignore").write_text(pattern + "\n")
            asked = "".join(f"{path}\0" for path in paths).encode()
            command = ["git", "check-ignore", "--no-index", "-z", "--stdin"]
            done = subprocess.run(command, cwd=tmp_path, input=asked, capture_output=True, check=False)
            assert sorted(done.stdout.decode().split("\0")[:-1]) == expected, pattern


def test_exclude_wins_over_include():
    assert chosen("**/*.py", exclude=("lib", "/[[]*")) == [".hidden/x.py", "train.py"]


def test_only_paths_below_the_folder_are_chosen():
    assert select(FILES, "training/", ["**"], []) == tuple(f"training/{path}" for path in EVERYTHING)
    assert select(FILES, ".", ["*.yaml"], []) == ("mlops.yaml",)
    assert select(FILES, "", ["*.yaml"], []) == ("mlops.yaml",)
    assert select(FILES, "nowhere", ["**"], []) == ()
    assert select(FILES, "training", [], []) == ()
    with pytest.raises(MlopsError, match="leaves"):
        select(FILES, "../x", ["**"], [])


def test_names_that_are_no_utf8_or_hold_line_ends_match():
    odd = ["a\udce9.py", "b\nc.py"]
    assert select(odd, "", ["*.py"], []) == tuple(odd)


@pytest.mark.parametrize(
    "pattern",
    ["", "/", "!x", "a[b", "a\\", "x" * 513, "*a" * 33, "[z-a]", "[[:alpha:]]", "../x", "a/./b", "a\0"],
)
def test_a_pattern_that_cannot_be_used_says_why(pattern):
    with pytest.raises(MlopsError, match=r"cannot be used\. Mend it"):
        compile_glob(pattern)


def test_too_many_patterns_are_refused():
    with pytest.raises(MlopsError, match="256"):
        select([], "", ["*.py"] * 257, [])


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("**/**/**/a*a*a*a*b", "a" * 4000),
        ("**/**/**/a*a*a*a*b", "a/" * 2000 + "a"),
        ("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", "a" * 4000),
        ("**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/b", "a/" * 2000 + "a"),
        ("?a?a" * 8 + "*b", "a" * 4000),
    ],
)
def test_no_pattern_is_slow(pattern, path):
    """With backtracking any of these would take longer than the universe is old."""
    assert select([path], "", [pattern], []) == ()
    assert select([path.replace("/", "x") + "b"], "", ["*b"], []) != ()


def slowly(pattern: list[str], path: list[str]) -> bool:
    """The definition: `**` is any number of names, and matching a folder matches all in it."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(slowly(pattern[1:], path[n:]) for n in range(len(path) + 1))
    return bool(path) and name(pattern[0], path[0]) and slowly(pattern[1:], path[1:])


def name(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(name(pattern[1:], text[n:]) for n in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and name(pattern[1:], text[1:])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=5)), min_size=2, max_size=5),
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=5),
)
def test_matching_without_backtracking_agrees_with_the_definition(pattern, path):
    parts = [part if part == "**" or "**" not in part else part.replace("**", "*") for part in pattern]
    if parts[-1] == "**":
        parts.append("*")
    assert bool(select(["/".join(path)], "", ["/".join(parts)], [])) == slowly(parts, path)
