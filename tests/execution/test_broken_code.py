"""What Python prints of scripts that it cannot run, taken from real interpreters, and what is made of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlops.execution.known_failures import recognise


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(:\n", "SyntaxError: invalid syntax at fit.py:1"),
        ("if 1:\nprint(1)\n", "IndentationError: expected an indented block after 'if' statement on line 1"),
        ("def f():\n\treturn 1\n        return 2\n", "Error: "),
        ("print('a)\n", "SyntaxError: unterminated string literal"),
    ],
    ids=["syntax", "indentation", "tabs", "string"],
)
def test_code_that_python_cannot_read_is_placed(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "fit.py").write_text(code)
    told = recognise(_log(tmp_path, "fit.py"))
    assert told is not None
    assert told.startswith("Python cannot read the code: ")
    assert said in told
    assert " at fit.py:" in told
    assert str(tmp_path) not in told


def test_a_script_that_is_not_there_is_named_without_its_folder(tmp_path: Path) -> None:
    told = recognise(_log(tmp_path, "trian.py"))
    assert told is not None
    assert told.startswith("there is no 'trian.py' among the code.")
    assert str(tmp_path) not in told


def _log(folder: Path, script: str) -> str:
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True)
    assert done.returncode
    return done.stderr
