"""Looks up the merged pull requests and reviews of many promotions on a GitHub on loopback; run by bench_approvals.

    python benchmarks/reviewed_promotions.py PROMOTIONS PASSES OUTPUT

The server is the tests' own, which holds every request and answer against GitHub's published description: most of the
time goes there. It writes, for each pass, the requests that were made and those that count against GitHub's limit.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from forges.github_server import GitHub  # type: ignore[import-not-found]
from mlops.forges import forge_of


class Kept(dict[str, bytes]):
    """Answers, as the state keeps them."""

    def put(self, key: str, value: bytes, /) -> None:
        self[key] = value


def main(promotions: int, passes: int, output: Path) -> None:
    kept, counts = Kept(), []
    with GitHub() as hub:
        commits = [f"{number:040x}" for number in range(1, promotions + 1)]
        for commit in commits:
            number = hub.open_pull(f"promote-{commit[-6:]}", head=f"a{commit[1:]}")
            hub.review(number, "grace")
            hub.review(number, "linus")
            hub.merge(number, commit)
        for _ in range(passes):
            requests, paid = len(hub.requests), hub.paid
            # A process of its own: all that it knows is in the state.
            forge = forge_of(hub.spec, environment=hub.environment, answers=kept, now=time.time)
            assert forge is not None
            for commit in commits:
                found = forge.merged(commit, "main")
                assert found is not None
                assert len(forge.reviews(found.number)) == 2
            counts.append({"requests": len(hub.requests) - requests, "counted": hub.paid - paid})
    size = sum(len(key) + len(value) for key, value in kept.items())
    output.write_text(json.dumps({"passes": counts, "kept": size}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
