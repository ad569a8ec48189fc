"""Running work: jobs that outlive the reconciler, the environments they run in, and what their end means."""
