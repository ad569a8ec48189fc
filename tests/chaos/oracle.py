"""What has to hold, looked at from outside: in MLflow, in the daemons' logs, and on the machine."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.declared import GUARDED, STAGES, Declared, wanted
from chaos.meddling import PROJECT, STAGE_FIELDS, STRANGER
from chaos.repository import Team

World = Mapping[str, Any]
_STAGE: Final = "mlops.stage."
# Of a version that was bound earlier than the fresh one these may differ: they say to what, when and where it was.
_OF_BINDING: Final = frozenset(
    {"mlops.bound", "mlops.digest", "mlops.fingerprint", "mlops.revision", "mlops.declared", "mlops.archived"}
)


@dataclass
class Memory:
    """What was seen and done so far, beside what the world tells."""

    bound: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)  # as a version was first seen
    strangers: set[str] = field(default_factory=set)
    killed: set[str] = field(default_factory=set)  # runs whose processes a fault killed
    approved: set[tuple[str, str, str]] = field(default_factory=set)  # promotion, version, digest
    disk_was_full: bool = False
    clock_went_back: bool = False


def invariants(world: World, team: Team, memory: Memory) -> Iterator[str]:
    """What holds whenever nothing is left to do, whatever happened before.

    What is suspended is left as it is, and so are the tags of what left git.
    """
    yield from _runs(world, memory)
    yield from _versions(world, team, memory)
    yield from _stays(world, team, memory)
    yield from _unapproved(world, team, memory)
    yield from _strangers(world, memory)


def _runs(world: World, memory: Memory) -> Iterator[str]:
    succeeded: Counter[str] = Counter()
    attempts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in world["runs"]:
        tags = run["tags"]
        fingerprint, outcome = tags.get("mlops.fingerprint"), tags.get("mlops.outcome")
        if fingerprint is None:
            continue
        if outcome is None:
            yield f"run {run['id']} is open ({run['status']}), and nothing is left to do"
        expected = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}.get(str(outcome))
        if outcome is not None and run["status"] != expected:
            yield f"run {run['id']} is {run['status']}, its outcome is {outcome}"
        succeeded[fingerprint] += outcome == "succeeded"
        if outcome != "cancelled":
            attempts[fingerprint][tags.get("mlops.attempt", "")] += 1
        meant = "exit" in run["parameters"] or memory.disk_was_full or run["id"] in memory.killed
        if outcome == "failed" and not meant:
            yield f"run {run['id']} failed, and nobody touched it: {tags.get('mlops.message')}"
    for fingerprint, count in succeeded.items():
        if count > 1:
            yield f"{count} runs succeeded for the fingerprint {fingerprint[:12]}"
    for fingerprint, numbers in attempts.items():
        for number, count in numbers.items():
            if count > 1:
                yield f"{count} runs are attempt {number} of {fingerprint[:12]}"


def _versions(world: World, team: Team, memory: Memory) -> Iterator[str]:
    runs = {run["id"]: run for run in world["runs"]}
    numbers: Counter[tuple[str, str]] = Counter()
    for version in world["versions"]:
        tags, name = version["tags"], f"{version['model']} v{version['number']}"
        if STRANGER in tags:
            continue
        left = "mlops.archived" in tags or frozen(world, team, str(tags.get("mlops.resource")))
        run = runs.get(version["run"])
        if run is None or run["tags"].get("mlops.outcome") != "succeeded":
            yield f"{name} is bound to the run {version['run']}, which did not succeed"
        elif run["tags"].get("mlops.fingerprint") != tags.get("mlops.fingerprint") and not left:
            yield f"{name} has another fingerprint than its run"
        if not left:
            numbers[version["model"], tags.get("mlops.version", "")] += 1
        identity = (str(version["run"]), tags.get("mlops.digest", ""), tags.get("mlops.version", ""))
        before = memory.bound.setdefault((version["model"], version["number"]), identity)
        if before != identity and not left:
            yield f"{name} was {before}, and is {identity}"
    for (model, number), count in numbers.items():
        if count > 1:
            yield f"{model} {number} was registered {count} times"


def stays_of(version: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """A version's stays by stage, oldest first."""
    return {
        tag.split(".")[2]: [stay for stay in json.loads(text) if "older" not in stay]
        for tag, text in version["tags"].items()
        if tag.startswith(_STAGE) and tag.endswith(".history")
    }


def _stays(world: World, team: Team, memory: Memory) -> Iterator[str]:
    rows: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for version in world["versions"]:
        for stage, stays in stays_of(version).items():
            name = f"{version['model']} v{version['number']} in {stage}"
            for stay in stays:
                rows[version["model"], stage].append((version["number"], stay))
                if stay["revision"] not in team.parents:
                    yield f"{name}: promoted by {stay['revision']}, which is no commit"
                if "until" in stay and stay["until"] < stay["since"]:
                    yield f"{name}: its stay since {stay['since']} ended before, {stay['until']}"
            if sum("until" not in stay for stay in stays[:-1]):
                yield f"{name}: a stay that is not the last one lasts: {stays}"
            if not memory.clock_went_back and stays != sorted(stays, key=lambda stay: stay["since"]):
                yield f"{name}: its stays are not in the order of time: {stays}"
            last = stays[-1]
            kept = "until" not in last and not _left_alone(world, team, version["model"], stage)
            for part in STAGE_FIELDS if kept else ():
                tag = version["tags"].get(f"{_STAGE}{stage}.{part}")
                if tag != last.get(part) and "mlops.archived" not in version["tags"]:
                    yield f"{name}: the tag {part} is {tag!r}, its history says {last.get(part)!r}"
    for (model, stage), found in rows.items():
        lasting = [number for number, stay in found if "until" not in stay]
        if len(lasting) > 1:
            yield f"{model}: versions {lasting} are in {stage} at once"
        found.sort(key=lambda row: (row[1]["since"], row[1].get("until", "9")))
        for (number, stay), (other, later) in itertools.pairwise(found):
            again = number == other and stay.get("until") == later["since"]
            if again or (number, stay["since"]) == (other, later["since"]):
                yield f"{model} v{number} was promoted to {stage} twice: {stay} and {later}"
            if not memory.clock_went_back and stay.get("until", "9") > later["since"]:
                yield f"{model}: stays in {stage} overlap: v{number} {stay} and v{other} {later}"
        aliases = world["models"][model]["aliases"]
        for number, stay in found:
            wrong = "until" not in stay and aliases.get(stay["alias"]) != number
            if wrong and not _left_alone(world, team, model, stage):
                yield f"{model}: alias {stay['alias']} is {aliases.get(stay['alias'])}, v{number} is in {stage}"
    ours = {
        (model, stay["alias"], number)
        for (model, _), found in rows.items()
        for number, stay in found
        if "until" not in stay
    }
    for model, seen in world["models"].items():
        for alias, number in seen["aliases"].items():
            stages = [stage for stage in (*STAGES, GUARDED) if alias in (stage, "champion")]
            alone = any(_left_alone(world, team, model, stage) for stage in stages)
            if alias != STRANGER and (model, alias, number) not in ours and not alone:
                yield f"{model}: alias {alias} → v{number}, which is in no such stage"


def _unapproved(world: World, team: Team, memory: Memory) -> Iterator[str]:
    """Stays in the guarded stage that nobody who may let in."""
    for version in world["versions"]:
        tags, name = version["tags"], f"{version['model']} v{version['number']}"
        if "mlops.archived" in tags or _left_alone(world, team, version["model"], GUARDED):
            continue
        for stay in stays_of(version).get(GUARDED, ()):
            asked = (stay["promotion"], tags.get("mlops.version"), stay["digest"])
            if asked not in memory.approved:
                yield f"{name} was let into {GUARDED} without an approval: {stay}"
            if [row["who"] for row in stay.get("approvedBy", ())] != ["ben@example.com"]:
                yield f"{name} was let into {GUARDED} by {stay.get('approvedBy')}"


def proposals(team: Team) -> Iterator[str]:
    """Each proposal is one commit of one branch, on something that the team committed."""
    form = "--format=%(refname:short) %(objectname)"
    for line in team.git("for-each-ref", form, "refs/heads/mlops/").splitlines():
        branch, commit = line.split(" ")
        row = team.git("rev-list", "--max-count=1", "--parents", commit).split()
        if len(row) != 2 or row[1] not in team.parents:
            yield f"{branch} holds more than one commit of its own: {row}"


def frozen(world: World, team: Team, key: str) -> bool:
    """Whether a resource may be left as somebody made it.

    It is suspended at the revision in force, or in the last good text of it; or that revision lacks it, and has broken
    documents, so that its removal is put off.
    """
    tags = world["experiments"].get(PROJECT, {})
    now = team.declared.get(tags.get("mlops.applied.revision"))
    if now is not None and not now.whole and not now.holds(key):
        return True
    good = team.declared.get(tags.get("mlops.applied.good"))
    return any(made.documents.get(key, {"spec": {}})["spec"].get("suspend") for made in (now, good) if made)


def _left_alone(world: World, team: Team, model: str, stage: str) -> bool:
    return frozen(world, team, f"Stage/{stage}") or frozen(world, team, f"Promotion/{model}-{stage}")


def _strangers(world: World, memory: Memory) -> Iterator[str]:
    seen = {f"run {r['id']}" for r in world["runs"] if STRANGER in r["tags"] and r["status"] == "RUNNING"}
    seen |= {f"{v['model']} v{v['number']}" for v in world["versions"] if STRANGER in v["tags"]}
    for gone in sorted(memory.strangers - seen):
        yield f"{gone} is not the daemon's, and it touched it"
    memory.strangers |= seen


# -- against a fresh apply


def differences(world: World, fresh: World, declared: Declared, head: str) -> Iterator[str]:
    """What a world that went through everything and one that was applied once do not have in common."""
    yield from _compare("the project", _in_force(world), _in_force(fresh))
    project = world["experiments"].get(PROJECT, {})
    if project.get("mlops.applied.revision") != head or project.get("mlops.applied.good") != head:
        yield f"in force is {project}, not {head}"
    for name in declared.names("Experiment"):
        full = f"{PROJECT}/{name}"
        yield from _compare(full, world["experiments"].get(full), fresh["experiments"].get(full))
    for model in declared.names("Model"):
        yield from _compare(model, _unguarded(_model(world, model)), _unguarded(_model(fresh, model)))
        yield from _numbered(world, fresh, model)
    trained, retrained = _trained(world), _trained(fresh)
    for fingerprint, run in retrained.items():
        yield from _compare(f"the run of {fingerprint[:12]}", trained.get(fingerprint), run)
    yield from _not_as_asked(world, declared)


def shut_out(world: World, declared: Declared) -> Iterator[str]:
    """What is asked for in the guarded stage and is not there."""
    return (said for said in _not_as_asked(world, declared) if f": {GUARDED} is " in said)


def _not_as_asked(world: World, declared: Declared) -> Iterator[str]:
    for model, alias, version in wanted(declared):
        if (found := _model(world, model)["aliases"].get(alias)) != version:
            yield f"{model}: {alias} is {found}, git says {version}"


def _in_force(world: World) -> dict[str, str]:
    tags = dict(world["experiments"].get(PROJECT, {}))
    tags.pop("mlops.applied.at", None)
    return tags


def _model(world: World, model: str) -> dict[str, Any]:
    seen = world["models"].get(model, {"description": None, "tags": {}, "aliases": {}})
    numbers = {v["number"]: v["tags"].get("mlops.version") for v in world["versions"] if v["model"] == model}
    return {
        "description": seen["description"],
        "tags": {
            tag: value
            for tag, value in seen["tags"].items()
            if not tag.startswith("mlops.asked.") and value != "by hand"
        },
        "aliases": {a: numbers.get(number) for a, number in seen["aliases"].items() if a != STRANGER},
    }


def _unguarded(seen: dict[str, Any]) -> dict[str, Any]:
    """Without the guarded stage: in a fresh world a version may have other bytes than those that were approved."""
    return {**seen, "aliases": {alias: at for alias, at in seen["aliases"].items() if alias != GUARDED}}


def _numbered(world: World, fresh: World, model: str) -> Iterator[str]:
    """The declared versions of a model, by their own number."""
    ours, theirs = _by_number(world, model), _by_number(fresh, model)
    for number, version in theirs.items():
        other = ours.get(number)
        if other is None:
            yield f"{model} {number} is not there"
            continue
        same = other["tags"].get("mlops.fingerprint") == version["tags"].get("mlops.fingerprint")
        # `mlops.bound` says the digest and the fingerprint again, which are compared, and the revision.
        left_out = frozenset({"mlops.revision", "mlops.bound"}) if same else _OF_BINDING
        yield from _compare(f"{model} {number}", _plain(other, left_out), _plain(version, left_out))


def _by_number(world: World, model: str) -> dict[str, Mapping[str, Any]]:
    return {
        v["tags"]["mlops.version"]: v
        for v in world["versions"]
        if v["model"] == model and "mlops.version" in v["tags"] and "mlops.archived" not in v["tags"]
    }


def _plain(version: Mapping[str, Any], left_out: Iterable[str]) -> dict[str, Any]:
    tags = version["tags"]
    return {
        "description": version["description"],
        "in": sorted(
            stage
            for stage, stays in stays_of(version).items()
            if "until" not in stays[-1] and stage != GUARDED
        ),
        "tags": {
            tag: value
            for tag, value in tags.items()
            if not tag.startswith(_STAGE) and tag not in left_out and value != "by hand"
        },
    }


def _trained(world: World) -> dict[str, dict[str, Any]]:
    return {
        run["tags"]["mlops.fingerprint"]: {
            "experiment": run["experiment"],
            "metrics": run["metrics"],
            "parameters": run["parameters"],
            "inputs": run["inputs"],
            "status": run["status"],
        }
        for run in world["runs"]
        if run["tags"].get("mlops.outcome") == "succeeded"
    }


def _compare(what: str, ours: Any, theirs: Any) -> Iterator[str]:
    if ours == theirs:
        return
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in sorted({*ours, *theirs}):
            yield from _compare(f"{what}: {key}", ours.get(key), theirs.get(key))
    else:
        yield f"{what}: {ours!r}, a fresh apply has {theirs!r}"


# -- what really ran


def executions(lines: Iterable[str], world: World, memory: Memory) -> Iterator[str]:
    """From what the training commands noted themselves: none ran twice, and none to its end in vain."""
    begun: Counter[str] = Counter()
    ended: set[str] = set()
    for line in lines:
        what, _, run = line.strip().partition(" ")
        if what == "begun":
            begun[run] += 1
        else:
            ended.add(run)
    for run, count in begun.items():
        if count > 1:
            yield f"the job of run {run} was executed {count} times"
    outcomes = {run["id"]: run["tags"].get("mlops.outcome") for run in world["runs"]}
    for run in sorted(ended):
        if outcomes.get(run) == "failed" and run not in memory.killed and not memory.disk_was_full:
            yield f"run {run} was trained to its end, and failed"
        if run not in outcomes:
            yield f"run {run} was trained, and MLflow does not have it"
