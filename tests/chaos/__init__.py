"""Chaos: a daemon, a generated repository, and everything that can go wrong, from one seed (docs/chaos.md)."""
