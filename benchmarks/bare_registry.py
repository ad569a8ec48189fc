"""Register N models of one run by MLflow's client: the calls an apply cannot do without, nothing else."""

import sys

from mlflow import MlflowClient

uri, count = sys.argv[1], int(sys.argv[2])
client = MlflowClient(tracking_uri=uri, registry_uri=uri)
experiments = [experiment.experiment_id for experiment in client.search_experiments()]
run = next(run for run in client.search_runs(experiments) if run.info.status == "FINISHED")
tags = {f"mlops.{name}": "x" * 32 for name in ("version", "digest", "fingerprint", "resource", "revision")}
stay = ("base", "since", "until", "revision", "approvedBy", "evidence", "history")
for number in range(count):
    name = f"model-{number:05}"
    client.create_registered_model(name, tags={"domain": "mobility"}, description=f"Model number {number}")
    version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id, tags=tags)
    client.set_registered_model_alias(name, "dev", version.version)
    for key in stay:
        client.set_model_version_tag(name, version.version, f"mlops.stage.dev.{key}", "x" * 32)
