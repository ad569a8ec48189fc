"""Rules about one document that look at several of its fields.

They read the fields of broken documents, too, so that one pass names every mistake.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlops.resources.experiment import placeholders
from mlops.resources.fields import View, find, steps, value_at
from mlops.resources.monitoring_rules import policy_rules
from mlops.resources.nearest import Nearest
from mlops.resources.problem import Finding, shown
from mlops.resources.project import ONE_PERSON, shared_proofs
from mlops.resources.stage import alias_refusal

_COMMAND = steps("spec.command.*")
_ENTRY_POINT = steps("spec.entryPoint")
_PARAMETERS = steps("spec.parameters.*")
_SWEPT = steps("spec.sweep.parameters.*")
_AFTER = steps("spec.after")
_ALIAS = steps("spec.alias")
_NAME = steps("metadata.name")
_EXCLUSIVE = {
    "Experiment": [(steps("spec.command"), steps("spec.entryPoint"))],
    "ModelVersion": [(steps("spec.source.experiment"), steps("spec.source.runId"))],
    "Project": [(steps("spec.forge.github"), steps("spec.forge.azureDevOps"))],
}
_APPROVERS = steps("spec.approvers")
_SOAKS = steps("spec.gates.*.soak")


def break_rules(kind: str, view: View, nearest: Nearest) -> Iterator[Finding]:
    """What is wrong with one document beyond its single fields."""
    for first, second in _EXCLUSIVE.get(kind, ()):
        other = find(view, first)
        for path, _ in find(view, second) if other else ():
            name = other[0][0][-1]
            yield Finding(path, f"stands beside {name}", f"Keep one of {name} and {path[-1]}.")
    if kind == "Experiment":
        yield from _experiment(view, nearest)
    elif kind == "Stage":
        yield from _stage(view)
    elif kind == "Project":
        yield from _approvers(view)
    elif kind == "MonitoringPolicy":
        yield from policy_rules(view, nearest)


def _experiment(view: View, nearest: Nearest) -> Iterator[Finding]:
    command = find(view, _COMMAND)
    declared = {path[-1] for path, _ in find(view, _PARAMETERS)}
    swept = find(view, _SWEPT)
    known = declared | {path[-1] for path, _ in swept}
    asked: set[str] = set()
    for path, argument in command:
        for name in placeholders(argument) if isinstance(argument, str) else ():
            asked.add(name)
            if name not in known:
                yield Finding(path, f"{{{name}}} names no parameter", _parameter_fix(name, known, nearest))
    # Code may read a swept parameter from its environment, so only a declared set of parameters is binding.
    if declared and not find(view, _ENTRY_POINT):
        for path, _ in swept:
            name = str(path[-1])
            if name not in declared and name not in asked:
                yield Finding(
                    path, "names no parameter", _parameter_fix(name, declared, nearest), on_key=True
                )


def _parameter_fix(name: str, known: set[str | int], nearest: Nearest) -> str:
    near = nearest.nearest(name, [str(each) for each in known])
    return f"Did you mean {near}?" if near else f"Add {shown(name, 'it')} to spec.parameters."


def _approvers(view: View) -> Iterator[Finding]:
    approvers = value_at(view, _APPROVERS)
    if isinstance(approvers, list):
        for index, field, what in shared_proofs(
            [each if isinstance(each, dict) else {} for each in approvers]
        ):
            yield Finding(("spec", "approvers", index, field), what, ONE_PERSON)


def _stage(view: View) -> Iterator[Finding]:
    if not find(view, _AFTER):
        for path, _ in find(view, _SOAKS):
            yield Finding(path, "has no stage to soak in", "Name one in spec.after, or remove this gate.")
    if not find(view, _ALIAS):
        for path, name in find(view, _NAME):
            if isinstance(name, str) and (why := alias_refusal(name)):
                yield Finding(path, f"is also the alias in MLflow, and {why}", "Give spec.alias another one.")
