"""A broken revision: what is good in it counts, what is broken in it stays as it was at the last good one.

What depends on something broken stays as it was, too: its text was written for a text that nobody can read.
The mixture satisfies what has to hold between documents, as every whole revision does; where the two revisions
do not go together, the last good one wins.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from mlops.resources.built import Built
from mlops.resources.dataset import Dataset
from mlops.resources.documents import Record
from mlops.resources.fields import steps, text_at
from mlops.resources.key import Key
from mlops.resources.loading import Loaded
from mlops.resources.nearest import Nearest
from mlops.resources.problem import FieldPath, Problem, field_name
from mlops.resources.project import Project
from mlops.resources.project_files import PROJECT_FILE
from mlops.resources.promotion import LATEST
from mlops.resources.references import references_in
from mlops.resources.relations import check_relations
from mlops.resources.semver import is_semver, semver_key
from mlops.resources.surroundings import check_lists, lists_of

_MODEL = steps("spec.model")
_VERSION = steps("spec.version")
_PROMOTED: Final[FieldPath] = ("spec", "version")
_MOST_ROUNDS: Final = 20  # of looking for conflicts; after these nothing of the revision counts


def hold(loaded: Loaded, good: Loaded) -> Loaded:
    """The resources that are to be while a revision is broken.

    Args:
        loaded: the revision; given back as it is if it is whole.
        good: the last good revision, which is whole.

    Returns:
        `loaded` with the last good text of what is broken in it; `invalid` are those that have none.
    """
    return loaded if loaded.whole else _Mixture(loaded, good).loaded()


@dataclass(frozen=True, slots=True)
class _Versions:
    """The ModelVersions of a revision, broken ones among them as far as they can be read."""

    numbers: Mapping[tuple[str, str], Key]  # by model and number
    by_model: Mapping[str, Mapping[str, Key]]  # by model, then by number
    unsure: Mapping[str | None, list[Key]]  # by model, or None: those whose number or model cannot be read

    @classmethod
    def of(cls, records: Iterable[Record]) -> _Versions:
        numbers: dict[tuple[str, str], Key] = {}
        by_model: dict[str, dict[str, Key]] = defaultdict(dict)
        unsure: dict[str | None, list[Key]] = defaultdict(list)
        for record in records:
            if record.key.kind != "ModelVersion":
                continue
            model, number = text_at(record.values, _MODEL), text_at(record.values, _VERSION)
            if model and number and (record.valid or is_semver(number)):
                numbers[model, number] = by_model[model][number] = record.key
            else:
                unsure[model].append(record.key)
        return cls(numbers, by_model, unsure)

    def needs(self, record: Record) -> list[tuple[FieldPath, Key]]:
        """What a document refers to, each with the field that does; `latest` refers to all versions."""
        found = list(references_in(record.key.kind, record.values))
        if record.key.kind == "Promotion":
            model, number = text_at(record.values, _MODEL) or "", text_at(record.values, _VERSION) or ""
            known = self.numbers.get((model, number))
            versions = [known] if known is not None else list(self.by_model.get(model, {}).values())
            if known is None:
                versions += [*self.unsure.get(model, ()), *self.unsure.get(None, ())]
            found += [(_PROMOTED, key) for key in versions]
        return found

    def pinned(self, record: Record) -> Record:
        """A Promotion that asks for `latest`, as it was meant among these versions; any other as it is."""
        if record.key.kind != "Promotion" or text_at(record.values, _VERSION) != LATEST:
            return record
        numbers = self.by_model.get(text_at(record.values, _MODEL) or "", {})
        if not numbers:
            return record
        assert isinstance(record.values, dict)  # a Promotion is kept as it is written
        spec: Mapping[str, Any] = {**record.values["spec"], "version": max(numbers, key=semver_key)}
        return record._replace(values={**record.values, "spec": spec}, resource=None)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The last good text of a resource, and why it counts."""

    record: Record
    why: str


class _Mixture:
    """The work of `hold`: which texts of the revision do not count, and what stands in their place."""

    def __init__(self, new: Loaded, good: Loaded) -> None:
        self.new = new
        self.good = good
        self.ours = new.resources.records
        self.theirs = good.resources.records
        self.versions = _Versions.of(self.theirs.values())
        self.nearest = Nearest()
        self.refused: dict[Key, str] = {}  # why the text at the revision does not count
        self.feeds: dict[Key, list[Key]] = defaultdict(list)
        versions = _Versions.of(new.records)
        for key, record in self.ours.items():
            for _, needed in versions.needs(record):
                self.feeds[needed].append(key)
        self._refuse_broken()
        self._refuse_absent()
        self._refuse_unlisted()

    def loaded(self) -> Loaded:
        """The mixture, once nothing in it conflicts."""
        taken, kept = self._taken(), self._kept()
        for _ in range(_MOST_ROUNDS):
            if not (conflicts := self._conflicts(taken, kept)):
                break
            self._refuse(conflicts, "text", "does not go together with what is kept")
            taken, kept = self._taken(), self._kept()
        else:
            everything = {key: "see the others" for key in taken if key.kind != "Project"}
            self._refuse(everything, "text", "does not go together with what is kept")
            taken, kept = self._taken(), self._kept()
        resources = Built({**taken, **{key: one.record for key, one in kept.items()}})
        left_out = self.refused.keys() - resources.keys()
        why = {key: f"{one.why}; it is kept as at {self.good.place}" for key, one in kept.items()}
        for key in left_out - self.new.invalid:
            why[key] = (
                f"{self.refused[key]}; at {self.good.place}, the last good revision, it was not declared"
            )
        assert self.good.project is not None
        project = self.new.project or cast(Project, resources[self.good.project.key])
        return replace(
            self.new,
            project=project,
            resources=resources,
            invalid=frozenset((self.new.invalid | left_out) - resources.keys()),
            kept=frozenset(kept),
            why=why,
            kept_data=self._data(taken, kept),
        )

    def _refuse(self, found: Mapping[Key, str], what: str, verdict: str) -> None:
        """Do without these texts of the revision, and without those that need them."""
        place = self.new.place
        for key, detail in found.items():
            self.refused[key] = f"its {what} at {place} {verdict}: {detail}"
        for key in found:
            todo = deque(self.feeds[key])
            while todo:
                user = todo.popleft()
                if user not in self.refused:
                    self.refused[user] = f"it needs {key}, whose {what} at {place} {verdict}"
                    todo += self.feeds[user]

    def _refuse_broken(self) -> None:
        first: dict[str, Problem] = {}
        for problem in self.new.problems:
            first.setdefault(problem.resource or problem.location.file, problem)
        broken = {}
        for key in sorted(self.new.invalid):
            location = self.new.locations[key]
            found = first.get(str(key)) or first.get(location.file)
            broken[key] = _told(found) if found else str(location)
        if self.new.project is None and (project := self.good.project) is not None:
            problems = sorted(self.new.problems, key=lambda problem: problem.location.file != PROJECT_FILE)
            broken.setdefault(project.key, _told(problems[0]))
        self._refuse(broken, "document", "is broken")

    def _refuse_absent(self) -> None:
        """Where a file cannot be read, nobody knows that what is absent was removed."""
        if self.new.unreadable:
            why = f"{self.new.unreadable[0]} cannot be read at {self.new.place}, and it may be declared there"
        elif self.new.project is None:
            why = f"the Project at {self.new.place} is broken, and may name other folders of resources"
        else:
            return
        for key in self.theirs.keys() - self.ours.keys():
            if key.kind != "Project":
                self.refused.setdefault(key, why)

    def _refuse_unlisted(self) -> None:
        """Where the Project stays as it was, so do the lists that others may choose from."""
        if self.new.project is not None or self.good.project is None:
            return
        lists = lists_of([self.theirs[self.good.project.key]])
        for key, record in self.ours.items():
            for _, finding in () if key in self.refused else check_lists(record, lists, self.nearest):
                detail = f"{field_name(finding.path)}: {finding.what}"
                self._refuse({key: detail}, "text", "does not go together with the Project that is kept")
                break

    def _taken(self) -> dict[Key, Record]:
        return {key: record for key, record in self.ours.items() if key not in self.refused}

    def _kept(self) -> dict[Key, _Kept]:
        """The last good text of what is refused, and of what that needs and the revision lacks."""
        projects = {self.good.project.key} if self.new.project is None and self.good.project else set()
        kept: dict[Key, _Kept] = {}
        for key, why in self.refused.items():
            if key in self.theirs and (key.kind != "Project" or key in projects):
                kept[key] = _Kept(self.versions.pinned(self.theirs[key]), why)
        numbers = _Versions.of(record for key, record in self.ours.items() if key not in self.refused).numbers
        todo = deque(kept)
        while todo:
            user = todo.popleft()
            record = kept[user].record
            for path, needed in self.versions.needs(record):
                number = (text_at(record.values, _MODEL) or "", text_at(record.values, _VERSION) or "")
                there = needed in self.ours and needed not in self.refused
                if there or needed in kept or (path == _PROMOTED and number in numbers):
                    continue
                why = f"it is not declared at {self.new.place}, but {user}, which is kept, needs it"
                kept[needed] = _Kept(self.versions.pinned(self.theirs[needed]), why)
                todo.append(needed)
        return kept

    def _conflicts(self, taken: Mapping[Key, Record], kept: Mapping[Key, _Kept]) -> dict[Key, str]:
        """The texts of the revision that go together with each other, but not with what is kept."""
        records = [*taken.values(), *(one.record for one in kept.values())]
        direct: dict[Key, str] = {}
        needed: dict[Key, str] = {}
        for record, finding in check_relations(records, self.nearest):
            detail = f"{field_name(finding.path)}: {finding.what}"
            if record.key in taken:
                direct.setdefault(record.key, detail)
                continue
            for path, key in self.versions.needs(record):
                if path == finding.path and key in taken:
                    needed.setdefault(key, f"{record.key}: {detail}")
        return direct or needed

    def _data(self, taken: Mapping[Key, Record], kept: Mapping[Key, _Kept]) -> dict[str, Dataset]:
        """The datasets that kept experiments were trained on, where the revision has others of their names."""
        return {
            key.name: cast(Dataset, self.good.resources[key])
            for one in kept.values()
            if one.record.key.kind == "Experiment"
            for _, key in self.versions.needs(one.record)
            if key in taken
        }


def _told(problem: Problem) -> str:
    what = f"{problem.field}: {problem.what}" if problem.field else problem.what
    return f"{problem.location}: {what}"
