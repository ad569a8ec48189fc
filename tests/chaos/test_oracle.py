"""What the chaos looks for is seen where it is: worlds and logs that are wrong in one way each."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chaos import daemonlog, oracle
from chaos.declared import Declared, Numbers, first
from chaos.meddling import STRANGER
from chaos.repository import Team

HEAD = "a" * 40
SINCE, UNTIL = "2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"
PROMOTED = {
    "event": "Promoted",
    "resource": "Promotion/m0-dev",
    "revision": HEAD,
    "step": "promote:Promotion/m0-dev",
}
TOLD = [
    {"event": "Begun", "resource": "Experiment/e0", "step": "train:Experiment/e0:ffffffffffff"},
    {"event": "Trained", "resource": "Experiment/e0", "step": "train:Experiment/e0:ffffffffffff"},
    {"event": "Begun", "resource": "ModelVersion/m0-1.0.0", "step": "bind:ModelVersion/m0-1.0.0"},
    {"event": "Bound", "resource": "ModelVersion/m0-1.0.0", "step": "bind:ModelVersion/m0-1.0.0"},
    {"event": "Begun", "resource": "Promotion/m0-dev", "step": "promote:Promotion/m0-dev"},
    PROMOTED,
]


def team() -> Team:
    made = Team(Path("nowhere"), {})
    made.head, made.parents[HEAD] = HEAD, []
    made.declared[HEAD] = first(Numbers(), {})
    return made


def stay(**more: str) -> dict[str, str]:
    return {"promotion": "m0-dev", "alias": "dev", "since": SINCE, "revision": HEAD, **more}


def staying(*stays: dict[str, str]) -> dict[str, str]:
    last = {
        f"mlops.stage.dev.{part}": text for part, text in stays[-1].items() if part in oracle.STAGE_FIELDS
    }
    return {**last, "mlops.stage.dev.history": json.dumps(stays)}


def world() -> Any:
    """One run, one version of it, in dev."""
    tags = {"mlops.fingerprint": "f" * 64, "mlops.outcome": "succeeded", "mlops.attempt": "1"}
    version = {"mlops.fingerprint": "f" * 64, "mlops.version": "1.0.0", "mlops.digest": "sha256:d"}
    version |= {"mlops.resource": "ModelVersion/m0-1.0.0", **staying(stay())}
    run = {
        "id": "r1",
        "experiment": "chaos/e0",
        "name": "e0",
        "status": "FINISHED",
        "tags": tags | {"mlops.resource": "Experiment/e0"},
        "metrics": {"rmse": 5.0},
        "parameters": {},
        "inputs": ["d0"],
    }
    return {
        "experiments": {
            "chaos": {"mlops.applied.revision": HEAD, "mlops.applied.good": HEAD},
            "chaos/e0": {},
        },
        "runs": [run],
        "models": {"m0": {"description": "", "tags": {}, "aliases": {"dev": 1}}},
        "versions": [{"model": "m0", "number": 1, "run": "r1", "description": "", "tags": version}],
    }


def again(rows: list[Any], **changed: Any) -> None:
    rows.append({**copy.deepcopy(rows[0]), **changed})


def trained_twice(seen: Any) -> None:
    again(seen["runs"], id="r2")


def left_open(seen: Any) -> None:
    again(seen["runs"], id="r2", status="RUNNING", tags={"mlops.fingerprint": "e" * 64})


def failed_by_itself(seen: Any) -> None:
    tags = {"mlops.fingerprint": "e" * 64, "mlops.outcome": "failed"}
    again(seen["runs"], id="r2", status="FAILED", tags=tags)


def closed_otherwise(seen: Any) -> None:
    seen["runs"][0]["status"] = "KILLED"


def registered_twice(seen: Any) -> None:
    tags = {tag: text for tag, text in seen["versions"][0]["tags"].items() if "stage" not in tag}
    again(seen["versions"], number=2, tags=tags)


def bound_to_nothing(seen: Any) -> None:
    seen["versions"][0]["run"] = "r9"


def other_bytes(seen: Any) -> None:
    seen["versions"][0]["tags"]["mlops.digest"] = "sha256:e"


def promoted_twice(seen: Any) -> None:
    seen["versions"][0]["tags"] |= staying(stay(until=UNTIL), stay(since=UNTIL))


def ended_before_it_began(seen: Any) -> None:
    seen["versions"][0]["tags"] |= staying(stay(since=UNTIL, until=SINCE), stay(since=UNTIL))


def two_at_once(seen: Any) -> None:
    version = seen["versions"][0]["tags"] | staying(stay(since=UNTIL)) | {"mlops.version": "2.0.0"}
    again(seen["versions"], number=2, tags=version)


def alias_gone(seen: Any) -> None:
    del seen["models"]["m0"]["aliases"]["dev"]


def alias_elsewhere(seen: Any) -> None:
    seen["models"]["m0"]["aliases"]["prod"] = 1


def tag_not_healed(seen: Any) -> None:
    seen["versions"][0]["tags"]["mlops.stage.dev.since"] = "by hand"


def by_no_commit(seen: Any) -> None:
    seen["versions"][0]["tags"] |= staying(stay(revision="b" * 40))


def stranger_gone(seen: Any) -> None:
    seen["versions"] = [one for one in seen["versions"] if STRANGER not in one["tags"]]


WRONG = {
    trained_twice: "2 runs succeeded",
    left_open: "is open",
    failed_by_itself: "nobody touched it",
    closed_otherwise: "is KILLED",
    registered_twice: "registered 2 times",
    bound_to_nothing: "did not succeed",
    other_bytes: "was ('r1', 'sha256:d'",
    promoted_twice: "promoted to dev twice",
    ended_before_it_began: "ended before",
    two_at_once: "in dev at once",
    alias_gone: "alias dev is None",
    alias_elsewhere: "in no such stage",
    tag_not_healed: "the tag since",
    by_no_commit: "which is no commit",
    stranger_gone: "it touched it",
}


@pytest.mark.parametrize("spoil", WRONG, ids=lambda spoil: spoil.__name__)
def test_a_world_that_is_wrong_in_one_way_is_told(spoil: Any) -> None:
    seen, memory = world(), oracle.Memory()
    again(seen["versions"], number=9, run=None, tags={STRANGER: "yes"})
    assert list(oracle.invariants(seen, team(), memory)) == []
    spoil(seen)
    assert any(WRONG[spoil] in problem for problem in oracle.invariants(seen, team(), memory))


def test_what_a_broken_revision_lacks_is_left_as_somebody_made_it() -> None:
    seen, made = world(), team()
    alias_gone(seen)
    made.declared[HEAD].remove("Promotion/m0-dev")
    assert list(oracle.invariants(seen, made, oracle.Memory())) != []  # its stay should have ended
    made.declared[HEAD].replaced["Dataset/d0"] = {}
    assert list(oracle.invariants(seen, made, oracle.Memory())) == []
    made.declared[HEAD].promote("m0", "dev", "1.0.0")
    assert list(oracle.invariants(seen, made, oracle.Memory())) != []


def declared() -> Declared:
    made = first(Numbers(), {})
    for key in [*made.documents]:
        if key not in ("Experiment/e0", "Model/m0", "ModelVersion/m0-1.0.0", "Stage/dev"):
            made.remove(key)
    made.promote("m0", "dev", "1.0.0")
    return made


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda seen: seen["models"]["m0"].update(description="old"), "description"),
        (lambda seen: seen["models"]["m0"]["aliases"].clear(), "git says 1.0.0"),
        (lambda seen: seen["runs"][0]["metrics"].update(rmse=6.0), "rmse: 6.0"),
        (lambda seen: seen["experiments"]["chaos"].update({"mlops.applied.revision": "b"}), "in force"),
        (lambda seen: seen["versions"].clear(), "m0 1.0.0 is not there"),
        (lambda seen: seen["runs"].clear(), "the run of ffffffffffff"),
    ],
)
def test_a_difference_to_a_fresh_apply_is_told(spoil: Any, told: str) -> None:
    seen = world()
    assert list(oracle.differences(seen, world(), declared(), HEAD)) == []
    spoil(seen)
    assert any(told in problem for problem in oracle.differences(seen, world(), declared(), HEAD))


def test_a_version_may_have_been_bound_by_an_earlier_commit() -> None:
    seen = world()
    seen["versions"][0]["tags"] |= {"mlops.revision": "b" * 40, "mlops.bound": '{"mlops.revision":"b"}'}
    assert list(oracle.differences(seen, world(), declared(), HEAD)) == []


def test_a_version_that_was_bound_earlier_stays_bound() -> None:
    seen = world()
    for holder in (seen["versions"][0]["tags"], seen["runs"][0]["tags"]):
        holder["mlops.fingerprint"] = "e" * 64
    seen["versions"][0]["tags"]["mlops.digest"] = "sha256:other"
    again(seen["runs"], id="r2", tags=world()["runs"][0]["tags"])
    assert list(oracle.differences(seen, world(), declared(), HEAD)) == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["begun r1", "ended r1", "begun r1"], "executed 2 times"),
        (["begun r2", "ended r2"], "MLflow does not have it"),
    ],
)
def test_a_job_that_ran_twice_or_in_vain_is_told(lines: list[str], told: str) -> None:
    [problem] = oracle.executions(lines, world(), oracle.Memory())
    assert told in problem


def log(tmp_path: Path, rows: list[Any]) -> Path:
    place = tmp_path / "log"
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def test_a_log_that_tells_everything_once_explains_the_world(tmp_path: Path) -> None:
    assert daemonlog.unexplained([log(tmp_path, TOLD)], [], world()) == []


@pytest.mark.parametrize("left_out", ["Promotion/m0-dev", "ModelVersion/m0-1.0.0", "Experiment/e0"])
def test_what_no_log_tells_is_told(tmp_path: Path, left_out: str) -> None:
    rows = [row for row in TOLD if row["resource"] != left_out]
    assert daemonlog.unexplained([log(tmp_path, rows)], [], world()) != []


@pytest.mark.parametrize("event", ["Promoted", "Bound", "Trained"])
def test_what_is_told_twice_is_told(tmp_path: Path, event: str) -> None:
    twice = [row for row in TOLD if row["event"] == event]
    [problem] = daemonlog.unexplained([log(tmp_path, TOLD + twice)], [], world())
    assert "was told 2 times" in problem


def test_what_an_apply_without_a_daemon_printed_explains_it_too(tmp_path: Path) -> None:
    printed = tmp_path / "stderr"
    printed.write_text(
        "· train Experiment/e0 [depth=1]: no run\n✓ train Experiment/e0 [depth=1] (1.0 s): rmse = 5\n"
        "✓ bind ModelVersion/m0-1.0.0 (0.1 s): m0 v1\n✓ promote Promotion/m0-dev (0.1 s): dev → m0 v1\n"
    )
    assert daemonlog.unexplained([], [printed], world()) == []


def test_lines_that_are_no_events_and_defects_are_told(tmp_path: Path) -> None:
    place = log(tmp_path, [*TOLD, {"event": "Defect", "message": "KeyError", "traceback": "…"}])
    with place.open("a") as more:
        more.write("Traceback (most recent call last):\n")
    assert len(daemonlog.problems([place])) == 2


def test_a_log_is_whole_though_its_daemon_may_write_no_file(tmp_path: Path) -> None:
    script = (
        "import os, resource, nursery\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "nursery._through_a_pipe()\n"
        "os.write(2, b'a line\\n' * 1000)\n"
    )
    with (tmp_path / "log").open("wb") as told:
        command = [sys.executable, "-c", script]
        subprocess.run(command, cwd=Path(__file__).parent, stderr=told, check=True)
    deadline = time.monotonic() + 30
    while (tmp_path / "log").read_bytes() != b"a line\n" * 1000:
        assert time.monotonic() < deadline, (tmp_path / "log").read_bytes()
        time.sleep(0.02)


def test_a_stay_in_the_guarded_stage_without_its_approval_is_seen() -> None:
    asked = {"promotion": "m0-guarded", "alias": "guarded", "digest": "sha256:d"}
    let_in: dict[str, Any] = {**stay(**asked), "approvedBy": [{"who": "ben@example.com", "how": "tag"}]}
    approved = oracle.Memory(approved={("m0-guarded", "1.0.0", "sha256:d")})

    def problems(row: dict[str, Any], memory: oracle.Memory) -> list[str]:
        seen = world()
        seen["versions"][0]["tags"]["mlops.stage.guarded.history"] = json.dumps([row])
        return list(oracle._unapproved(seen, team(), memory))

    assert problems(let_in, approved) == []
    assert "without an approval" in problems(let_in, oracle.Memory())[0]
    assert "without an approval" in problems({**let_in, "digest": "sha256:e"}, approved)[0]
    assert "was let into guarded by" in problems({**let_in, "approvedBy": []}, approved)[0]
