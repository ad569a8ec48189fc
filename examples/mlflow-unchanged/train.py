import sys

import mlflow
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

csv = sys.argv[1] if len(sys.argv) > 1 else "data/us-employment.csv"
alpha = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0

# Jobs in millions, monthly, through the financial crisis: what the rest of the economy says of finance.
jobs = pd.read_csv(csv).drop(columns=["month", "nonfarm_change"]) / 1000
X = jobs[["construction", "manufacturing", "retail_trade", "information"]]
y = jobs["financial_activities"]
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=42)

with mlflow.start_run(run_name="Finance Covid Experiment"):
    model = make_pipeline(PolynomialFeatures(2), Ridge(alpha))
    model.fit(X_train, y_train)
    predictions = model.predict(X_test)

    mlflow.log_param("alpha", alpha)
    mlflow.log_metric("mse", mean_squared_error(y_test, predictions))
    mlflow.log_metric("r2", r2_score(y_test, predictions))
    mlflow.sklearn.log_model(model, "Regression")
