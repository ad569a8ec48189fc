"""What MLflow's own client needs for one promotion, N times: an alias, the tags of a stay, the revision in force.

Prints the seconds, CPU seconds and peak bytes of each, as JSON; opening the store is not counted.
"""

import json
import resource
import sys
import time

from mlflow import MlflowClient

uri, model, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = MlflowClient(tracking_uri=uri, registry_uri=uri)
experiment = client.search_experiments(max_results=1)[0].experiment_id
version = client.get_model_version_by_alias(model, "dev").version
stay = ("base", "since", "until", "revision", "approvedBy", "evidence", "history")
rows = []
for _ in range(count + 1):
    began, cpu = time.perf_counter(), time.process_time()
    client.set_registered_model_alias(model, "bare", version)
    for key in stay:
        client.set_model_version_tag(model, version, f"bare.{key}", "x" * 32)
    for key in ("revision", "at"):
        client.set_experiment_tag(experiment, f"bare.{key}", "x" * 40)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    rows.append([time.perf_counter() - began, time.process_time() - cpu, peak])
client.delete_registered_model_alias(model, "bare")
print(json.dumps(rows[1:]))  # the first one fills the pool of connections
