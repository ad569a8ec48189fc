"""What the team of a chaos run declares, and how a commit changes it: everything is drawn from one seed.

Changes stay within a small set of parameters, so that going back and forth meets fingerprints that were trained
before. A version number is never given twice, also not on two branches of a rewritten history.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

Document = dict[str, Any]
DEPTHS: Final = (1, 2, 4)
PAUSES: Final = (0, 0, 0.2, 0.8)  # seconds that a training takes beside starting
ROWS: Final = (2, 3, 4)
CODES: Final = 3  # variants of a training script
RETRIES: Final = 100  # kills must not use them up: what is stalled by chance would not be comparable
STAGES: Final = ("dev", "staging", "prod")
GUARDED: Final = "guarded"  # a stage beside the others, that asks for an approval
BROKEN_VERSION: Final = "99.9.9"

TRAIN = """\
import json, os, pathlib, sys, time
out = pathlib.Path(os.environ["MLOPS_OUTPUT"])
depth = float(os.environ["MLOPS_PARAM_DEPTH"])
if "MLOPS_PARAM_EXIT" in os.environ:
    sys.exit(int(os.environ["MLOPS_PARAM_EXIT"]))
def note(what):  # outside of MLflow: who really ran
    with open(out.parents[2] / "executed", "a") as ran:
        ran.write(f"{what} {out.parent.name}\\n")
try:
    note("begun")
    rows = open(os.environ["MLOPS_DATASET_TRAIN"]).read().count("\\n")
    print("training with depth", depth, flush=True)
    time.sleep(float(os.environ["MLOPS_PARAM_PAUSE"]))
    (out / "metrics.json").write_text(json.dumps({"rmse": 10.0 / depth, "rows": rows}))
    (out / "model.txt").write_text(f"a model of depth {depth} on {rows} rows, code CODE\\n")
    note("ended")
except OSError as error:  # a full disk: as if the machine had taken the process away
    print(error, flush=True)
    time.sleep(0.3)
    os.kill(os.getpid(), 9)
"""


@dataclass
class Declared:
    """The documents by `Kind/name`, the other files by path, and what is broken on purpose."""

    documents: dict[str, Document] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  # Kind/name → file
    files: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, Document] = field(default_factory=dict)  # Kind/name → its broken document
    overwritten: dict[str, str | None] = field(default_factory=dict)  # path → broken text, None for removed
    project: Document = field(default_factory=dict)

    def copy(self) -> Declared:
        return copy.deepcopy(self)

    @property
    def whole(self) -> bool:
        """Whether nothing is broken on purpose, so that every document is valid."""
        return not self.replaced and not self.overwritten

    def holds(self, key: str) -> bool:
        """Whether a document is there, be it broken; a file may have been taken away on purpose."""
        return key in self.documents and self.overwritten.get(self.places[key], "") is not None

    def tree(self) -> dict[str, str]:
        """The text of every file."""
        found = dict(self.files)
        found["mlops.yaml"] = yaml.safe_dump(self.project, sort_keys=False)
        parts: dict[str, list[Document]] = {}
        for key in sorted(self.documents):
            parts.setdefault(self.places[key], []).append(self.replaced.get(key, self.documents[key]))
        for path, documents in parts.items():
            found[path] = yaml.safe_dump_all(documents, sort_keys=False)
        for path, text in self.overwritten.items():
            if text is None:
                found.pop(path, None)
            else:
                found[path] = text
        return found

    # -- reading

    def of(self, kind: str) -> list[Document]:
        return [document for key, document in sorted(self.documents.items()) if key.startswith(f"{kind}/")]

    def names(self, kind: str) -> list[str]:
        return [document["metadata"]["name"] for document in self.of(kind)]

    def versions(self, model: str) -> list[str]:
        """The version numbers of a model, in the order in which they were declared."""
        found = [d["spec"]["version"] for d in self.of("ModelVersion") if d["spec"]["model"] == model]
        return sorted(found, key=lambda number: [int(part) for part in number.split(".")])

    def promotion(self, model: str, stage: str) -> Document | None:
        return self.documents.get(f"Promotion/{model}-{stage}")

    def alias(self, stage: str) -> str:
        spec = self.documents[f"Stage/{stage}"]["spec"]
        return str(spec.get("alias", stage))

    # -- changing

    def put(self, kind: str, name: str, spec: dict[str, Any], place: str, **metadata: Any) -> Document:
        document = {
            "apiVersion": "mlops/v1",
            "kind": kind,
            "metadata": {"name": name, **metadata},
            "spec": spec,
        }
        self.documents[f"{kind}/{name}"] = document
        self.places[f"{kind}/{name}"] = place
        return document

    def remove(self, key: str) -> None:
        """Take a document away, if it is there."""
        self.documents.pop(key, None)
        self.places.pop(key, None)

    def promote(self, model: str, stage: str, version: str) -> None:
        spec = {"model": model, "stage": stage, "version": version}
        self.put("Promotion", f"{model}-{stage}", spec, f"resources/promotions/{model}.yaml")


class Numbers:
    """Counts up names that must never come twice in a run."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def next(self, what: str) -> int:
        self._last[what] = self._last.get(what, -1) + 1
        return self._last[what]


def first(numbers: Numbers, project: dict[str, Any]) -> Declared:
    """Two datasets, two experiments, two models with a version each, three stages, promotions."""
    made = Declared()
    made.project = {
        "apiVersion": "mlops/v1",
        "kind": "Project",
        "metadata": {"name": "chaos"},
        "spec": project,
    }
    made.files[".gitignore"] = ".mlops/\n"
    for name in ("d0", "d1"):
        made.files[f"data/{name}.csv"] = rows(2)
        made.put("Dataset", name, {"uri": f"data/{name}.csv", "format": "csv"}, "resources/datasets.yaml")
    for _ in range(2):
        add_experiment(made, random.Random(0), numbers)
    made.put("Stage", "dev", {}, "resources/stages.yaml")
    made.put("Stage", "staging", {"after": "dev", "gates": [gate(20)]}, "resources/stages.yaml")
    made.put("Stage", "prod", {"after": "staging"}, "resources/stages.yaml")
    approvals = {"approvals": {"required": 1, "from": ["leads"]}}
    made.put("Stage", GUARDED, approvals, "resources/guarded.yaml")
    for _ in range(2):
        add_model(made, random.Random(0), numbers)
    return made


def rows(count: int) -> str:
    return "x,y\n" + "".join(f"{n},{n * n}\n" for n in range(count))


def gate(most: float) -> dict[str, Any]:
    return {"metric": {"name": "rmse", "max": most}}


# -- changes that a team makes; each gives what it did, or None where it does not apply


def add_experiment(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    if len(made.names("Experiment")) >= 4:
        return None
    number = numbers.next("experiment")
    name = f"e{number}"
    made.files[f"training/{name}/train.py"] = TRAIN.replace("CODE", "0")
    depths = draw.sample(DEPTHS, draw.randint(1, 2))
    spec = {
        "source": {"path": f"training/{name}"},
        "command": ["python", "-S", "-E", "train.py"],
        "parameters": {"depth": 1, "pause": draw.choice(PAUSES)},
        "sweep": {"strategy": "grid", "parameters": {"depth": sorted(depths)}, "parallel": 2},
        "datasets": {"train": draw.choice(made.names("Dataset"))},
        "objective": {"metric": "rmse", "goal": "minimize"},
        "seed": number,  # two experiments of one content would share their runs
        "retries": RETRIES,
        "resources": {"cpu": 0.5},
    }
    made.put("Experiment", name, spec, f"resources/{name}.yaml")
    return f"add experiment {name}"


def add_model(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    if len(made.names("Model")) >= 3:
        return None
    name = f"m{numbers.next('model')}"
    made.put("Model", name, {"description": f"The model {name}"}, "resources/models.yaml")
    release(made, draw, numbers, model=name)
    return f"add model {name}"


def release(made: Declared, draw: random.Random, numbers: Numbers, model: str | None = None) -> str | None:
    if model is None:
        models = made.names("Model")
        if not models:
            return None
        model = draw.choice(models)
    experiment = draw.choice(made.names("Experiment"))
    version = f"1.{numbers.next(f'version of {model}')}.0"
    spec = {"model": model, "version": version, "source": {"experiment": experiment, "artifact": "model.txt"}}
    if draw.random() < 0.3:
        spec["deletionPolicy"] = "Delete"
    made.put("ModelVersion", f"{model}-{version}", spec, f"resources/versions/{model}.yaml")
    for stage in STAGES[: draw.randint(1, 3)]:
        made.promote(model, stage, version)
    return f"release {model} {version} of {experiment}"


def tune(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    document = draw.choice(made.of("Experiment"))
    spec = document["spec"]
    if draw.random() < 0.5:
        spec["parameters"]["pause"] = draw.choice(PAUSES)
    else:
        spec["sweep"]["parameters"]["depth"] = sorted(draw.sample(DEPTHS, draw.randint(1, 3)))
    return f"tune {document['metadata']['name']}"


def slow_down(made: Declared, draw: random.Random, numbers: Numbers) -> str:
    """New parameters for an experiment, that nobody trained with before and that take their time."""
    document = draw.choice(made.of("Experiment"))
    pause = 0.8 + numbers.next("pause") / 1000
    document["spec"]["parameters"]["pause"] = pause
    return f"tune {document['metadata']['name']} to take {pause:g} s"


def recode(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    path = draw.choice(sorted(path for path in made.files if path.startswith("training/")))
    made.files[path] = TRAIN.replace("CODE", str(draw.randrange(CODES)))
    return f"edit {path}"


def measure(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    path = draw.choice(sorted(path for path in made.files if path.startswith("data/")))
    made.files[path] = rows(draw.choice(ROWS))
    return f"new data in {path}"


def promote(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    """Along the stages: a version is promoted to the stage after the one it is in, or rolled back."""
    models = [model for model in made.names("Model") if made.versions(model)]
    if not models:
        return None
    model = draw.choice(models)
    stage = draw.choice(STAGES)
    before = made.promotion(model, STAGES[max(0, STAGES.index(stage) - 1)])
    if before is not None and stage != "dev" and draw.random() < 0.7:
        version = before["spec"]["version"]
    else:
        version = draw.choice([*made.versions(model), "latest"])
    made.promote(model, stage, version)
    return f"promote {model} {version} to {stage}"


def ask(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    """For the guarded stage, a version that is there or one of before."""
    models = [model for model in made.names("Model") if made.versions(model)]
    if not models:
        return None
    model = draw.choice(models)
    version = draw.choice(made.versions(model))
    made.promote(model, GUARDED, version)
    return f"ask for {model} {version} in {GUARDED}"


def withdraw(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    promotions = made.names("Promotion")
    if len(promotions) < 3:
        return None
    name = draw.choice(promotions)
    made.remove(f"Promotion/{name}")
    return f"withdraw {name}"


def retire(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    asked = {(d["spec"]["model"], d["spec"]["version"]) for d in made.of("Promotion")}
    latest = {model for model, version in asked if version == "latest"}
    free = [
        d["metadata"]["name"]
        for d in made.of("ModelVersion")
        if (d["spec"]["model"], d["spec"]["version"]) not in asked and d["spec"]["model"] not in latest
    ]
    if not free:
        return None
    name = draw.choice(free)
    made.remove(f"ModelVersion/{name}")
    return f"retire {name}"


def remove_model(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    models = made.names("Model")
    if len(models) < 2:
        return None
    model = draw.choice(models)
    for kind in ("Promotion", "ModelVersion"):
        for document in made.of(kind):
            if document["spec"]["model"] == model:
                made.remove(f"{kind}/{document['metadata']['name']}")
    made.remove(f"Model/{model}")
    return f"remove model {model}"


def remove_experiment(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    used = {d["spec"]["source"]["experiment"] for d in made.of("ModelVersion")}
    free = [name for name in made.names("Experiment") if name not in used]
    if not free or len(made.names("Experiment")) < 2:
        return None
    name = draw.choice(free)
    made.remove(f"Experiment/{name}")
    del made.files[f"training/{name}/train.py"]
    return f"remove experiment {name}"


def describe(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    key = draw.choice(sorted(k for k in made.documents if k.split("/")[0] in DESCRIBED))
    text = draw.choice(("", "short", "It says ‘more’ <b>than</b> that"))
    document = made.documents[key]
    if key.startswith("Model/"):
        document["spec"]["description"] = text
        document["spec"]["tags"] = {"domain": text} if text else {}
    else:
        document["metadata"]["annotations"] = {"description": text} if text else {}
        document["metadata"]["labels"] = {"team": "a"} if draw.random() < 0.5 else {}
    return f"describe {key}"


DESCRIBED: Final = ("Model", "ModelVersion", "Experiment")


def set_gate(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    made.documents["Stage/staging"]["spec"]["gates"] = [gate(draw.choice((20, 20, 0.001)))]
    return "set the gate of staging"


def rename_alias(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    made.documents["Stage/prod"]["spec"]["alias"] = draw.choice(("prod", "champion"))
    return "name the alias of prod"


def suspend(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    frozen = [key for key, document in sorted(made.documents.items()) if document["spec"].get("suspend")]
    if frozen and draw.random() < 0.7:
        key = draw.choice(frozen)
        del made.documents[key]["spec"]["suspend"]
        return f"resume {key}"
    key = draw.choice(sorted(key for key in made.documents if not key.startswith("Dataset/")))
    made.documents[key]["spec"]["suspend"] = True
    return f"suspend {key}"


def move_documents(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    place = draw.choice(sorted(set(made.places.values())))
    to = f"resources/moved/{draw.randrange(5)}.yml"
    for key, path in made.places.items():
        if path == place:
            made.places[key] = to
    return f"move {place} to {to}"


def touch(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    made.files["README.md"] = f"Read me, {draw.randrange(1000)} times.\n"
    return "edit the README"


def nothing(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    return "nothing"


def fail_training(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    document = draw.choice(made.of("Experiment"))
    document["spec"]["parameters"]["exit"] = draw.choice((1, 2))
    document["spec"]["retries"] = draw.choice((0, 1))
    return f"make {document['metadata']['name']} fail"


def mend(made: Declared, draw: random.Random | None = None, numbers: Numbers | None = None) -> str | None:
    """Everything that is broken on purpose, and scripts that fail."""
    failing = [d for d in made.of("Experiment") if "exit" in d["spec"]["parameters"]]
    if made.whole and not failing:
        return None
    made.replaced.clear()
    made.overwritten.clear()
    for document in failing:
        del document["spec"]["parameters"]["exit"]
        document["spec"]["retries"] = RETRIES
    return "mend everything"


# -- documents that nobody should have committed


def break_syntax(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    path = draw.choice(sorted(set(made.places.values())))
    made.overwritten[path] = made.tree().get(path, "") + draw.choice(
        ("\n\tno: [tabs\n", "---\n- {\n", "\x00\n", "---\nname: &a [*a]\n")
    )
    return f"break the syntax of {path}"


def break_schema(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    key = draw.choice(sorted(made.documents))
    broken = copy.deepcopy(made.documents[key])
    kind = draw.randrange(3)
    if kind == 0:
        broken["spec"]["colour"] = "red"
    elif kind == 1:
        broken["spec"] = ["not", "a", "mapping"]
    else:
        broken["apiVersion"] = "mlops/v0"
    made.replaced[key] = broken
    return f"break the schema of {key}"


def dangle(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    keys = [
        k for k in sorted(made.documents) if k.split("/")[0] in ("Promotion", "Experiment", "ModelVersion")
    ]
    key = draw.choice(keys)
    broken = copy.deepcopy(made.documents[key])
    if key.startswith("Promotion/"):
        broken["spec"]["version"] = BROKEN_VERSION
    elif key.startswith("Experiment/"):
        broken["spec"]["datasets"] = {"train": "nowhere"}
    else:
        broken["spec"]["model"] = "nobody"
    made.replaced[key] = broken
    return f"let {key} point nowhere"


def break_project(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    made.overwritten["mlops.yaml"] = draw.choice((None, "kind: Project\nspec: [\n", "kind: Nothing\n"))
    return "break mlops.yaml"


def empty(made: Declared, draw: random.Random, numbers: Numbers) -> str | None:
    for path in sorted(set(made.places.values())):
        made.overwritten[path] = None
    return "remove every resource"


Change = Callable[[Declared, random.Random, Numbers], str | None]

GOOD: Final[dict[Change, int]] = {
    release: 10,
    promote: 12,
    ask: 8,
    tune: 6,
    recode: 3,
    measure: 3,
    withdraw: 3,
    retire: 3,
    describe: 4,
    set_gate: 2,
    rename_alias: 2,
    suspend: 3,
    add_experiment: 2,
    remove_experiment: 2,
    add_model: 2,
    remove_model: 1,
    move_documents: 2,
    touch: 2,
    nothing: 1,
}
BROKEN: Final[dict[Change, int]] = {
    break_syntax: 4,
    break_schema: 4,
    dangle: 4,
    break_project: 2,
    empty: 2,
    fail_training: 3,
}


def change(made: Declared, draw: random.Random, numbers: Numbers, among: dict[Change, int]) -> str:
    """One change, drawn by weight, that applies."""
    while True:
        what = draw.choices(list(among), list(among.values()))[0]
        if (said := what(made, draw, numbers)) is not None:
            return said


def settle(made: Declared, draw: random.Random) -> str:
    """Nothing is broken, suspended or kept back, and each model's stages ask for one version.

    So a fresh apply can promote everything: a version that was once in an earlier stage need not have been
    there in a world that begins now.
    """
    mend(made)
    for document in made.documents.values():
        document["spec"].pop("suspend", None)
    made.documents["Stage/staging"]["spec"]["gates"] = [gate(20)]
    for model in made.names("Model"):
        versions = made.versions(model)
        asked = [stage for stage in STAGES if made.promotion(model, stage) is not None]
        version = draw.choice(versions) if versions else None
        if made.promotion(model, GUARDED) is not None:
            made.remove(f"Promotion/{model}-{GUARDED}")
            if version is not None:
                made.promote(model, GUARDED, version)
        for stage in asked if version is None else STAGES[: len(asked)]:
            made.remove(f"Promotion/{model}-{stage}")
            if version is not None:
                made.promote(model, stage, version)
        for stage in STAGES[len(asked) :] if version is not None else ():
            made.remove(f"Promotion/{model}-{stage}")
    return "settle"


def wanted(made: Declared) -> Iterator[tuple[str, str, str]]:
    """What each promotion asks for: registered model, alias, version number."""
    for document in made.of("Promotion"):
        spec = document["spec"]
        version = spec["version"]
        if version == "latest":
            version = made.versions(spec["model"])[-1]
        yield spec["model"], made.alias(spec["stage"]), version
