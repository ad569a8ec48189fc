"""A job sees an allow-list of variables."""

from __future__ import annotations

from mlops.execution.environment import job_environment


def test_only_what_is_allowed_declared_or_given_reaches_a_job() -> None:
    base = {
        "PATH": "/bin",
        "HOME": "/home/x",
        "LC_NUMERIC": "C",
        "OMP_NUM_THREADS": "2",
        "SSL_CERT_FILE": "/ca.pem",
        "AWS_PROFILE": "team",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "GITHUB_TOKEN": "hunter2",
        "PYTHONPATH": "/reconciler",
        "VIRTUAL_ENV": "/reconciler",
        "MLOPS_API_TOKEN": "hunter2",
    }
    assert job_environment(
        base, ["AWS_PROFILE", "ABSENT"], {"PATH": "/env/bin:/bin", "MLFLOW_RUN_ID": "1"}
    ) == {
        "PATH": "/env/bin:/bin",
        "HOME": "/home/x",
        "LC_NUMERIC": "C",
        "OMP_NUM_THREADS": "2",
        "SSL_CERT_FILE": "/ca.pem",
        "AWS_PROFILE": "team",
        "MLFLOW_RUN_ID": "1",
    }
