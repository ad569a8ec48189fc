"""Each rule about what a user declares: where the mistake is, what it is, and what would mend it."""

from __future__ import annotations

import pytest

from conftest import PROJECT, Declared
from mlops.resources import Key

MODEL = "kind: Model\nmetadata: {name: m}\nspec: {}\n"
DATASET = "kind: Dataset\nmetadata: {name: d}\nspec: {uri: d.csv}\n"
STAGE = "kind: Stage\nmetadata: {name: prod}\nspec: {}\n"
EXPERIMENT = """
kind: Experiment
metadata: {name: e}
spec: {source: {path: training}, command: [python], objective: {metric: rmse, goal: minimize}}
"""
VERSION = """
kind: ModelVersion
metadata: {name: m-1}
spec: {model: m, version: 1.0.0, source: {experiment: e}}
"""


def experiment(fields: str) -> str:
    return f"kind: Experiment\nmetadata: {{name: x}}\nspec:\n  source: {{path: training}}\n  {fields}\n"


def dataset(fields: str) -> str:
    return f"kind: Dataset\nmetadata: {{name: x}}\nspec: {{{fields}}}\n"


def stage(fields: str) -> str:
    return f"kind: Stage\nmetadata: {{name: x}}\nspec: {{{fields}}}\n"


def version(fields: str) -> str:
    return f"kind: ModelVersion\nmetadata: {{name: x}}\nspec: {{model: m, {fields}}}\n"


@pytest.mark.parametrize(
    ("document", "place", "words"),
    [
        # the frame
        ("kind: Model\nmetadata: {name: x}\n", "1:1: Model/x: spec:", "is required"),
        ("kind: Model\nmetadata: {}\nspec: {}\n", "3:1: metadata.name:", "is required"),
        (
            "kind: Model\nmetadata: {name: 7}\nspec: {}\n",
            "3:18: metadata.name:",
            "must be text, not a number. Put quotes",
        ),
        ("kind: Model\nmetdata: {name: x}\nspec: {}\n", "3:1: metdata:", "Did you mean metadata?"),
        ("kind: model\nmetadata: {name: x}\nspec: {}\n", "2:7: Model/x: kind:", "Did you mean Model?"),
        (
            "kind: Model\nmetadata: {name: x, labels: {a: 1}}\nspec: {}\n",
            "3:33: Model/x: metadata.labels.a:",
            "quotes",
        ),
        (
            "kind: Model\nmetadata: {name: x}\nspec: {suspend: yes}\n",
            "4:17: Model/x: spec.suspend:",
            "true or false",
        ),
        (
            "kind: Model\nmetadata: {name: x}\nspec: []\n",
            "4:7: Model/x: spec:",
            "must be a mapping, not a list",
        ),
        # datasets
        (dataset("uri: /etc/passwd, format: csv"), "4:13: Dataset/x: spec.uri:", "not a relative path"),
        (dataset("uri: a/../../x.csv"), "4:13: Dataset/x: spec.uri:", '".."'),
        (dataset("uri: '~/x.csv'"), "4:13: Dataset/x: spec.uri:", "not a relative path"),
        (dataset("uri: 'a\\..\\x.csv'"), "4:13: Dataset/x: spec.uri:", "backslash"),
        (dataset("uri: 'http://h/x.csv'"), "4:13: Dataset/x: spec.uri:", "scheme"),
        (dataset("uri: 'file://../x.csv'"), "4:13: Dataset/x: spec.uri:", "absolute file URI"),
        (dataset("uri: 'zip://a::file:///x.csv'"), "4:13: Dataset/x: spec.uri:", "::"),
        (dataset("uri: 's3://${BUCKT}/x.csv'"), "4:13: Dataset/x: spec.uri:", "Did you mean BUCKET?"),
        (dataset("uri: 's3://${BUCKET/x.csv'"), "4:13: Dataset/x: spec.uri:", "names no variable"),
        (dataset(f"uri: '{'*a' * 13}.csv'"), "4:13: Dataset/x: spec.uri:", "wildcards"),
        (dataset("uri: x.bin"), "4:1: Dataset/x: spec.format:", "is required"),
        (dataset("uri: x.csv, version: 3"), "4:29: Dataset/x: spec.version:", "delta only"),
        (dataset("uri: x.csv, digest: sha256:beef"), "4:28: Dataset/x: spec.digest:", "64 hexadecimal"),
        (
            dataset("uri: x.csv, columns: {probability: {a: 1}}"),
            "4:47: Dataset/x: spec.columns.probability.a:",
            "text",
        ),
        (
            dataset("uri: x.csv, expect: {columns: {t: {min: 2, max: 1}}}"),
            "4:56: Dataset/x: spec.expect",
            "less than min",
        ),
        # experiments
        (experiment("{}"), "6:3: is not YAML", "key: value"),
        (
            experiment("suspend: false"),
            "4:1: Experiment/x: spec.command:",
            "or spec.entryPoint instead of it",
        ),
        (
            experiment("command: python train.py"),
            "6:12: Experiment/x: spec.command:",
            "must be a list, not text",
        ),
        (experiment("command: [python, 3]"), "6:21: Experiment/x: spec.command[1]:", "quotes"),
        (experiment("command: []"), "6:12: Experiment/x: spec.command:", "fewer than 1 items"),
        (experiment("entryPoint: main"), "6:15: Experiment/x: spec.entryPoint:", "training/MLproject"),
        (
            experiment("command: [a]\n  parameters: {a-b: 1, a_b: 2}"),
            "7:24: Experiment/x: spec.parameters.a_b:",
            "MLOPS_PARAM_A_B",
        ),
        (
            experiment('command: [a]\n  parameters: {"a b": 1}'),
            "7:16: Experiment/x: spec.parameters.a b:",
            "not a name",
        ),
        (
            experiment("command: [a]\n  parameters: {a: .nan}"),
            "7:19: Experiment/x: spec.parameters.a:",
            "text",
        ),
        (
            experiment("command: [a]\n  parameters: {a: null}"),
            "7:19: Experiment/x: spec.parameters.a:",
            "empty",
        ),
        (
            experiment("command: [a]\n  environment: {requirements: req.txt}"),
            "7:31: Experiment/x:",
            "no such file",
        ),
        (
            experiment("command: [a]\n  environment: {requirements: training}"),
            "7:31: Experiment/x:",
            "is a folder",
        ),
        (
            experiment("command: [a]\n  sweep: {parameters: {a: {uniform: [1, 2]}}}"),
            "7:27: Experiment/x:",
            "grid needs",
        ),
        (
            experiment("command: [a]\n  sweep: {parameters: {a: 3}}"),
            "7:27: Experiment/x:",
            "not a list of values",
        ),
        (
            experiment("command: [a]\n  sweep: {parameters: {}}"),
            "7:23: Experiment/x: spec.sweep.parameters:",
            "fewer",
        ),
        (
            experiment(
                "command: [a]\n  sweep: {strategy: random, trials: 2, parameters: {a: {int: [3, 3]}}}"
            ),
            "7:62: Experiment/x: spec.sweep.parameters.a.int:",
            "ascend",
        ),
        (
            experiment(
                "command: [a]\n  sweep: {strategy: random, trials: 2, parameters: {a: {logUniform: [0, 1]}}}"
            ),
            "7:69: Experiment/x: spec.sweep.parameters.a.logUniform:",
            "logarithm",
        ),
        (
            experiment(f"command: [a]\n  sweep: {{parameters: {{a: &v {list(range(101))}, b: *v}}}}"),
            "7:23: Experiment/x: spec.sweep.parameters:",
            "10000 trials",
        ),
        (
            experiment("command: [a]\n  parameters: {depth: 1}\n  sweep: {parameters: {depht: [1]}}"),
            "8:24: Experiment/x: spec.sweep.parameters.depht:",
            "Did you mean depth?",
        ),
        (
            experiment("command: [a]\n  variables: [HOME]"),
            "7:15: Experiment/x: spec.variables[0]:",
            "not in the Project's",
        ),
        (experiment("command: [a]\n  retries: -1"), "7:12: Experiment/x: spec.retries:", "less than 0"),
        (experiment("command: [a]\n  timeout: 90"), "7:12: Experiment/x: spec.timeout:", "duration"),
        (experiment("command: [a]\n  timeout: 0s"), "7:12: Experiment/x: spec.timeout:", "duration"),
        (experiment("command: [a]\n  executor: '../x'"), "7:13: Experiment/x: spec.executor:", "form"),
        # models and versions
        (
            "kind: Model\nmetadata: {name: x}\nspec: {tags: {mlops.version: a}}\n",
            "4:15: Model/x:",
            "kept for the reconciler",
        ),
        (
            "kind: Model\nmetadata: {name: x}\nspec: {registeredName: a/b}\n",
            "4:24: Model/x:",
            "rename the model in MLflow",
        ),
        (version("version: 1.0, source: {experiment: e}"), "4:27: ModelVersion/x: spec.version:", "quotes"),
        (version("version: v1.0.0, source: {experiment: e}"), "4:27: ModelVersion/x:", "semantic version"),
        (version("version: 1.0.0-x.lock, source: {experiment: e}"), "4:27: ModelVersion/x:", ".lock"),
        (version("version: 01.0.0, source: {experiment: e}"), "4:27: ModelVersion/x:", "semantic version"),
        (version("version: 2.0.0, source: {}"), "4:34: ModelVersion/x: spec.source.experiment:", "runId"),
        (
            version("version: 2.0.0, source: {experiment: e, runId: r}"),
            "4:65: ModelVersion/x: spec.source.runId:",
            "beside",
        ),
        (version("version: 2.0.0, source: {experiment: f}"), "4:55: ModelVersion/x:", 'no Experiment "f"'),
        (version("version: 2.0.0, source: {experiment: bare}"), "4:55: ModelVersion/x:", "no objective"),
        (version("version: 2.0.0, source: {runId: r, artifact: ../m}"), "4:63: ModelVersion/x:", '".."'),
        # stages
        (stage("after: nowhere"), "4:15: Stage/x: spec.after:", "there is no Stage"),
        (stage("gates: [soak: 1h]"), "4:22: Stage/x: spec.gates[0].soak:", "no stage to soak in"),
        (
            stage("gates: [{metric: {name: a, max: 1}, signature: true}]"),
            "4:16: Stage/x: spec.gates[0]:",
            "exactly one",
        ),
        (stage("gates: [metric: {name: a}]"), "4:24: Stage/x: spec.gates[0].metric:", "min or max"),
        (
            stage("gates: [metric: {name: a, min: 2, max: 1}]"),
            "4:47: Stage/x: spec.gates[0].metric.max:",
            "less than min",
        ),
        (stage("gates: [metric: {name: a, max: 1, dataset: no}]"), "4:51: Stage/x:", "there is no Dataset"),
        (
            stage("gates: [champion: {metric: a, goal: up, dataset: d}]"),
            "4:44: Stage/x:",
            "minimize, maximize",
        ),
        (
            stage("gates: [champion: {metric: a, goal: minimize, dataset: d, minImprovement: 1 %}]"),
            "4:82: Stage/x:",
            "1%",
        ),
        (stage("gates: [signature: false]"), "4:27: Stage/x: spec.gates[0].signature:", "must be true"),
        (
            stage("gates: [reproducible: {}]"),
            "4:16: Stage/x: spec.gates[0].reproducible.tolerance:",
            "required",
        ),
        (stage("approvals: {required: 0, from: [leads]}"), "4:30: Stage/x:", "less than 1"),
        (stage("approvals: {from: [leds]}"), "4:27: Stage/x: spec.approvals.from[0]:", "Did you mean leads?"),
        (stage("approvals: {from: []}"), "4:26: Stage/x: spec.approvals.from:", "fewer"),
        (stage("alias: latest"), "4:15: Stage/x: spec.alias:", "keeps for itself"),
        (stage("alias: a.b"), "4:15: Stage/x: spec.alias:", "no MLflow alias"),
        (
            "kind: Stage\nmetadata: {name: v1}\nspec: {}\n",
            "3:18: Stage/v1: metadata.name:",
            "Give spec.alias",
        ),
        (stage("alias: prod"), "4:15: Stage/x: spec.alias:", "alias of another stage: Stage/prod"),
    ],
)
def test_a_mistake_is_named_with_its_place(declared: Declared, document: str, place: str, words: str) -> None:
    bare = experiment("command: [a]\n  sweep: {strategy: grid, parameters: {d: [1, 2]}}").replace(
        "name: x", "name: bare"
    )
    declared.documents("resources/sound.yaml", MODEL, DATASET, STAGE, EXPERIMENT, VERSION, bare)
    found = [line for line in declared.problems(document) if line.startswith("resources/x.yaml")]
    assert len(found) == 1, found
    assert found[0].startswith(f"resources/x.yaml:{place}"), found[0]
    assert words in found[0]


def test_several_mistakes_of_one_document_are_named_together(declared: Declared) -> None:
    found = declared.problems(
        experiment(
            'command: [python, 3, "{no}"]\n  entryPoint: main\n  datasets: {train: none}\n  seed: x\n  sede: 1'
        )
    )
    fields = [line.split(": ")[2] for line in found]
    assert fields == [
        "spec.command[1]",
        "spec.command[2]",
        "spec.entryPoint",
        "spec.datasets.train",
        "spec.seed",
        "spec.sede",
    ]


def test_a_swept_parameter_may_be_read_from_the_environment_where_none_are_declared(
    declared: Declared,
) -> None:
    assert declared.problems(experiment("command: [a]\n  sweep: {parameters: {depth: [1, 2]}}")) == []
    assert (
        declared.problems(
            experiment('command: [a, "{depth}"]\n  parameters: {b: 1}\n  sweep: {parameters: {depth: [1]}}')
        )
        == []
    )


def test_braces_that_hold_no_name_are_plain_text(declared: Declared) -> None:
    assert declared.problems(experiment("command: [a, '{\"x\": 1}', '{}', '{ a }', '}{']")) == []


def test_what_is_declared_twice_is_named_at_both_places(declared: Declared) -> None:
    found = declared.problems(MODEL, MODEL)
    assert [line.split(": ")[0] for line in found] == ["resources/x.yaml:3:18", "resources/x.yaml:8:18"]
    assert "also at resources/x.yaml:6:1" in found[0]
    assert not [key for key in declared.load().resources if key.kind == "Model"]


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        (
            "kind: Model\nmetadata: {name: m}\nspec: {}\n",
            "kind: Model\nmetadata: {name: n}\nspec: {registeredName: m}\n",
            "spec.registeredName",
        ),
        (STAGE, stage("alias: prod"), "spec.alias"),
        (VERSION, VERSION.replace("m-1", "m-other"), "spec.version"),
        (
            "kind: Promotion\nmetadata: {name: a}\nspec: {model: m, stage: prod, version: 1.0.0}\n",
            "kind: Promotion\nmetadata: {name: b}\nspec: {model: m, stage: prod, version: latest}\n",
            "spec.stage",
        ),
    ],
)
def test_two_that_claim_one_thing_are_both_named(
    declared: Declared, first: str, second: str, field: str
) -> None:
    declared.documents(
        "resources/sound.yaml", *[d for d in (MODEL, STAGE, EXPERIMENT, VERSION) if d not in (first, second)]
    )
    found = declared.problems(first, second)
    assert len(found) == 2
    assert f": {field}: " in found[1]
    assert len(declared.load().invalid) == 2


def test_a_cycle_of_stages_is_printed(declared: Declared) -> None:
    names = {"a": "b", "b": "c", "c": "a", "d": "a"}
    found = declared.problems(
        *(f"kind: Stage\nmetadata: {{name: {n}}}\nspec: {{after: {m}}}\n" for n, m in names.items())
    )
    assert len(found) == 3
    assert all("a → b → c → a" in line for line in found)
    loaded = declared.load()
    assert Key("Stage", "d") in loaded.resources  # it stands before a broken stage, and is right itself
    assert {key.name for key in loaded.invalid} == {"a", "b", "c"}


def test_a_long_chain_of_stages_is_no_cycle(declared: Declared) -> None:
    stages = [f"kind: Stage\nmetadata: {{name: s{i}}}\nspec: {{after: s{i + 1}}}\n" for i in range(3000)]
    assert declared.problems(*stages, "kind: Stage\nmetadata: {name: s3000}\nspec: {}\n") == []


def test_a_promoted_version_has_to_be_declared(declared: Declared) -> None:
    declared.documents("resources/sound.yaml", MODEL, STAGE, EXPERIMENT, VERSION)
    promotion = "kind: Promotion\nmetadata: {name: p}\nspec: {model: m, stage: prod, version: VERSION}\n"
    assert declared.problems(promotion.replace("VERSION", "1.0.0")) == []
    assert declared.problems(promotion.replace("VERSION", "latest")) == []
    (found,) = declared.problems(promotion.replace("VERSION", "1.0.1"))
    assert 'm has no version "1.0.1". Did you mean 1.0.0?' in found


def test_latest_is_refused_where_a_stage_asks_for_approvals(declared: Declared) -> None:
    declared.documents("resources/sound.yaml", MODEL, stage("approvals: {from: [leads]}"))
    (found,) = declared.problems(
        "kind: Promotion\nmetadata: {name: p}\nspec: {model: m, stage: x, version: latest}\n"
    )
    assert "spec.version: cannot be latest, as the stage asks for approvals" in found


def test_a_reference_to_a_broken_document_is_right_itself(declared: Declared) -> None:
    broken = "kind: Dataset\nmetadata: {name: d}\nspec: {uri: d.csv, formatt: csv}\n"
    (found,) = declared.problems(broken, experiment("command: [a]\n  datasets: {train: d}"))
    assert "Dataset/d: spec.formatt" in found
    loaded = declared.load()
    assert Key("Experiment", "x") in loaded.resources
    assert loaded.invalid == {Key("Dataset", "d")}


def test_a_reference_into_text_that_is_not_yaml_is_not_dangling(declared: Declared) -> None:
    declared.write(
        "resources/broken.yaml", "apiVersion: mlops/v1\nkind: Dataset\nmetadata:\n  name: d\nspec: {uri: [\n"
    )
    (found,) = declared.problems(experiment("command: [a]\n  datasets: {train: d}"))
    assert found.startswith("resources/broken.yaml:6:1: is not YAML")
    assert declared.load().invalid == {Key("Dataset", "d")}


def test_a_promotion_of_a_broken_version_is_right_itself(declared: Declared) -> None:
    declared.documents("resources/sound.yaml", MODEL, STAGE, EXPERIMENT)
    promotion = "kind: Promotion\nmetadata: {name: p}\nspec: {model: m, stage: prod, version: 1.0.0}\n"
    (found,) = declared.problems(VERSION.replace("version: 1.0.0", "version: 1.0"), promotion)
    assert "ModelVersion/m-1: spec.version" in found
    assert Key("Promotion", "p") in declared.load().resources


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ("resources: [../x]", "4:20: Project/bikes: spec.resources[0]:", '".."'),
        ("resources: [/root-evil]", "4:20: Project/bikes: spec.resources[0]:", "not a relative path"),
        ("tracking: {uri: 'ftp://h'}", "4:24: Project/bikes: spec.tracking.uri:", "scheme"),
        ("tracking: {artifacts: ../out}", "4:30: Project/bikes: spec.tracking.artifacts:", '".."'),
        (
            "tracking: {uri: '${HOST}'}",
            "4:24: Project/bikes: spec.tracking.uri:",
            "not in the Project's spec.variables",
        ),
        ("state: {uri: 'mysql://h/d'}", "4:21: Project/bikes: spec.state.uri:", "sqlite, postgresql"),
        ("state: {uri: 'sqlite://'}", "4:21: Project/bikes: spec.state.uri:", "names no file"),
        ("source: {branch: --upload-pack=x}", "4:25: Project/bikes: spec.source.branch:", "git takes"),
        ("source: {branch: a..b}", "4:25: Project/bikes: spec.source.branch:", "git takes"),
        ("source: {interval: 500ms}", "4:27: Project/bikes: spec.source.interval:", "duration"),
        ("forge: {}", "4:15: Project/bikes: spec.forge:", "github and azureDevOps"),
        (
            "forge: {github: {repository: a/b, url: 'http://h'}}",
            "4:47: Project/bikes: spec.forge.github.url:",
            "https",
        ),
        ("groups: {leads: [alice]}", "4:25: Project/bikes: spec.groups.leads[0]:", "e-mail"),
        ("variables: [A-B]", "4:20: Project/bikes: spec.variables[0]:", "environment variable"),
    ],
)
def test_a_mistake_in_the_project_is_named(declared: Declared, fields: str, place: str, words: str) -> None:
    declared.write(
        "mlops.yaml", f"apiVersion: mlops/v1\nkind: Project\nmetadata: {{name: bikes}}\nspec: {{{fields}}}\n"
    )
    (found,) = map(str, declared.load().problems)
    assert found.startswith(f"mlops.yaml:{place}"), found
    assert words in found


def test_one_person_counts_once(declared: Declared) -> None:
    approvers = """\
  approvers:
  - {email: a@x.org, github: Alice, sshKey: "ssh-ed25519 AAAA a@home", gpgKey: 0xab cd}
  - {email: A@x.org, sshKey: "ssh-ed25519 AAAA a@work"}
  - {email: b@x.org, github: alice}
  - {email: c@x.org, sshKey: "ssh-ed25519 AAAA c@home"}
  - {email: d@x.org, gpgKey: ABCD}
"""
    declared.write(
        "mlops.yaml", f"apiVersion: mlops/v1\nkind: Project\nmetadata: {{name: p}}\nspec:\n{approvers}"
    )
    found = [(p.location.line, p.field) for p in declared.load().problems]
    assert found == [
        (8, "spec.approvers[2].github"),
        (9, "spec.approvers[3].sshKey"),
        (10, "spec.approvers[4].gpgKey"),
    ]


def test_a_broken_project_still_lists_its_folders_and_variables(declared: Declared) -> None:
    declared.write("mlops.yaml", PROJECT.replace("spec: {", "spec: {resources: [conf], selfHeal: 1, "))
    declared.documents(
        "conf/a.yaml", DATASET.replace("d.csv", "'s3://${BUCKET}/d.csv'"), MODEL.replace("{}", "{x: 1}")
    )
    loaded = declared.load()
    assert [problem.field for problem in loaded.problems] == ["spec.x", "spec.selfHeal"]
    assert loaded.project is None
    assert Key("Dataset", "d") in loaded.resources
