"""The variables that a job sees: an allow-list, so that no secret of the reconciler reaches training code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_ALLOWED = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "TZ",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "LD_LIBRARY_PATH",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    }
)


def job_environment(
    base: Mapping[str, str], allow: Iterable[str] = (), extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The whole environment of a job.

    Args:
        base: the reconciler's own variables; only what a program needs to run at all is taken from them
            (search paths, home, locale, time zone, certificates, devices and thread counts).
        allow: names of further variables of `base` that were declared for this job.
        extra: variables set for this job; they win.
    """
    declared = frozenset(allow)
    kept = {
        name: value
        for name, value in base.items()
        if name in _ALLOWED or name in declared or name.startswith("LC_")
    }
    return {**kept, **(extra or {})}
