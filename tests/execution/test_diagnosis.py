"""The end of a job in words that a data scientist can act on."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.execution.diagnosis import diagnose, last_exception
from mlops.execution.jobs import JobStatus
from mlops.execution.local import LocalExecutor
from mlops.execution.plain_text import fit_to_show

Run = Callable[..., JobStatus]
FAILED = JobStatus("exited", exit_code=1)

WITH_MLFLOW = """
import sys, traceback
import numpy, mlflow, mlflow.sklearn
from sklearn.ensemble import RandomForestRegressor

def failing(action):
    print("=====", flush=True)
    try:
        action()
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()

def other_experiment():
    import os
    os.environ["MLFLOW_RUN_ID"] = run
    mlflow.set_experiment("another")
    mlflow.start_run()

def changed_parameter():
    with mlflow.start_run(run_id=run):
        mlflow.log_param("depth", 3)
        mlflow.log_param("depth", 4)

def forest():
    model = RandomForestRegressor(n_estimators=2).fit(numpy.zeros((4, 1)), numpy.zeros(4))
    mlflow.sklearn.save_model(model, sys.argv[1], pip_requirements=[])

mlflow.set_experiment("declared")
with mlflow.start_run() as started:
    run = started.info.run_id
failing(changed_parameter)
failing(forest)
failing(other_experiment)
"""


def traceback(line: str, file: str = "/export/train.py") -> str:
    return f'Traceback (most recent call last):\n  File "{file}", line 12, in <module>\n    fit()\n{line}\n'


def test_an_exception_is_quoted_with_its_place_in_the_users_code(
    run: Run, executor: LocalExecutor, tmp_path: Path
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("import json\n\ndef load():\n    json.loads('{')\n\nload()\n")
    status = run(sys.executable, "src/train.py", cwd=tmp_path)
    text = diagnose(status, executor.log("job").decode(), source=tmp_path / "src")
    assert text.startswith("It ended with exit code 1: json.decoder.JSONDecodeError: Expecting property name")
    assert text.endswith("at train.py:4.")


def test_exit_3_without_a_word(run: Run) -> None:
    assert diagnose(run("sh", "-c", "exit 3"), "") == (
        "It ended with exit code 3. It printed nothing that says why."
    )


def test_exit_3_with_a_word() -> None:
    assert "Its last output was: cannot find weights" in diagnose(
        JobStatus("exited", exit_code=3), "epoch 1\n\x1b[31mcannot find weights\x1b[0m\n\n"
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (JobStatus("exited", signal=9), "killed by SIGKILL. Most likely the machine ran out of memory"),
        (JobStatus("exited", exit_code=137), "exit code 137, as after SIGKILL. Most likely"),
        (JobStatus("exited", signal=11), "SIGSEGV. That is a crash in compiled code"),
        (JobStatus("exited", signal=7), "SIGBUS. Shared memory"),
        (JobStatus("exited", signal=15), "SIGTERM. Somebody or something outside"),
        (JobStatus("exited", signal=63), "signal 63"),
        (JobStatus("exited", exit_code=127), "command inside it was not found"),
        (JobStatus("exited", exit_code=126), "not executable"),
        (JobStatus("exited", signal=15, cause="timeout"), "its time limit of 90s. Raise `timeout`"),
        (
            JobStatus("exited", signal=9, cause="memory", message="it held 3 GiB"),
            "limit of 2Gi (it held 3 GiB)",
        ),
        (JobStatus("exited", signal=15, cause="cancelled"), "It was cancelled."),
        (
            JobStatus("exited", cause="spawn", message="the command x was not found"),
            "x was not found. Correct",
        ),
        (JobStatus("exited", cause="spawn", message="the command x is not executable"), "chmod=+x"),
        (JobStatus("lost", message="its supervisor ended"), "not seen: its supervisor ended. It counts"),
        (JobStatus("exited", exit_code=0), "It ended well."),
        (JobStatus("running"), "It has not ended: it is running."),
    ],
)
def test_each_end_has_its_words(status: JobStatus, said: str) -> None:
    assert said in diagnose(status, "some output\n", timeout=90, memory=2 * 2**30)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ModuleNotFoundError: No module named 'lightgbm'", "'lightgbm' is not in its environment"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'data/train.csv'",
            "the file 'data/train.csv' is not there. .*MLOPS_DATASET_<NAME>",
        ),
        ("FileNotFoundError: data/train.csv", "'data/train.csv' is not there"),
        ("KeyError: 'MLOPS_DATASET_TRAIN'", "MLOPS_DATASET_TRAIN, .*Declare it under `datasets`"),
        ("KeyError: 'MLOPS_PARAM_DEPTH'", "Declare it under `parameters`"),
        ("KeyError: 'target'", "KeyError: 'target' at train.py:12"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "the GPU ran out of memory"),
        ("MemoryError", "could not get the memory"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 9 TiB", "could not get the memory"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        (
            "mlflow.exceptions.MlflowException: API request to http://h/api failed with exception Max",
            "the MLflow server did not answer",
        ),
        ("ValueError: bad https://bob:pa55word@host/x", re.escape("ValueError: bad https://***@host/x")),
    ],
)
def test_known_failures_say_what_to_do(line: str, said: str) -> None:
    text = diagnose(FAILED, traceback(line))
    assert re.search(said, text), text
    assert "pa55word" not in text


def test_arguments_that_the_script_refuses(run: Run, executor: LocalExecutor) -> None:
    code = "import argparse; argparse.ArgumentParser().parse_args()"
    status = run(sys.executable, "-c", code, "--depht", "3")
    text = diagnose(status, executor.log("job").decode())
    assert "exit code 2: the script refuses its arguments (unrecognized arguments: --depht 3)" in text


def test_a_handled_exception_before_the_last_one_is_not_blamed() -> None:
    log = (
        traceback("ModuleNotFoundError: No module named 'xgboost'")
        + "falling back\n"
        + traceback("ValueError: nan")
    )
    assert "ValueError: nan" in diagnose(FAILED, log)


def test_the_place_is_in_the_users_code_not_in_a_library() -> None:
    log = (
        'Traceback (most recent call last):\n  File "/export/train.py", line 3, in <module>\n    fit(x)\n'
        '  File "/e/lib/python3.11/site-packages/sklearn/base.py", line 99, in fit\n    raise\n'
        "ValueError: Input X\n"
    )
    raised = last_exception(log)
    assert raised is not None
    assert (raised.line, raised.place) == ("ValueError: Input X", "train.py:3")


def test_a_hostile_log_is_neither_slow_nor_passed_on() -> None:
    bombs = ["a" * 200_000, "[" * 200_000, "Traceback (most recent call last):\n" * 6000, 'File "' * 40_000]
    bombs += ["error: argument " * 10_000, "://" * 60_000, "\x1b]" * 100_000, "?token=" * 30_000]
    for bomb in bombs:
        text = diagnose(FAILED, f"{bomb}\nValueError: {bomb}")
        assert len(text) < 1500
        assert "\x1b" not in text


def test_output_of_others_is_made_fit_to_show() -> None:
    text = (
        "\x1b[1;31mred\x1b[0m \x1b]0;title\x07a\rb\x00 http://u:p@h/x https://h/?a=1&access_token=s3cret&b=2"
    )
    assert fit_to_show(text) == "red a\nb http://***@h/x https://h/?a=1&access_token=***&b=2"


@pytest.mark.slow
def test_what_mlflow_really_raises_is_recognised(run: Run, executor: LocalExecutor, tmp_path: Path) -> None:
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "HOME": str(tmp_path)}
    status = run(sys.executable, "-c", WITH_MLFLOW, str(tmp_path / "model"), env=env)
    assert status.succeeded, executor.log("job").decode()
    parameter, forest, experiment = executor.log("job").decode().split("=====\n")[1:]
    assert "logs the parameter 'depth' with another value" in diagnose(FAILED, parameter)
    assert 'Pass serialization_format="cloudpickle" to log_model, or skops_trusted_types=[' in diagnose(
        FAILED, forest
    )
    assert "mlflow.set_experiment with another experiment" in diagnose(FAILED, experiment)
