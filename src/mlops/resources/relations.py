"""What has to hold between documents: each reference leads somewhere, nothing is declared twice, no cycles.

Every check is linear in the number of documents, and looks at broken ones, too. What points at a document
that is there but broken is right itself; the plan blocks it until the other is mended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from mlops.resources.documents import Record
from mlops.resources.fields import View, steps, text_at, value_at
from mlops.resources.key import Key
from mlops.resources.monitoring_rules import policy_relations
from mlops.resources.nearest import Nearest
from mlops.resources.problem import Finding, shown
from mlops.resources.promotion import LATEST
from mlops.resources.references import references_in
from mlops.resources.semver import is_semver

Found = Iterator[tuple[Record, Finding]]

_NAME = steps("metadata.name")
_AFTER = steps("spec.after")
_ALIAS = steps("spec.alias")
_APPROVALS = steps("spec.approvals")
_REGISTERED = steps("spec.registeredName")
_MODEL = steps("spec.model")
_STAGE = steps("spec.stage")
_VERSION = steps("spec.version")
_EXPERIMENT = steps("spec.source.experiment")
_OBJECTIVE = steps("spec.objective")
_SWEEP = steps("spec.sweep")
_SHOWN_CYCLE = 12

Identity = tuple[str | None, ...]


def _alias(view: View) -> Identity:
    return (text_at(view, _ALIAS) or text_at(view, _NAME),)


def _registered_name(view: View) -> Identity:
    return (text_at(view, _REGISTERED) or text_at(view, _NAME),)


def _number(view: View) -> Identity:
    return (text_at(view, _MODEL), text_at(view, _VERSION))


def _promoted(view: View) -> Identity:
    return (text_at(view, _MODEL), text_at(view, _STAGE))


# kind: what may stand once only, the field to name, what is wrong
_UNIQUE: dict[str, tuple[Callable[[View], Identity], tuple[str, str], str]] = {
    "Stage": (_alias, ("spec", "alias"), "is the alias of another stage"),
    "Model": (_registered_name, ("spec", "registeredName"), "is the registered name of another model"),
    "ModelVersion": (_number, ("spec", "version"), "is the number of another version of this model"),
    "Promotion": (_promoted, ("spec", "stage"), "already has a promotion of this model"),
}


def check_relations(records: Iterable[Record], nearest: Nearest) -> Found:
    """Everything that is wrong between documents, with the document that has to change.

    Args:
        records: all documents of a project.
        nearest: suggests names.
    """
    by_kind: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_kind[record.key.kind].append(record)
    by_key: dict[Key, list[Record]] = defaultdict(list)
    for group in by_kind.values():
        for record in group:
            by_key[record.key].append(record)
    yield from _declared_twice(by_key)
    yield from _dangling(by_kind, by_key, nearest)
    yield from _not_unique(by_kind)
    yield from _cycles(by_kind["Stage"])
    yield from _promotions(by_kind, by_key, nearest)
    yield from _bound_without_objective(by_kind["ModelVersion"], by_key)
    yield from _policies(by_kind["MonitoringPolicy"], by_key, nearest)


def _parsed(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.ordinal >= 0]


def _others(record: Record, group: list[Record]) -> str:
    other = next(each for each in group if each is not record)
    return f"{other.key} at {other.location}"


def _declared_twice(by_key: dict[Key, list[Record]]) -> Found:
    for group in by_key.values():
        if len(group) > 1 and len(same := _parsed(group)) > 1:
            for record in same:
                what = f"is declared {len(same)} times, also at {_others(record, same).partition(' at ')[2]}"
                yield record, Finding(("metadata", "name"), what, "Rename or remove one of them.")


def _dangling(by_kind: dict[str, list[Record]], by_key: dict[Key, list[Record]], nearest: Nearest) -> Found:
    names = {kind: list(dict.fromkeys(r.key.name for r in records)) for kind, records in by_kind.items()}
    for kind, records in by_kind.items():
        for record in _parsed(records):
            for path, target in references_in(kind, record.values):
                if target not in by_key:
                    near = nearest.nearest(target.name, names.get(target.kind, []))
                    fix = f"Did you mean {near}?" if near else f"Declare that {target.kind}, or name another."
                    yield (
                        record,
                        Finding(path, f"there is no {target.kind} {shown(target.name, 'of that name')}", fix),
                    )


def _not_unique(by_kind: dict[str, list[Record]]) -> Found:
    for kind, (identity, field, what) in _UNIQUE.items():
        groups: dict[Identity, list[Record]] = defaultdict(list)
        for record in _parsed(by_kind[kind]):
            groups[identity(record.values)].append(record)
        for found, group in groups.items():
            if len(group) > 1 and None not in found and len({record.key for record in group}) > 1:
                for record in group:
                    given = value_at(record.values, steps(".".join(field))) is not None
                    path = field if given else ("metadata", "name")
                    yield (
                        record,
                        Finding(path, f"{what}: {_others(record, group)}", "Change or remove one of them."),
                    )


def _cycles(stages: list[Record]) -> Found:
    """Stages that come after themselves; each has at most one `after`, so one walk finds every cycle."""
    after = {record.key.name: text_at(record.values, _AFTER) for record in _parsed(stages)}
    cycles: dict[str, str] = {}
    done: set[str] = set()
    for start in after:
        walk: dict[str, None] = {}
        name: str | None = start
        while name in after and name not in done and name not in walk:
            walk[name] = None
            name = after[name]
        done.update(walk)
        if name is not None and name in walk:
            names = list(walk)[list(walk).index(name) :]
            more = ["…"] if len(names) > _SHOWN_CYCLE else []
            cycle = " → ".join([*names[:_SHOWN_CYCLE], *more, name])
            cycles.update(dict.fromkeys(names, f"the stages form a cycle: {cycle}"))
    for record in _parsed(stages):
        if what := cycles.get(record.key.name):
            yield record, Finding(("spec", "after"), what, "Break it at one of them.")


def _promotions(by_kind: dict[str, list[Record]], by_key: dict[Key, list[Record]], nearest: Nearest) -> Found:
    declared: dict[str, set[str]] = defaultdict(set)
    unsure: list[Record] = []
    for version in by_kind["ModelVersion"]:
        model, number = _number(version.values)
        if model and number and (version.valid or is_semver(number)):
            declared[model].add(number)
        else:
            unsure.append(version)
    # What a broken document meant is not known where its model or number is not.
    unsure_models = {_number(version.values)[0] for version in unsure}
    for record in _parsed(by_kind["Promotion"]):
        model, number = _number(record.values)
        if number == LATEST:
            stage = by_key.get(Key("Stage", text_at(record.values, _STAGE) or ""), [])
            if any(value_at(each.values, _APPROVALS) is not None for each in stage):
                what = "cannot be latest, as the stage asks for approvals"
                yield record, Finding(("spec", "version"), what, "Name the version that is to be approved.")
        elif model and number and Key("Model", model) in by_key and number not in declared[model]:
            if model in unsure_models or None in unsure_models:
                continue
            near = nearest.nearest(number, declared[model])
            fix = f"Did you mean {near}?" if near else "Declare that ModelVersion first."
            yield (
                record,
                Finding(
                    ("spec", "version"), f"{model} has no version {shown(number, 'of that number')}", fix
                ),
            )


def _bound_without_objective(versions: list[Record], by_key: dict[Key, list[Record]]) -> Found:
    for record in _parsed(versions):
        name = text_at(record.values, _EXPERIMENT)
        for experiment in by_key.get(Key("Experiment", name), ()) if name else ():
            if (
                experiment.ordinal >= 0
                and value_at(experiment.values, _SWEEP) is not None
                and value_at(experiment.values, _OBJECTIVE) is None
            ):
                what = f"the experiment {shown(name)} has a sweep and no objective, so it has no best run"
                yield (
                    record,
                    Finding(("spec", "source", "experiment"), what, f"Give {name} a spec.objective."),
                )


def _policies(policies: list[Record], by_key: dict[Key, list[Record]], nearest: Nearest) -> Found:
    def known(key: Key) -> View | None:
        return next((record.values for record in by_key.get(key, ()) if record.ordinal >= 0), None)

    for record in _parsed(policies):
        for finding in policy_relations(record.values, known, nearest):
            yield record, finding
