"""Benign or malignant, from a needle biopsy: one model on two or on all ten measurements."""

import argparse
import os

import mlflow
import pandas as pd
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TARGET = "malignant"
MEASUREMENTS = {"two": ["radius", "texture"], "all": None}
MODELS = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    "eager": make_pipeline(StandardScaler(), LogisticRegression(class_weight={0: 1, 1: 5})),
}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--measurements", choices=MEASUREMENTS, default="two")
parser.add_argument("--model", choices=MODELS, default="logistic")
options = parser.parse_args()

train = pd.read_csv(os.environ["MLOPS_DATASET_TRAIN"])
test = pd.read_csv(os.environ["MLOPS_DATASET_TEST"])
columns = MEASUREMENTS[options.measurements] or [name for name in train if name != TARGET]

model = MODELS[options.model].fit(train[columns], train[TARGET])
predicted = model.predict(test[columns])

with mlflow.start_run():
    mlflow.log_metrics(
        {"recall": recall_score(test[TARGET], predicted), "f1": f1_score(test[TARGET], predicted)}
    )
    mlflow.sklearn.log_model(
        model,
        name="model",
        input_example=test[columns].head(3),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
    )
