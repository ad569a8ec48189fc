"""MonitoringPolicy as it is written: what is taken, what is refused, where and with which advice."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Declared
from mlops.resources import Key
from mlops.resources.kinds import MODELS
from mlops.resources.monitoring_actions import Budget, Fire
from mlops.resources.monitoring_policy import MonitoringPolicy, parse_time
from mlops.resources.notifier import Notifier
from mlops.resources.schema import schema
from mlops.resources.yaml_reading import read_values

PLAIN = {
    "model": "model: loan",
    "stage": "stage: production",
    "data": "data: {predictions: loan-scored, labels: {dataset: loan-outcomes, joinOn: id, maxDelay: 30d}}",
    "window": "window: {size: 1d, lateness: 6h, minRows: 1000}",
    "checks": """checks:
    - {name: upstream, type: upstreamChange}
    - {name: inputs, type: dataDrift, numeric: psi, thresholds: {psi: 0.2}, share: 0.3}
    - {name: concept, type: conceptDrift, metric: rocAuc, maxDrop: 3%, estimate: true}""",
}
FULL = {
    **PLAIN,
    "reference": "reference: {source: training, season: none}",
    "schedule": "schedule: 1h",
    "slices": "slices: [country]",
    "columns": "columns: {exclude: [id], overrides: {price: {unit: EUR}}}",
    "decide": "decide: {fire: 2 of 3, clear: 3, warmup: 3}",
    "actions": """actions:
    - on: [concept, inputs]
      alert: [team]
      retrain:
        experiment: loan-gbt
        datasets: {train: loan-recent}
        propose: loan-production
        cooldown: 7d
        budget: 4 per 30d
    - {on: [upstream], alert: [team], blockRetrain: true}
    - {on: [concept], severity: critical, rollback: propose}""",
}
SCORED = """
kind: Dataset
metadata: {name: loan-scored}
spec: {uri: scored.parquet, columns: {prediction: p, probability: s, timestamp: at, id: id}}
"""
OUTCOMES = "kind: Dataset\nmetadata: {name: loan-outcomes}\nspec: {uri: o.csv, columns: {target: y}}\n"
AROUND = (
    "kind: Model\nmetadata: {name: loan}\nspec: {}\n",
    "kind: Model\nmetadata: {name: other}\nspec: {}\n",
    "kind: Stage\nmetadata: {name: production}\nspec: {}\n",
    "kind: Dataset\nmetadata: {name: loan-recent}\nspec: {uri: r.csv}\n",
    """
kind: Experiment
metadata: {name: loan-gbt}
spec: {source: {path: training}, command: [python], datasets: {train: loan-recent}}
""",
    "kind: Promotion\nmetadata: {name: loan-production}\nspec: {model: loan, stage: production, version: latest}\n",
    "kind: Promotion\nmetadata: {name: others}\nspec: {model: other, stage: production, version: latest}\n",
    "kind: Notifier\nmetadata: {name: team}\nspec: {urls: ['json://localhost']}\n",
)


@pytest.fixture(autouse=True)
def _kinds_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "MonitoringPolicy", MonitoringPolicy)
    monkeypatch.setitem(MODELS, "Notifier", Notifier)


def policy(fields: dict[str, str] = PLAIN, /, **changed: str) -> str:
    """A policy with some fields written otherwise; an empty text leaves one out."""
    lines = [text for text in {**fields, **changed}.values() if text]
    return "kind: MonitoringPolicy\nmetadata: {name: p}\nspec:\n" + "".join(f"  {line}\n" for line in lines)


def problems(declared: Declared, document: str, scored: str = SCORED, outcomes: str = OUTCOMES) -> list[str]:
    declared.documents("resources/around.yaml", *AROUND, scored, outcomes)
    return declared.problems(document)


def loaded(declared: Declared, document: str) -> MonitoringPolicy:
    assert problems(declared, document) == []
    found: Any = declared.load().resources[Key("MonitoringPolicy", "p")]
    assert isinstance(found, MonitoringPolicy)
    return found


def test_the_policy_of_the_manual_is_read_whole(declared: Declared) -> None:
    spec = loaded(declared, policy(FULL)).spec
    assert spec.data.labels is not None
    assert spec.data.labels.max_delay == 30 * 86_400
    assert (spec.window.size, spec.window.lateness, spec.window.min_rows) == (86_400, 21_600, 1000)
    assert [check.type for check in spec.checks] == ["upstreamChange", "dataDrift", "conceptDrift"]
    assert spec.checks[2].max_drop == 0.03  # type: ignore[union-attr]
    assert spec.columns.overrides["price"].unit == "EUR"
    retrain = spec.actions[0].retrain
    assert retrain is not None
    assert (retrain.cooldown, retrain.budget) == (7 * 86_400, Budget(4, 30 * 86_400))
    assert dict(retrain.datasets) == {"train": "loan-recent"}
    assert spec.actions[1].block_retrain
    assert (spec.actions[2].severity, spec.actions[2].rollback) == ("critical", "propose")


def test_what_is_left_out_is_as_documented(declared: Declared) -> None:
    spec = loaded(declared, policy()).spec
    assert spec.decide.fire == Fire(2, 3)
    assert (spec.decide.clear, spec.decide.warmup, spec.schedule) == (3, 3, 3600)
    assert (spec.reference.source, spec.reference.season, spec.window.from_) == ("training", "none", "start")
    inputs = spec.checks[1]
    assert inputs.type == "dataDrift"
    assert (inputs.numeric, inputs.categorical, inputs.severity) == ("psi", "jensenShannon", None)
    assert spec.actions == ()
    assert not spec.suspend


def test_a_policy_is_written_as_it_was_read(declared: Declared) -> None:
    read = loaded(declared, policy(FULL))
    written = read.model_dump(mode="json", by_alias=True)
    assert MonitoringPolicy.model_validate(written) == read
    assert written["spec"]["decide"]["fire"] == "2 of 3"
    assert written["spec"]["actions"][0]["retrain"]["budget"] == "4 per 30d"
    assert written["spec"]["checks"][2]["maxDrop"] == "3%"


@pytest.mark.parametrize(
    "changed",
    [
        {"window": "window: {rows: 5000, from: promotion}"},
        {"window": "window: {size: 1w, from: '2026-01-31T12:00:00+01:00'}"},
        {"reference": "reference: {source: {dataset: loan-recent}, season: hourOfWeek}"},
        {"reference": "reference: {source: {rolling: 8w}, season: month}"},
        {"task": "task: binary"},
        {"suspend": "suspend: true"},
        {
            "checks": "checks: [{name: a, type: dataDrift, thresholds: calibrated, multivariate: domainClassifier}]"
        },
        {
            "checks": "checks: [{name: a, type: dataDrift, multivariate: alibi/mmd, thresholds: {alibi/mmd: 0.1}}]"
        },
        {
            "checks": "checks: [{name: a, type: dataDrift, numeric: acme-drift/energy, categorical: chiSquare}]"
        },
        {
            "checks": "checks: [{name: a, type: upstreamChange, detectors: [schema, nullRate], severity: info}]"
        },
        {"checks": "checks: [{name: a, type: conceptDrift, maxDrop: 0.1, loss: [adwin, pageHinkley]}]"},
        {"checks": "checks: [{name: a, type: targetDrift, thresholds: {jensenShannon: 0.05}}]"},
        {
            "actions": "actions: [{on: [upstream, inputs], blockRetrain: false, retrain: {experiment: loan-gbt}}]"
        },
    ],
)
def test_each_form_is_taken(declared: Declared, changed: dict[str, str]) -> None:
    loaded(declared, policy(PLAIN, **changed))


CHECK = "checks: [{{name: a, type: {}}}]"


@pytest.mark.parametrize(
    ("changed", "place", "words"),
    [
        ({"model": ""}, "spec.model", "is required"),
        ({"stage": "stage: Production"}, "spec.stage", "is not a name"),
        ({"slice": "slice: [a]"}, "spec.slice", "Did you mean slices?"),
        ({"task": "task: ranking"}, "spec.task", "binary, multiclass, regression"),
        ({"window": "window: {}"}, "spec.window.size", "or rows instead of it"),
        ({"window": "window: {size: 1d, rows: 9}"}, "spec.window.rows", "stands beside size"),
        ({"window": "window: {rows: 9, lateness: 6h}"}, "spec.window.lateness", "event time"),
        ({"window": "window: {size: day}"}, "spec.window.size", "is not a duration"),
        ({"window": "window: {size: 1d, from: yesterday}"}, "spec.window.from", "start or promotion"),
        ({"window": "window: {size: 1d, from: '2026-02-31'}"}, "spec.window.from", "is not a time"),
        ({"window": "window: {size: 1d, minRows: 0}"}, "spec.window.minRows", "is less than 1"),
        ({"reference": "reference: {source: trainig}"}, "spec.reference.source", "Write training"),
        (
            {"reference": "reference: {source: {roling: 8w}}"},
            "spec.reference.source.roling",
            "dataset, rolling",
        ),
        ({"reference": "reference: {source: 8}"}, "spec.reference.source", "Write training"),
        ({"reference": "reference: {season: hourOfDay}"}, "spec.reference.season", "hourOfWeek"),
        (
            {"columns": "columns: {overrides: {price: {units: EUR}}}"},
            "spec.columns.overrides.price.units",
            "unit?",
        ),
        ({"decide": "decide: {fire: 4 of 3}"}, "spec.decide.fire", "asks for 4 windows out of 3"),
        ({"decide": "decide: {fire: 2/3}"}, "spec.decide.fire", "Write it as 2 of 3"),
        ({"decide": "decide: {fire: 0 of 3}"}, "spec.decide.fire", "is not k of n"),
        ({"decide": "decide: {fire: 2 of 99}"}, "spec.decide.fire", "more than 64"),
        ({"decide": "decide: {warmup: -1}"}, "spec.decide.warmup", "is less than 0"),
        ({"decide": "decide: {clear: 0}"}, "spec.decide.clear", "is less than 1"),
        # checks
        ({"checks": "checks: []"}, "spec.checks", "fewer than 1"),
        ({"checks": "checks: [drift]"}, "spec.checks[0]", "is not a check"),
        ({"checks": "checks: [{name: a}]"}, "spec.checks[0].type", "is required"),
        ({"checks": "checks: [{type: dataDrift}]"}, "spec.checks[0].name", "is required"),
        ({"checks": CHECK.format("datadrift")}, "spec.checks[0].type", "Did you mean dataDrift?"),
        ({"checks": CHECK.format("x")}, "spec.checks[0].type", "Choose one of upstreamChange"),
        ({"checks": CHECK.format("3")}, "spec.checks[0].type", "is not a type"),
        (
            {"checks": CHECK.format("dataDrift, metric: r2")},
            "spec.checks[0].metric",
            "a field of conceptDrift",
        ),
        ({"checks": CHECK.format("dataDrift, numerc: ks")}, "spec.checks[0].numerc", "Did you mean numeric?"),
        ({"checks": CHECK.format("dataDrift, numeric: kss")}, "spec.checks[0].numeric", "Did you mean ks?"),
        (
            {"checks": CHECK.format("dataDrift, categorical: ks")},
            "spec.checks[0].categorical",
            "package/name",
        ),
        ({"checks": CHECK.format("dataDrift, numeric: alibi/ksd")}, "spec.checks[0].numeric", "alibi/ks?"),
        ({"checks": CHECK.format("dataDrift, numeric: '../x/y'")}, "spec.checks[0].numeric", "package/name"),
        ({"checks": CHECK.format("dataDrift, share: 0")}, "spec.checks[0].share", "is not greater than 0"),
        (
            {"checks": CHECK.format("dataDrift, thresholds: auto")},
            "spec.checks[0].thresholds",
            "or calibrated",
        ),
        (
            {"checks": CHECK.format("dataDrift, thresholds: {ks: 0.1}")},
            "spec.checks[0].thresholds.ks",
            "uses psi",
        ),
        (
            {"checks": CHECK.format("dataDrift, thresholds: {PSI: 0.1}")},
            "spec.checks[0].thresholds.PSI",
            "Did you mean psi?",
        ),
        (
            {"checks": CHECK.format("dataDrift, thresholds: {psi: 0}")},
            "spec.checks[0].thresholds.psi",
            "than 0",
        ),
        (
            {"checks": CHECK.format("upstreamChange, thresholds: {unitRatio: 2}")},
            "spec.checks[0].thresholds.unitRatio",
            "has no threshold",
        ),
        (
            {"checks": CHECK.format("dataDrift, multivariate: alibi/mmdOnline")},
            "spec.checks[0].multivariate",
            "is not a detector of alibi-detect",
        ),
        (
            {"checks": CHECK.format("upstreamChange, detectors: [schema], thresholds: {nullRate: 0.1}")},
            "spec.checks[0].thresholds.nullRate",
            "It uses schema",
        ),
        (
            {"checks": CHECK.format("upstreamChange, detectors: [nulls]")},
            "spec.checks[0].detectors[0]",
            "nullRate",
        ),
        ({"checks": CHECK.format("conceptDrift, metric: auc")}, "spec.checks[0].metric", "one of accuracy"),
        ({"checks": CHECK.format("conceptDrift, maxDrop: -1")}, "spec.checks[0].maxDrop", "is not a share"),
        ({"checks": CHECK.format("conceptDrift, maxDrop: 3 %")}, "spec.checks[0].maxDrop", "3%"),
        ({"checks": CHECK.format("conceptDrift, severity: high")}, "spec.checks[0].severity", "warning"),
        (
            {"task": "task: regression", "checks": CHECK.format("conceptDrift, metric: f1")},
            "spec.checks[0].metric",
            "is no metric of task regression",
        ),
        # actions
        (
            {"actions": "actions: [{on: [input], alert: [team]}]"},
            "spec.actions[0].on[0]",
            "Did you mean inputs?",
        ),
        (
            {"actions": "actions: [{on: [zzz], alert: [team]}]"},
            "spec.actions[0].on[0]",
            "The checks are upstream",
        ),
        ({"actions": "actions: [{on: [], alert: [team]}]"}, "spec.actions[0].on", "fewer than 1"),
        ({"actions": "actions: [{on: [inputs]}]"}, "spec.actions[0]", "does nothing"),
        (
            {"actions": "actions: [{on: [inputs], alert: [tema]}]"},
            "spec.actions[0].alert[0]",
            "Did you mean team?",
        ),
        ({"actions": "actions: [{on: [inputs], rollback: now}]"}, "spec.actions[0].rollback", "propose"),
        (
            {"actions": "actions: [{on: [inputs], retrain: {experiment: loan-gbm}}]"},
            "spec.actions[0].retrain.experiment",
            "Did you mean loan-gbt?",
        ),
        (
            {"actions": "actions: [{on: [inputs], retrain: {experiment: loan-gbt, budget: 4 a month}}]"},
            "spec.actions[0].retrain.budget",
            "4 per 30d",
        ),
        (
            {
                "actions": "actions: [{on: [inputs], retrain: {experiment: loan-gbt, datasets: {trian: loan-recent}}}]"
            },
            "spec.actions[0].retrain.datasets.trian",
            "Did you mean train?",
        ),
        (
            {
                "actions": "actions: [{on: [inputs], retrain: {experiment: loan-gbt, datasets: {train: recent}}}]"
            },
            "spec.actions[0].retrain.datasets.train",
            "there is no Dataset",
        ),
        (
            {"actions": "actions: [{on: [inputs], retrain: {experiment: loan-gbt, propose: others}}]"},
            "spec.actions[0].retrain.propose",
            "Name a Promotion of",
        ),
        (
            {"actions": "actions: [{on: [upstream], retrain: {experiment: loan-gbt}}]"},
            "spec.actions[0].on[0]",
            "can never lead to one",
        ),
        (
            {"actions": "actions: [{on: [inputs], blockRetrain: true}, {on: [inputs], blockRetrain: false}]"},
            "spec.actions[1].blockRetrain",
            "Say it once",
        ),
        # other documents
        ({"model": "model: lone"}, "spec.model", "Did you mean loan?"),
        ({"stage": "stage: produktion"}, "spec.stage", "Did you mean production?"),
        ({"data": "data: {predictions: scored}"}, "spec.data.predictions", "Did you mean loan-scored?"),
        (
            {"reference": "reference: {source: {dataset: recent}}"},
            "spec.reference.source.dataset",
            "no Dataset",
        ),
        (
            {"data": "data: {predictions: loan-scored, labels: {dataset: loan-recent}}"},
            "spec.data.labels.dataset",
            "no columns.target",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(
    declared: Declared, changed: dict[str, str], place: str, words: str
) -> None:
    found = problems(declared, policy(PLAIN, **changed))
    assert len(found) == 1, found
    where, resource, field, text = found[0].split(": ", 3)
    assert (resource, field) == ("MonitoringPolicy/p", place)
    assert words in text
    file, line, column = where.split(":")
    assert (file, int(line) > 1, int(column) > 0) == ("resources/x.yaml", True, True)


def test_an_editor_is_told_the_same_forms(declared: Declared) -> None:
    import jsonschema

    made = schema("MonitoringPolicy")
    jsonschema.Draft202012Validator.check_schema(made)
    validator = jsonschema.Draft202012Validator(made)

    def refused(**changed: str) -> list[str]:
        _, (document,) = read_values(f"apiVersion: mlops/v1\n{policy(FULL, **changed)}")
        return [error.json_path for error in validator.iter_errors(document)]

    assert refused() == []
    assert refused(window="window: {rows: 100}") == []
    for window in ("{}", "{size: 1d, rows: 9}"):
        assert refused(window=f"window: {window}") == ["$.spec.window"]
    assert refused(decide="decide: {fire: 2/3}") == ["$.spec.decide.fire"]
    assert refused(checks=CHECK.format("dataDrift, metric: r2")) == ["$.spec.checks[0]"]
    assert refused(actions="actions: [{on: [inputs]}]") == ["$.spec.actions[0]"]


def test_two_checks_of_one_name_are_both_named(declared: Declared) -> None:
    text = "checks: [{name: a, type: dataDrift}, {name: a, type: targetDrift}]"
    found = problems(declared, policy(PLAIN, checks=text))
    assert [line.split(": ")[2] for line in found] == ["spec.checks[0].name", "spec.checks[1].name"]
    assert found[0].startswith("resources/x.yaml:9:19: ")


def columns(text: str) -> str:
    return f"kind: Dataset\nmetadata: {{name: loan-scored}}\nspec: {{uri: s.csv, columns: {{{text}}}}}\n"


CONCEPT = "checks: [{name: a, type: conceptDrift}]"
SELF = "data: {predictions: loan-scored}"
JOINED = "data: {predictions: loan-scored, labels: {dataset: loan-outcomes}}"
BY_ROWS = "window: {rows: 100}"


@pytest.mark.parametrize(
    ("scored", "changed", "place", "words"),
    [
        ("prediction: p, target: y", {"data": SELF}, "spec.data.predictions", "windows of event time"),
        (
            "prediction: p, target: y",
            {"data": SELF, "window": BY_ROWS, "reference": "reference: {season: month}"},
            "spec.data.predictions",
            "a season",
        ),
        (
            "prediction: p, target: y",
            {
                **{"data": SELF, "window": BY_ROWS, "checks": "checks: [{name: a, type: dataDrift}]"},
                "actions": "actions: [{on: [a], retrain: {experiment: loan-gbt, cooldown: 7d}}]",
            },
            "spec.data.predictions",
            "a cooldown",
        ),
        ("prediction: p, timestamp: t", {"data": SELF}, "spec.checks[0].type", "needs labels"),
        ("prediction: p, timestamp: t", {"data": JOINED}, "spec.data.labels.joinOn", "no columns.id"),
        ("prediction: p, timestamp: t, id: i, target: y", {"data": JOINED}, "spec.data.labels", "Keep one"),
        ("timestamp: t, id: i", {"data": JOINED}, "spec.checks[0].type", "needs predictions"),
        (
            "timestamp: t, id: i, prediction: p",
            {"data": JOINED, "checks": "checks: [{name: a, type: conceptDrift, metric: rocAuc}]"},
            "spec.checks[0].metric",
            "needs probabilities",
        ),
    ],
)
def test_columns_that_a_policy_needs_are_asked_for(
    declared: Declared, scored: str, changed: dict[str, str], place: str, words: str
) -> None:
    found = problems(declared, policy({**PLAIN, "checks": CONCEPT}, **changed), columns(scored))
    assert [line.split(": ")[2] for line in found] == [place]
    assert words in found[0]


def test_a_policy_without_labels_may_estimate_or_look_at_inputs_alone(declared: Declared) -> None:
    only = columns("prediction: p, timestamp: t, probability: s")
    for checks in (
        "checks: [{name: a, type: conceptDrift, estimate: true}]",
        "checks: [{name: a, type: dataDrift}, {name: b, type: targetDrift}]",
    ):
        assert problems(declared, policy(PLAIN, data=SELF, checks=checks), only) == []


def test_row_windows_need_no_timestamps(declared: Declared) -> None:
    drift = "checks: [{name: a, type: dataDrift}]"
    assert problems(declared, policy(PLAIN, data=SELF, window=BY_ROWS, checks=drift), columns("id: i")) == []


def test_all_mistakes_of_a_policy_are_named_together(declared: Declared) -> None:
    found = problems(
        declared,
        policy(
            PLAIN,
            model="model: lone",
            decide="decide: {fire: 3 of 2, warmup: -1}",
            checks="checks: [{name: a, type: dataDrift, thresholds: {ks: 1}}, {name: a, type: dataDrft}]",
            actions="actions: [{on: [b], alert: [nobody]}]",
        ),
    )
    assert {line.split(": ")[2] for line in found} == {
        *("spec.model", "spec.decide.fire", "spec.decide.warmup"),
        *(
            "spec.checks[0].name",
            "spec.checks[1].name",
            "spec.checks[0].thresholds.ks",
            "spec.checks[1].type",
        ),
        *("spec.actions[0].on[0]", "spec.actions[0].alert[0]"),
    }


def test_times_are_in_utc_unless_they_say_otherwise() -> None:
    assert parse_time("1970-01-02") == 86_400
    assert parse_time("1970-01-02T01:00:00+01:00") == 86_400
