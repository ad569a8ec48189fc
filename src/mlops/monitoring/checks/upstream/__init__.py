"""The parts of `upstreamChange`, one a module: what can happen to a feature at its source."""
