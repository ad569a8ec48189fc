"""What the reconciler proposes to git: which YAML edits, on which branch, with which words. Pure: no I/O, no clock."""
