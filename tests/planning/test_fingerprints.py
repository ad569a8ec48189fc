"""Fingerprints: equal for equal inputs anywhere, different for whatever can change a result, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from revisions import code, data, experiment

from mlops.planning.trials import trials

SPEC: dict[str, Any] = {
    "parameters": {"depth": 3, "rate": 0.1, "kind": "gbt", "early": True},
    "datasets": {"train": "rows", "test": "more"},
    "seed": 7,
}
FOUND = {"rows": data("rows", "1"), "more": data("more", "2", outside=True)}
CODE = code("print()", files={"train.py": "a" * 40, "lib/rows.py": "b" * 40}, defaults={"momentum": 0.9})


def fingerprint(**spec: Any) -> str:
    [trial] = trials(experiment(**{**SPEC, **spec}), CODE, FOUND)  # type: ignore[arg-type]
    return trial.fingerprint


PLAIN = fingerprint()

IN_A_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from test_fingerprints import PLAIN
print(PLAIN)
"""


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_another_process_with_other_hashes_gives_the_same(seed: str) -> None:
    environ = {**os.environ, "PYTHONHASHSEED": seed}
    child = [sys.executable, "-c", IN_A_CHILD, str(Path(__file__).parent)]
    done = subprocess.run(child, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == PLAIN


def test_the_order_of_keys_and_files_is_nothing() -> None:
    backwards = {
        name: dict(reversed(value.items())) for name, value in SPEC.items() if isinstance(value, dict)
    }
    assert fingerprint(**backwards) == PLAIN
    files = dict(reversed(CODE.files.items()))
    [trial] = trials(experiment(**SPEC), replace(CODE, files=files), dict(reversed(FOUND.items())))  # type: ignore[arg-type]
    assert trial.fingerprint == PLAIN


@pytest.mark.parametrize(
    "spec",
    [
        {"labels": {"team": "a"}},
        {"executor": "ray"},
        {"resources": {"cpu": 2, "memory": "4Gi"}},
        {"timeout": "3h"},
        {"retries": 5},
        {"onDataChange": "train"},
        {"objective": {"metric": "mae", "goal": "maximize"}},
        {"variables": ["AWS_PROFILE"]},
        {"suspend": True},
        {"sweep": {"strategy": "grid", "parameters": {"depth": [3]}, "parallel": 4}},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_what_cannot_change_a_result_is_not_in_it(spec: dict[str, Any]) -> None:
    assert fingerprint(**spec) == PLAIN


@pytest.mark.parametrize(
    "spec",
    [
        {"seed": 8},
        {"seed": None},
        {"parameters": {**SPEC["parameters"], "depth": 4}},
        {"parameters": {**SPEC["parameters"], "depth": "3"}},
        {"parameters": {**SPEC["parameters"], "depth": 3.0}},
        {"parameters": {**SPEC["parameters"], "early": 1}},
        {"parameters": {**SPEC["parameters"], "more": 1}},
        {"datasets": {"train": "more", "test": "rows"}},
        {"datasets": {"train": "rows"}},
        {"datasets": {"train": "rows", "check": "more"}},
        {"sweep": {"strategy": "grid", "parameters": {"depth": [5]}}},
    ],
    ids=str,
)
def test_what_can_change_a_result_is_in_it(spec: dict[str, Any]) -> None:
    assert fingerprint(**spec) != PLAIN


@pytest.mark.parametrize(
    "other",
    [
        replace(CODE, files={**CODE.files, "train.py": "c" * 40}),
        replace(CODE, files={"train.py": "a" * 40}),
        replace(CODE, files={"renamed.py": "a" * 40, "lib/rows.py": "b" * 40}),
        replace(CODE, command=("python", "-O", "train.py")),
        replace(CODE, command=("python train.py",)),
        replace(CODE, environment="sha256:1"),
        replace(CODE, defaults={"momentum": 0.8}),
    ],
    ids=["byte", "removed", "renamed", "command", "joined", "environment", "default"],
)
def test_the_code_its_command_and_its_environment_are_in_it(other: Any) -> None:
    [trial] = trials(experiment(**SPEC), other, FOUND)  # type: ignore[arg-type]
    assert trial.fingerprint != PLAIN


def test_data_is_in_the_fingerprint_and_unpinned_outside_data_not_in_the_declaration() -> None:
    [plain] = trials(experiment(**SPEC), CODE, FOUND)  # type: ignore[arg-type]

    def moved(name: str, **given: Any) -> Any:
        found = {**FOUND, name: replace(data(name, "changed", outside=FOUND[name].outside), **given)}
        [trial] = trials(experiment(**SPEC), CODE, found)  # type: ignore[arg-type]
        assert trial.fingerprint != plain.fingerprint
        return trial

    assert moved("rows").declaration != plain.declaration
    assert moved("more").declaration == plain.declaration
    assert moved("more", uri="data/elsewhere.csv").declaration != plain.declaration
    assert moved("more", pinned=True).declaration != plain.declaration


def test_equal_points_of_a_sweep_are_one_trial() -> None:
    sweep = {"strategy": "grid", "parameters": {"depth": [1, 2, 1], "rate": [0.1, 0.1]}}
    made = trials(experiment(**SPEC, sweep=sweep), CODE, FOUND)  # type: ignore[arg-type]
    assert [trial.parameters["depth"] for trial in made] == [1, 2]


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_more_trials_of_a_random_sweep_keep_those_there_were(count: int, seed: int) -> None:
    ranges = {
        "rate": {"logUniform": [0.001, 1]},
        "share": {"uniform": [0.5, 1]},
        "depth": {"int": [1, 1000]},
        "kind": ["a", "b", "c"],
    }

    def drawn(number: int) -> list[str]:
        sweep = {"strategy": "random", "parameters": ranges, "trials": number}
        one = experiment(**{**SPEC, "seed": seed}, sweep=sweep)
        for trial in (made := trials(one, CODE, FOUND)):  # type: ignore[arg-type]
            assert 0.001 <= trial.parameters["rate"] <= 1.0001  # type: ignore[operator]
            assert 0.5 <= trial.parameters["share"] <= 1  # type: ignore[operator]
            assert trial.parameters["depth"] in range(1, 1001)
            assert trial.parameters["kind"] in ("a", "b", "c")
        return [trial.fingerprint for trial in made]

    fewer, more = drawn(count), drawn(count + 5)
    assert more[: len(fewer)] == fewer
    assert len(more) == count + 5


def test_another_parameter_in_a_random_sweep_keeps_what_is_drawn_for_the_others() -> None:
    def depths(**more: Any) -> list[Any]:
        sweep = {"strategy": "random", "parameters": {"depth": {"int": [1, 1000]}, **more}, "trials": 5}
        return [trial.parameters["depth"] for trial in trials(experiment(**SPEC, sweep=sweep), CODE, FOUND)]  # type: ignore[arg-type]

    assert depths() == depths(another={"uniform": [0, 1]})
