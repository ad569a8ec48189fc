"""Git: what a revision holds, read without a checkout and without running anything that is in it."""
