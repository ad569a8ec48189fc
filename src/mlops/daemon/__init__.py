"""The daemon: the loop that keeps MLflow equal to git, what wakes it, and what it tells over HTTP and in its log."""
