"""Tomorrow's maximum temperature in Seattle from today's weather: one trial of the sweep."""

import argparse
import os

import mlflow
import numpy as np
import pandas as pd
import sklearn
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

TARGET = "temp_max_tomorrow"
FEATURES = {
    "weather": ["temp_max", "temp_min", "precipitation", "wind"],
    "weather+season": ["temp_max", "temp_min", "precipitation", "wind", "season_sin", "season_cos"],
}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--features", choices=FEATURES, default="weather")
parser.add_argument("--alpha", type=float, default=1.0, help="strength of the ridge penalty")
parser.add_argument("--degree", type=int, default=1, help="degree of the polynomial in the features")
options = parser.parse_args()

train = pd.read_csv(os.environ["MLOPS_DATASET_TRAIN"])
test = pd.read_csv(os.environ["MLOPS_DATASET_TEST"])
columns = FEATURES[options.features]

model = make_pipeline(
    StandardScaler(), PolynomialFeatures(options.degree), StandardScaler(), Ridge(options.alpha)
)

# Three unshuffled folds are the three years: the sweep chooses by years left out, the test year only judges.
by_year = KFold(3)
scores = cross_val_score(
    model, train[columns], train[TARGET], cv=by_year, scoring="neg_root_mean_squared_error"
)
model.fit(train[columns], train[TARGET])

predicted = model.predict(test[columns])
rmse = root_mean_squared_error(test[TARGET], predicted)
persistence = root_mean_squared_error(test[TARGET], test["temp_max"])  # "tomorrow is like today"

with mlflow.start_run():
    mlflow.log_metrics(
        {
            "cv_rmse": float(-np.mean(scores)),
            "rmse": rmse,
            "mae": mean_absolute_error(test[TARGET], predicted),
            "persistence_rmse": persistence,
            "skill": 1 - rmse / persistence,  # 0: no better than persistence, 1: perfect
        }
    )
    mlflow.sklearn.log_model(
        model,
        name="model",
        input_example=test[columns].head(3),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
    )
print(f"{options}: {rmse:.3f} °C off on the test year, persistence {persistence:.3f} °C")
