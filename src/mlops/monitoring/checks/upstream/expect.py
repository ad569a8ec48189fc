"""What the Dataset's own `expect` asks for and the window does not keep."""

from __future__ import annotations

from collections.abc import Collection

from mlops.monitoring.checks.upstream.findings import Finding


def expect(violations: Collection[str]) -> list[Finding]:
    """Each phrase of `mlops.data.expectations.violations` of the window's files as a change of the whole dataset."""
    return [
        Finding("*", None, "expect", None, None, True, None, phrase) for phrase in sorted(set(violations))
    ]
