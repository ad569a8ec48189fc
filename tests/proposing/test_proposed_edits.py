"""What is proposed to git: minimal edits that mean a retraining or a way back, again and again the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pytest

from mlops.errors import Stalled
from mlops.proposing.proposal import Evidence, Moot, Proposal, compared, told
from mlops.proposing.retraining import retraining
from mlops.proposing.rollback import promoted, rollback
from mlops.resources.key import Key
from mlops.resources.loading import Loaded, load
from mlops.resources.monitoring_policy import MonitoringPolicy
from mlops.source.refs import branch_ref

OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64
FILES = {
    "mlops.yaml": "apiVersion: mlops/v1\nkind: Project\nmetadata: {name: bank}\nspec: {}\n",
    "resources/data.yaml": f"""\
# Data.
apiVersion: mlops/v1
kind: Dataset
metadata: {{name: loan-old}}
spec: {{uri: "s3://b/old/*.parquet", format: parquet, digest: "{OLD}"}}   # reviewed
---
apiVersion: mlops/v1
kind: Dataset
metadata: {{name: loan-recent}}
spec:
  uri: s3://b/recent/*.parquet   # grows
  format: parquet
---
apiVersion: mlops/v1
kind: Dataset
metadata: {{name: loan-table}}
spec: {{uri: s3://b/table, format: delta}}
---
apiVersion: mlops/v1
kind: Dataset
metadata: {{name: loan-test}}
spec: {{uri: data/test.csv}}
---
apiVersion: mlops/v1
kind: Dataset
metadata: {{name: loan-scored}}
spec: {{uri: "s3://b/scored/*.parquet", format: parquet, columns: {{timestamp: at, target: y, prediction: p}}}}
""",
    "resources/training.yaml": """\
apiVersion: mlops/v1
kind: Experiment
metadata: {name: loan-gbt}
spec:
  source: {path: training}
  command: [python, train.py]
  datasets:
    train: 'loan-old'     # last year's
    table: loan-table
    test: loan-test
  objective: {metric: auc, goal: maximize}
""",
    "resources/model.yaml": """\
apiVersion: mlops/v1
kind: Model
metadata: {name: loan}
spec: {}
---
apiVersion: mlops/v1
kind: ModelVersion
metadata: {name: loan-1.9.0}
spec: {model: loan, version: 1.9.0, source: {experiment: loan-gbt, artifact: gbt}}
---
apiVersion: mlops/v1
kind: ModelVersion
metadata: {name: loan-1.10.0}
spec: {model: loan, version: 1.10.0, source: {experiment: loan-gbt, artifact: gbt}}
# The end.
""",
    "resources/stages.yaml": """\
apiVersion: mlops/v1
kind: Stage
metadata: {name: production}
spec: {}
---
apiVersion: mlops/v1
kind: Promotion
metadata: {name: loan-production}
spec:
  model: loan
  stage: production
  version: "1.10.0"   # approved in March
""",
    "resources/policy.yaml": """\
apiVersion: mlops/v1
kind: MonitoringPolicy
metadata: {name: loan-live}
spec:
  model: loan
  stage: production
  data: {predictions: loan-scored}
  window: {size: 1d}
  checks: [{name: inputs, type: dataDrift}]
  actions: [{on: [inputs], retrain: {experiment: loan-gbt, datasets: {train: loan-recent}}}]
""",
    "data/test.csv": "a,y\n1,0\n",
    "training/train.py": "",
}
OUTSIDE = {
    "loan-old": OLD,
    "loan-recent": NEW,
    "loan-table": "delta:3f2a-b:17",
    "loan-scored": NEW,
}
EVIDENCE = Evidence(
    "ab12", "loan-live", "inputs", "2026-03-01", "1.10.0", ("price: psi 0.41, threshold 0.2",)
)


@dataclass(frozen=True)
class _Entry:
    path: str
    size: int
    mode: str = "100644"
    blob: str = ""


@dataclass(frozen=True)
class Revision:
    """A revision in memory, as the loader asks for it."""

    files: Mapping[str, str]
    revision: str = "1" * 40
    dirty: bool = False

    def entries(self) -> dict[str, _Entry]:
        return {path: _Entry(path, len(text.encode())) for path, text in self.files.items()}

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        return {path: self.files[path].encode() for path in paths}


def loaded_of(files: Mapping[str, str]) -> Loaded:
    loaded = load(Revision(files))
    assert not loaded.problems, [str(problem) for problem in loaded.problems]
    return loaded


def propose(files: Mapping[str, str], registered: Iterable[str] = (), **evidence: str) -> Proposal | Moot:
    loaded = loaded_of(files)
    policy = loaded.resources[Key("MonitoringPolicy", "loan-live")]
    assert isinstance(policy, MonitoringPolicy)
    retrain = policy.spec.actions[0].retrain
    assert retrain is not None
    why = replace(EVIDENCE, **evidence)
    return retraining(loaded, files, policy, retrain, OUTSIDE, why, registered=registered)


def changed(files: Mapping[str, str], file: str, old: str, new: str) -> dict[str, str]:
    assert old in files[file]
    return {**files, file: files[file].replace(old, new)}


def proposed(files: Mapping[str, str], **options: object) -> Proposal:
    found = propose(files, **options)  # type: ignore[arg-type]
    assert isinstance(found, Proposal)
    return found


def test_a_retraining_pins_fresh_data_declares_a_version_and_asks_for_it_and_changes_nothing_else():
    proposal = proposed(FILES)
    expected = dict(FILES)
    expected = changed(expected, "resources/training.yaml", "'loan-old'", "'loan-recent'")
    expected = changed(expected, "resources/stages.yaml", '"1.10.0"', '"1.11.0"')
    data = expected["resources/data.yaml"].replace("format: delta}", "format: delta, version: 17}")
    recent = "# grows\n  format: parquet\n"
    expected["resources/data.yaml"] = data.replace(recent, f"{recent}  digest: {NEW}\n")
    expected["resources/model.yaml"] += (
        "---\napiVersion: mlops/v1\nkind: ModelVersion\nmetadata: {name: loan-1.11.0}\nspec:\n"
        "  model: loan\n  version: 1.11.0\n  source: {experiment: loan-gbt, artifact: gbt}\n"
    )
    assert {**FILES, **proposal.files} == expected
    assert loaded_of(expected).whole
    assert (proposal.version, proposal.model_version) == ("1.11.0", "loan-1.11.0")
    assert (proposal.branch, proposal.promotion) == (
        "mlops/promotion/loan-production/1.11.0",
        "loan-production",
    )
    assert proposal.experiment == "loan-gbt"
    assert proposal.datasets == {"train": "loan-recent", "table": "loan-table", "test": "loan-test"}
    assert branch_ref(proposal.branch)


def test_the_same_revision_gives_the_same_proposal():
    assert proposed(FILES) == proposed(FILES)


def test_the_body_tells_what_fired_and_what_was_pinned_and_later_the_numbers():
    proposal = proposed(FILES, check="inputs")
    for words in (
        "`inputs`",
        "`2026-03-01`",
        "`price: psi 0.41, threshold 0.2`",
        f"loan-recent is pinned to {NEW}",
    ):
        assert words in proposal.message
    body = compared(proposal, "1.10.0", {"auc": (0.91, 0.93125), "f1": (None, 0.5)}, "Code changed.").body
    assert "Code changed.\n\nMetrics, as the run" in body
    assert "| `auc` | 0.91 | 0.93125 |" in body
    assert "| `f1` | – | 0.5 |" in body


def test_names_from_data_are_neither_markup_nor_lines_of_their_own():
    hostile = Evidence("a", "p", "c", "w", "1.0.0", ("x`<b>|\n## y",))
    files = FILES
    loaded = loaded_of(files)
    proposal = rollback(loaded, files, "loan-production", "1.9.0", replace(hostile, watched="1.10.0"))
    assert isinstance(proposal, Proposal)
    assert "- `x'<b>¦\N{REPLACEMENT CHARACTER}## y`\n" in proposal.body


def test_whoever_else_trains_on_a_pinned_dataset_is_named():
    other = FILES["resources/training.yaml"].replace("name: loan-gbt", "name: loan-linear")
    files = {**FILES, "resources/other.yaml": other.replace("'loan-old'", "loan-recent")}
    assert "Experiment/loan-linear trains on it, too" in proposed(files).body


def test_a_version_that_is_taken_in_git_or_known_to_mlflow_or_by_name_is_not_used_again():
    assert proposed(FILES, registered=["1.11.0", "1.12.3", "nightly"]).version == "1.13.0"
    taken = FILES["resources/model.yaml"].replace("loan-1.9.0", "loan-1.11.0")
    assert proposed({**FILES, "resources/model.yaml": taken}).version == "1.12.0"


def test_from_a_newer_revision_it_is_made_again_with_the_next_version():
    first = proposed(FILES)
    merged_by_another = (
        FILES["resources/model.yaml"] + first.files["resources/model.yaml"].partition("# The end.\n")[2]
    )
    again = proposed({**FILES, "resources/model.yaml": merged_by_another})
    assert (again.branch, again.version) == ("mlops/promotion/loan-production/1.12.0", "1.12.0")


def test_it_is_moot_when_another_version_was_promoted_meanwhile():
    files = changed(FILES, "resources/stages.yaml", '"1.10.0"', '"1.9.0"')
    found = propose(files)
    assert isinstance(found, Moot)
    assert "asks for 1.9.0 now" in found.reason


def test_a_promotion_that_follows_the_latest_version_stays_as_it_is():
    files = changed(FILES, "resources/stages.yaml", '"1.10.0"   # approved in March', "latest")
    proposal = proposed(files)
    assert sorted(proposal.files) == [
        "resources/data.yaml",
        "resources/model.yaml",
        "resources/training.yaml",
    ]
    assert "follows the latest version" in proposal.body


def test_a_version_in_a_file_of_its_own_gets_a_neighbour():
    head, tail = FILES["resources/model.yaml"].rsplit("---\n", 1)
    files = {**FILES, "resources/model.yaml": head, "resources/versions/loan-1.10.0.yaml": tail}
    proposal = proposed(files)
    assert "resources/model.yaml" not in proposal.files
    new = proposal.files["resources/versions/loan-1.11.0.yaml"]
    assert new.startswith("apiVersion: mlops/v1\nkind: ModelVersion\n")
    assert loaded_of({**files, **proposal.files}).whole


def test_a_model_without_versions_gets_its_first_beside_the_promotion():
    files = {**FILES, "resources/model.yaml": FILES["resources/model.yaml"].partition("---\n")[0]}
    loaded_of(changed(files, "resources/stages.yaml", '"1.10.0"', "latest"))
    proposal = proposed(changed(files, "resources/stages.yaml", '"1.10.0"', "latest"))
    assert proposal.version == "1.0.0"
    assert "name: loan-1.0.0" in proposal.files["resources/stages.yaml"]


def test_data_that_a_policy_watches_is_never_frozen():
    files = changed(FILES, "resources/policy.yaml", "train: loan-recent", "train: loan-scored")
    with pytest.raises(Stalled, match="would not grow"):
        propose(files)


def test_a_named_dataset_is_pinned_anew_and_others_keep_their_pin():
    files = changed(FILES, "resources/policy.yaml", "train: loan-recent", "train: loan-old")
    files = changed(files, "resources/data.yaml", "format: delta}", "format: delta, version: 3}")
    digest = "sha256:" + "2" * 64
    loaded = loaded_of(files)
    policy = loaded.resources[Key("MonitoringPolicy", "loan-live")]
    assert isinstance(policy, MonitoringPolicy)
    retrain = policy.spec.actions[0].retrain
    assert retrain is not None
    found = retraining(loaded, files, policy, retrain, {**OUTSIDE, "loan-old": digest}, EVIDENCE)
    assert isinstance(found, Proposal)
    assert found.files["resources/data.yaml"] == files["resources/data.yaml"].replace(OLD, digest)


def test_two_that_stand_beside_each_other_have_two_versions_and_two_branches():
    first = proposed(FILES)
    second = proposed(FILES, registered=[first.version])
    assert (second.branch, second.version) == ("mlops/promotion/loan-production/1.12.0", "1.12.0")
    assert branch_ref(first.branch) != branch_ref(second.branch)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("resources/training.yaml", "spec:\n", "spec:\n  suspend: true\n"),
        ("resources/stages.yaml", "  model: loan\n  stage: production\n", "  model: loan\n  stage: other\n"),
    ],
)
def test_what_is_missing_is_said(file, old, new):
    files = {**FILES, "resources/other.yaml": FILES["resources/stages.yaml"].partition("---")[0]}
    files = changed(files, "resources/other.yaml", "name: production", "name: other")
    files = changed(files, "resources/other.yaml", "spec: {}", "spec: {alias: other}")
    with pytest.raises(Stalled) as refused:
        propose(changed(files, file, old, new))
    assert refused.value.fix


def test_the_windows_before_are_drawn_as_text_and_the_report_is_named():
    seen = replace(EVIDENCE, values=(0.02, None, float("inf"), 0.1, 0.41), threshold=0.2, report="a" * 32)
    body = told(seen)
    assert "`inputs` in the newest 5 windows: `▁  ▂█  0.41, threshold 0.2`" in body
    assert f"MLflow run `{'a' * 32}`" in body
    link = "https://mlflow.example/#/experiments/7/runs/1"
    assert f"[The report of that window](<{link}>)" in told(replace(seen, report=link))


def test_a_way_back_changes_the_promotion_only():
    proposal = rollback(loaded_of(FILES), FILES, "loan-production", "1.9.0", EVIDENCE)
    assert isinstance(proposal, Proposal)
    expected = FILES["resources/stages.yaml"].replace('"1.10.0"', '"1.9.0"')
    assert proposal.files == {"resources/stages.yaml": expected}
    assert (proposal.branch, proposal.experiment) == ("mlops/promotion/loan-production/1.9.0", None)
    after = {**FILES, **proposal.files}
    assert isinstance(rollback(loaded_of(after), after, "loan-production", "1.9.0", EVIDENCE), Moot)


def test_a_way_back_from_the_latest_version_ends_following_it():
    files = changed(FILES, "resources/stages.yaml", '"1.10.0"', "latest")
    proposal = rollback(loaded_of(files), files, "loan-production", "1.9.0", EVIDENCE)
    assert isinstance(proposal, Proposal)
    assert "version: 1.9.0   # approved" in proposal.files["resources/stages.yaml"]
    assert "not follow the latest" in proposal.body


def test_only_a_declared_version_is_asked_for_and_nothing_where_it_is_asked_for_already():
    loaded = loaded_of(FILES)
    assert promoted(loaded, FILES, "loan-production", "1.10.0") == {}
    with pytest.raises(Stalled, match=r"no declared version 3\.0\.0"):
        promoted(loaded, FILES, "loan-production", "3.0.0")
    with pytest.raises(Stalled, match="there is no Promotion/nobody"):
        promoted(loaded, FILES, "nobody", "1.9.0")
