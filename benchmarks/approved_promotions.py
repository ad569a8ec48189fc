"""Passes over many promotions that need approvals, in one process; run by bench_approvals.

    python benchmarks/approved_promotions.py PROMOTIONS OUTPUT

A project of the size is applied, a pull request asks for all of its models in a guarded stage, and the controller
looks: while nobody approved, again, once somebody reviewed, and with a signed tag for each instead. It writes, for
each look, its seconds, the processes of git, the requests to the forge, and how many promotions it would carry out.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from generate import registry
from harness import MLOPS, commit, git, measure

from forges.github_server import GitHub  # type: ignore[import-not-found]
from mlops.controller import Controller
from mlops.source import git as git_processes

PROJECT = """\
apiVersion: mlops/v1
kind: Project
metadata: {{name: registry}}
spec:
  resources: [resources/]
  forge: {{github: {{repository: {repository}, url: "{url}"}}}}
  groups: {{leads: [ben@example.com]}}
  approvers:
    - {{email: ben@example.com, github: ben, sshKey: {key}}}
"""
GUARDED = """\
---
apiVersion: mlops/v1
kind: Stage
metadata: {name: prod}
spec:
  approvals: {required: 1, from: [leads]}
"""
ASKS = """\
---
apiVersion: mlops/v1
kind: Promotion
metadata: {{name: {model}-prod}}
spec: {{model: {model}, stage: prod, version: 1.0.0}}
"""


def guarded(folder: Path, count: int, hub: GitHub) -> None:
    """A project whose models are all in dev, with a stage that asks for approvals and holds none yet."""
    key = folder.parent / "ben"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ben", "-f", key], check=True)
    registry(folder, count)
    public = key.with_suffix(".pub").read_text().strip()
    settings = PROJECT.format(repository=hub.repository, url=hub.url, key=public)
    (folder / "mlops.yaml").write_text(settings)
    stages = folder / "resources/stages.yaml"
    stages.write_text(stages.read_text() + GUARDED)
    commit(folder, "guarded")
    measure([MLOPS, "apply"], cwd=folder)


def asked(folder: Path, count: int, hub: GitHub) -> int:
    """One merged pull request that asks for all of them; its number."""
    for number in range(count):
        file = folder / f"resources/models/model-{number:05}.yaml"
        file.write_text(file.read_text() + ASKS.format(model=f"model-{number:05}"))
    commit(folder, "everything to production")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    sha = head.stdout.strip()
    pull: int = hub.open_pull("everything", head=sha, author="cid")
    hub.merge(pull, sha)
    return pull


def approve(folder: Path, controller: Controller) -> None:
    """Sign a tag for each promotion that asks, as `mlops approve` does."""
    from mlops.approvals.tags import message, tag_name
    from mlops.source.tagging import sign

    git(folder, "config", "gpg.format", "ssh")
    git(folder, "config", "user.signingKey", str(folder.parent / "ben"))
    view = controller.look()
    for one in view.planned.asking:
        assert one.digest is not None
        name = tag_name(one.promotion, one.version, "ben@example.com")
        sign(
            controller.repository,
            name,
            view.snapshot.revision,
            message(one.promotion, one.version, one.digest),
        )


def cpu() -> float:
    """CPU seconds that this process and its children used until now, in user and kernel."""
    return sum(os.times()[:4])


def main(count: int, folder: Path, output: Path) -> None:
    calls: list[str] = []
    with GitHub() as hub:
        project = folder / "registry"
        guarded(project, count, hub)
        os.environ.update(hub.environment)
        rows: dict[str, Any] = {}
        git_processes.on_call = lambda name, seconds, failed: calls.append(name)
        controller = Controller.find(project)

        def looks(name: str, expect: int) -> None:
            calls.clear()
            requests, paid, used, began = len(hub.requests), hub.paid, cpu(), time.perf_counter()
            view = controller.look()
            seconds = time.perf_counter() - began
            promotes = sum(step.action == "promote" for step in view.planned.plan.steps)
            assert promotes == expect, (name, promotes, view.planned.plan.blocked[:2])
            rows[name] = {
                "seconds": seconds,
                "cpu": cpu() - used,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "git": len(calls),
                "requests": len(hub.requests) - requests,
                "counted": hub.paid - paid,
            }

        def twice(name: str, expect: int) -> None:
            looks(name, expect)
            looks(f"{name}, again", expect)

        try:
            twice("nobody is asked", 0)
            pull = asked(project, count, hub)
            twice("nobody approved", 0)
            review = hub.review(pull, "ben")
            twice("reviewed", count)
            hub.dismiss(pull, review)
            approve(project, controller)
            twice("a signed tag each", count)
        finally:
            controller.close()
    output.write_text(json.dumps(rows))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path.cwd(), Path(sys.argv[2]))
