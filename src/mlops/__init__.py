"""Argo CD for machine learning: a git repository declares, MLflow is made to match."""

__version__ = "0.1.0"
