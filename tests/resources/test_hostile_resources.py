"""Documents made to hurt: they are refused quickly, in little memory, and nothing of a file leaks."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Declared
from mlops.resources import Key

GOOD = "apiVersion: mlops/v1\nkind: Model\nmetadata: {name: good}\nspec: {}\n"


def laughs(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(lines) + "\n"


BOMBS = {
    "billion laughs": laughs(9, 9),
    "quadratic aliases": "a: &a [" + "x, " * 500 + "]\nb: [" + "*a, " * 900 + "]\n",
    "many aliases": "a: &a x\nb: [" + "*a, " * 5000 + "]\n",
    "deep flow": "a: " + "[" * 100_000,
    "deep mappings": "{a: " * 50_000,
    "deep block": "".join(" " * depth + "a:\n" for depth in range(600)),
    "deep sequence": "- " * 20_000,
    "wide": "a: [" + "1," * 2_000_000 + "]\n",
    "many keys": "".join(f"k{number}: 1\n" for number in range(300_000)),
    "repeated key": "k: 1\n" * 100_000,
    "many documents": "--- x\n" * 200_000,
    "many broken documents": "--- [\n" * 50_000,
    "huge integer": "a: " + "9" * 1_000_000 + "\n",
    "huge hexadecimal": "a: 0x" + "f" * 1_000_000 + "\n",
    "huge float": "a: 1" + "0" * 1_000_000 + ".5\n",
    "long key": "k" * 1_000_000 + ": 1\n",
    "many unknown fields": GOOD.replace(
        "{}", "{" + ", ".join(f"f{number}: 1" for number in range(20_000)) + "}"
    ),
    "many wrong items": GOOD.replace("{}", "{owners: [" + "1, " * 40_000 + "]}"),
    "object tags": "a: !!python/object/apply:os.system [id]\n" * 1000,
    "directives": "%YAML 1.2\n" * 10_000,
    "anchors": "".join(f"a{number}: &a{number} x\n" for number in range(90_000)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_and_its_neighbour_is_read(declared: Declared, name: str) -> None:
    declared.write("resources/bomb.yaml", BOMBS[name])
    declared.write("resources/good.yaml", GOOD)
    loaded = declared.load()
    assert loaded.problems
    assert len(loaded.problems) <= 1_200
    assert {problem.location.file for problem in loaded.problems} <= {"resources/bomb.yaml"} | (
        {"resources/good.yaml"} if name in ("many unknown fields", "many wrong items") else set()
    )
    assert all(len(str(problem)) < 2_000 for problem in loaded.problems)
    assert (Key("Model", "good") in loaded.resources) != (name in ("many unknown fields", "many wrong items"))


def test_all_bombs_together_fit_into_little_memory(tmp_path: Path) -> None:
    declared = Declared(tmp_path)
    for number, text in enumerate(BOMBS.values()):
        declared.write(f"resources/{number}.yaml", text)
    program = (
        "import sys; from pathlib import Path; from snapshots import FolderSnapshot; from mlops.resources import load;"
        "loaded = load(FolderSnapshot(Path(sys.argv[1]))); print(len(loaded.problems))"
    )
    limit = 1 << 30  # of address space, of which the interpreter and its libraries take a good part
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > len(BOMBS)


def test_no_message_repeats_what_a_field_held(declared: Declared) -> None:
    secret = "s3cr3t-T0ken/with+odd chars"
    text = f"""\
apiVersion: mlops/v1
kind: Dataset
metadata: {{name: x, labels: "{secret}"}}
spec:
  uri: "ftp://user:{secret}@host/x.csv"
  format: "{secret}"
  digest: "{secret}"
  version: "{secret}"
  expect: "{secret}"
---
"{secret}"
---
kind: "{secret}"
---
a: '{secret}
"""
    declared.write("resources/x.yaml", text)
    problems = declared.load().problems
    assert len(problems) >= 8
    assert not [str(problem) for problem in problems if "s3cr3t" in str(problem)]


def test_no_message_can_steer_a_terminal_or_forge_a_line(declared: Declared) -> None:
    text = GOOD.replace("{}", '{"\\e[31mred": 1, "a\\n::error file=x::forged": 2}').replace(
        "good", '"a\\u202e\\n::b"'
    )
    declared.write("resources/x.yaml", text)
    lines = [str(problem) for problem in declared.load().problems]
    assert len(lines) >= 3
    assert all(
        character.isprintable() or character == "\N{REPLACEMENT CHARACTER}"
        for line in lines
        for character in line
    )


def test_ten_thousand_dangling_references_are_named_without_dragging(declared: Declared) -> None:
    promotions = [
        f"kind: Promotion\nmetadata: {{name: p{number}}}\nspec: {{model: m{number}, stage: s, version: 1.0.0}}\n"
        for number in range(5_000)
    ]
    models = [f"kind: Model\nmetadata: {{name: n{number}}}\nspec: {{}}\n" for number in range(5_000)]
    declared.documents("resources/promotions.yaml", *promotions)
    declared.documents("resources/models.yaml", *models)
    loaded = declared.load()
    assert len(loaded.problems) == 10_000
    assert len([key for key in loaded.resources if key.kind == "Model"]) == 5_000
