"""What MLflow's errors in training code mean, for whoever wrote the code."""

from __future__ import annotations

_KNOWN = (
    (
        "active experiment ID does not match environment run ID",
        "the script calls mlflow.set_experiment with another name than the experiment it runs under",
        "Remove mlflow.set_experiment from the script: the run it logs to is given to it.",
    ),
    (
        "UntrustedTypesFoundException",
        "MLflow's default format for scikit-learn models (skops) does not trust a type in this model, "
        "as is so of tree ensembles",
        'Pass serialization_format="cloudpickle" to mlflow.sklearn.log_model, or list the types in '
        "skops_trusted_types.",
    ),
    (
        "Changing param values is not allowed",
        "the script logs a parameter twice with different values",
        "Log each parameter once in a run.",
    ),
    (
        "is already active. To start a new run, first end the",
        "the script starts a second run while the first is open",
        "Use mlflow.start_run(nested=True), or end the first run before.",
    ),
    (
        "database is locked",
        "MLflow's SQLite store was busy for too long",
        "Run fewer trials at once, or use an MLflow server.",
    ),
)


def explained(log: str) -> tuple[str, str] | None:
    """What went wrong in a training process and what to do, from the end of its log.

    Args:
        log: the text the process printed, or the end of it.

    Returns:
        A sentence that says what happened and one that says what to do; None where nothing known is in it.
    """
    found = [(log.rfind(sign), what, fix) for sign, what, fix in _KNOWN if sign in log]
    if not found:
        return None
    _, what, fix = max(found)
    return what, fix
