"""The weekly job of the team: what the model in production forecasts for the weeks that have arrived.

`python score.py` makes of each file of `data/arrived/` that is new, or was delivered again, one of `data/scored/`, with
the column `temp_max_forecast`. That folder is what `monitoring/forecast.yaml` watches.
"""

from pathlib import Path

import mlflow
import pandas as pd

ARRIVED, SCORED = Path("data/arrived"), Path("data/scored")


def is_due(week: Path) -> bool:
    """Whether a week has no forecasts yet, or forecasts that are older than its file."""
    scored = SCORED / week.name
    return not scored.exists() or scored.stat().st_mtime_ns < week.stat().st_mtime_ns


mlflow.set_tracking_uri("sqlite:///.mlops/mlflow.db")
version = mlflow.MlflowClient().get_model_version_by_alias("seattle-weather", "production")
model = mlflow.sklearn.load_model("models:/seattle-weather@production")
SCORED.mkdir(exist_ok=True)
weeks = [week for week in sorted(ARRIVED.glob("*.csv")) if is_due(week)]
for week in weeks:
    rows = pd.read_csv(week)
    forecast = model.predict(rows[model.feature_names_in_]).round(2)
    rows.assign(temp_max_forecast=forecast).to_csv(SCORED / week.name, index=False)
print(f"{len(weeks)} weeks scored by {version.tags['mlops.version']}")
