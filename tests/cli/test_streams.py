"""Data on stdout, the rest on stderr; colour only on a terminal; errors as sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import yaml
from command_line import Ran, child, on_a_terminal
from git_project import GitProject

Mlops = Callable[..., Ran]
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])")


def test_in_a_pipe_nothing_is_coloured_and_data_stands_alone(project: GitProject) -> None:
    for line in (["plan"], ["get"], ["tree"], ["describe", "Experiment/fit"], ["runs", "fit"], ["history"]):
        ran = child(*line, cwd=project.root)
        assert ran.code == 0, ran.err
        assert "\x1b" not in ran.out + ran.err
        assert ran.out
        assert ran.err == ""


def test_colour_is_for_terminals_and_NO_COLOR_is_honoured(project: GitProject) -> None:
    assert COLOUR.search(on_a_terminal("plan", cwd=project.root))
    plain = on_a_terminal("plan", cwd=project.root, NO_COLOR="1")
    assert not COLOUR.search(plain)
    assert "train Experiment/fit" in plain
    assert "\x1b" not in on_a_terminal("plan", cwd=project.root, TERM="dumb")


@pytest.mark.parametrize("line", [["plan"], ["get"], ["describe", "Model/m"]], ids=" ".join)
def test_yaml_and_json_say_the_same_and_are_all_of_stdout(
    line: list[str], project: GitProject, mlops: Mlops
) -> None:
    told = mlops(*line, "-o", "json", cwd=project.root)
    assert json.loads(told.out, parse_constant=pytest.fail)
    written = yaml.safe_load(mlops(*line, "-o", "yaml").out)
    assert _timeless(written) == _timeless(json.loads(told.out))


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {name: _timeless(item) for name, item in value.items() if name != "since"}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def test_names_are_one_a_line(project: GitProject, mlops: Mlops) -> None:
    lines = mlops("get", "-o", "name", cwd=project.root).out.splitlines()
    assert lines[:3] == ["Project/p", "Dataset/rows", "Experiment/fit"]
    assert mlops("get", "promotion", "-o", "name").out.splitlines() == ["Promotion/m-dev", "Promotion/m-prod"]


def test_problems_go_to_stderr_while_data_goes_on(project: GitProject, mlops: Mlops) -> None:
    project.write("resources/broken.yaml", "kind: [\n")
    project.commit()
    for line in (["plan", "-o", "json"], ["get", "-o", "json"]):
        ran = mlops(*line, cwd=project.root)
        assert ran.code == 1
        assert isinstance(json.loads(ran.out), dict)
    assert json.loads(ran.out)["errors"][0]["file"] == "resources/broken.yaml"


def test_a_traceback_is_shown_only_with_debug(project: GitProject, mlops: Mlops) -> None:
    plain = mlops("get", "nosuch", cwd=project.root)
    assert plain.err.startswith('error: "nosuch" is not a kind')
    assert len(plain.err.splitlines()) == 1
    debug = mlops("--debug", "get", "nosuch")
    assert debug.code == plain.code == 1
    assert "Traceback" in debug.err
    assert debug.err.splitlines()[-1] == plain.err.splitlines()[-1]


def test_an_error_nobody_foresaw_is_a_sentence_too(
    project: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("mlops.controller.Controller.look", fails)
    plain = mlops("plan", cwd=project.root)
    assert plain.code == 1
    assert "Traceback" not in plain.err
    assert "ZeroDivisionError: by zero" in plain.err
    assert "--debug" in plain.err
    assert "Traceback" in mlops("--debug", "plan").err


def test_a_full_or_forbidden_disk_is_a_sentence(
    project: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere/file")

    monkeypatch.setattr("mlops.controller.Controller.look", fails)
    ran = mlops("plan", cwd=project.root)
    assert ran.code == 1
    assert "No space left on device" in ran.err
    assert "Traceback" not in ran.err


def test_a_reader_that_went_away_is_told_nothing(project: GitProject) -> None:
    import os
    import subprocess
    import sys

    from command_line import START

    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", START, "schema"],
        cwd=project.root,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1
