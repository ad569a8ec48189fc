"""Run every benchmark, one after the other; options (`--write PAGE`, `--rounds 3`) go to each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = (
    "help",
    "validate",
    "plan",
    "trial",
    "registry",
    "daemon",
    "gates",
    "approvals",
    "monitoring",
    "profile",
)


def main() -> int:
    failed = []
    for name in NAMES:
        script = Path(__file__).with_name(f"bench_{name}.py")
        if subprocess.run([sys.executable, script, *sys.argv[1:]], check=False).returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
