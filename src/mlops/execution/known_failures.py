"""Ways in which training code is known to fail, each with what to do about it: one function knows one.

Patterns are bounded, since the log that they search is anybody's text.
"""

from __future__ import annotations

import re
from collections.abc import Callable


def recognise(log: str) -> str | None:
    """What is behind the failure that this piece of a log shows, and what to do; None if it is not known.

    The text begins with a lower-case letter: it goes on from "It ended with exit code 1: ".
    """
    return next((text for failure in _FAILURES if (text := failure(log))), None)


def _other_experiment(log: str) -> str | None:
    if not re.search(
        r"Cannot start run with ID \S{1,100} because active experiment ID does\s+not match", log
    ):
        return None
    return (
        "the code calls mlflow.set_experiment with another experiment than the declared one, where its "
        'run already stands. Remove the call, or call it with os.environ["MLFLOW_EXPERIMENT_NAME"].'
    )


def _changed_parameter(log: str) -> str | None:
    if "Changing param values is not allowed" not in log:
        return None
    key = re.search(r"Param with key='([^'\n]{1,250})'", log)
    name = f"the parameter {key.group(1)!r}" if key else "a parameter"
    return (
        f"the code logs {name} with another value than it already has, which MLflow refuses. "
        "Log it once, under a name of its own, or with log_metric if it changes."
    )


def _second_run(log: str) -> str | None:
    if not re.search(r"Run with UUID \S{1,100} is already active", log):
        return None
    return (
        "the code starts a second run while the first is open. Call mlflow.start_run once, or with "
        "nested=True for a run below it."
    )


def _untrusted_types(log: str) -> str | None:
    if "sklearn model references untrusted types" in log:
        types = re.search(r"Untrusted types found in the file: (\[[^\]\n]{1,500}\])", log)
        trusted = types.group(1) if types else "[…]"
        return (
            "MLflow saves scikit-learn models with skops, which does not trust a type in this one. Pass "
            f'serialization_format="cloudpickle" to log_model, or skops_trusted_types={trusted}.'
        )
    if "could not be serialized in the skops serialization format" in log:
        return (
            "MLflow saves scikit-learn models with skops, which cannot save functions and classes of yours. "
            'Pass serialization_format="cloudpickle" to log_model.'
        )
    return None


def _missing_module(log: str) -> str | None:
    found = re.findall(r"ModuleNotFoundError: No module named '([^'\n]{1,200})'", log)
    if not found:
        return None
    return (
        f"the module {found[-1]!r} is not in its environment. Add its package to the environment's "
        "requirements; if it is your own code, see that `source` covers it."
    )


def _missing_file(log: str) -> str | None:
    pattern = r"FileNotFoundError: (?:\[Errno 2\] )?(?:No such file or directory: )?'?([^'\n]{1,300})"
    found = re.findall(pattern, log)
    if not found:
        return None
    return (
        f"the file {found[-1].strip()!r} is not there. The code runs in a copy of `source.path` alone: read "
        "data from the path in MLOPS_DATASET_<NAME>, and write below MLOPS_OUTPUT."
    )


def _missing_script(log: str) -> str | None:
    found = re.findall(r"can't open file '(?:[^'\n]{0,1000}/)?([^'/\n]{1,200})': \[Errno 2\]", log)
    if not found:
        return None
    return (
        f"there is no {found[-1]!r} among the code. Correct its name in `command`, or let `source.path` and "
        "`include` select it."
    )


def _unreadable_code(log: str) -> str | None:
    found = re.findall(
        r'^ {2}File "(?:[^"\n]{0,1000}/)?([^"/\n]{1,200})", line (\d{1,9})\n(?:[^\n]{0,500}\n){0,3}'
        r"((?:Syntax|Indentation|Tab)Error: [^\n]{1,200})",
        log,
        re.MULTILINE,
    )
    if not found:
        return None
    file, line, what = found[-1]
    return f"Python cannot read the code: {what} at {file}:{line}."


def _missing_variable(log: str) -> str | None:
    found = re.findall(r"KeyError: '((?:MLOPS|MLFLOW)_[A-Z0-9_]{1,100})'", log)
    if not found:
        return None
    part = "datasets" if found[-1].startswith("MLOPS_DATASET_") else "parameters"
    declare = (
        f" Declare it under `{part}`." if found[-1].startswith(("MLOPS_DATASET_", "MLOPS_PARAM_")) else ""
    )
    return f"the code reads the variable {found[-1]}, which this experiment does not have.{declare}"


def _gpu_memory(log: str) -> str | None:
    if not re.search(
        r"CUDA out of memory|cuda\.OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY|CUBLAS_STATUS_ALLOC", log
    ):
        return None
    return "the GPU ran out of memory. Use smaller batches or a smaller model, or fewer trials in parallel."


def _main_memory(log: str) -> str | None:
    if not re.search(r"^(?:numpy\S{0,60})?(?:_Array)?MemoryError\b|std::bad_alloc", log, re.MULTILINE):
        return None
    return "it could not get the memory that it asked for. Load less data at a time, or use smaller types."


def _full_disk(log: str) -> str | None:
    if not re.search(r"\[Errno 28\]|No space left on device", log):
        return None
    return "the disk is full. Free space where MLOPS_OUTPUT, TMPDIR or the artifact store are."


def _unreachable_mlflow(log: str) -> str | None:
    if not re.search(
        r"API request to \S{1,300} failed|/api/2\.0/mlflow[^\n]{0,300}(?:Max retries|Caused by)", log
    ):
        return None
    return "the MLflow server did not answer. Check it and MLFLOW_TRACKING_URI; it may be tried again."


def _busy_store(log: str) -> str | None:
    if not re.search(r"OperationalError[^\n]{0,100}database is locked", log):
        return None
    return "a SQLite database was busy for too long. Run fewer trials in parallel, or use an MLflow server."


def _wrong_arguments(log: str) -> str | None:
    found = re.findall(
        r"error: ((?:unrecognized arguments|the following arguments are required|argument )[^\n]{1,300})", log
    )
    if not found:
        return None
    return f"the script refuses its arguments ({found[-1]}). Make `command` fit what the script accepts."


_FAILURES: tuple[Callable[[str], str | None], ...] = (
    _other_experiment,
    _changed_parameter,
    _second_run,
    _untrusted_types,
    _gpu_memory,
    _main_memory,
    _full_disk,
    _missing_module,
    _missing_script,
    _unreadable_code,
    _missing_variable,
    _missing_file,
    _unreachable_mlflow,
    _busy_store,
    _wrong_arguments,
)
