"""What is changed in MLflow by hand is put right and said, and what leaves git is taken out of force."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forking import Forks
from git_project import GitProject
from running import Daemons, configure, declared, in_stage, sight, until

Hand = Callable[[Any, "Ids"], None]


class Ids:
    """What the objects of the kept project are called in MLflow."""

    def __init__(self, client: Any) -> None:
        versions = {
            v.tags["mlops.version"]: str(v.version) for v in client.search_model_versions("name = 'm'")
        }
        self.one, self.two = versions["1.0.0"], versions["2.0.0"]
        self.experiment: str = client.get_experiment_by_name("p/fit").experiment_id
        self.project: str = client.get_experiment_by_name("p").experiment_id


class Kept:
    """A project that a daemon keeps, with everything in force."""

    def __init__(self, project: GitProject, daemons: Daemons) -> None:
        self.project, self.daemons = project, daemons
        self.daemon = daemons.fork(project.root)
        self.daemon.tells("Promoted", resource="Promotion/m-prod")
        self.daemon.rests()
        self.client = project.client
        self.ids = Ids(self.client)

    def commit(self, **asked: Any) -> str:
        self.project.declare(declared(**asked))
        return self.project.commit()

    def configure(self, **settings: Any) -> str:
        """Commit other settings of the Project."""
        configure(self.project, **settings)
        return self.project.commit()


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory, forks: Forks, with_store: Callable[[Path], Path]
) -> Iterator[Kept]:
    """Shared by the tests of this file: each leaves it as it found it."""
    place = tmp_path_factory.mktemp("kept")
    project = GitProject(
        place / "project", declared(prod="1.0.0", labels={"team": "a"}), source={"interval": "1h"}
    )
    with_store(project.root)
    daemons = Daemons(forks, place)
    yield Kept(project, daemons)
    daemons.close()


HANDS: dict[str, tuple[Hand, str, str]] = {
    "an alias is moved": (
        lambda c, ids: c.set_registered_model_alias("m", "dev", ids.two),
        "Promotion/m-dev",
        "alias dev was on v{two}, and is on v{one} again",
    ),
    "an alias is deleted": (
        lambda c, ids: c.delete_registered_model_alias("m", "prod"),
        "Promotion/m-prod",
        "alias prod was gone, and is on v{one} again",
    ),
    "the record of a stay is edited": (
        lambda c, ids: c.set_model_version_tag("m", ids.one, "mlops.stage.dev.approvedBy", "me"),
        "Promotion/m-dev",
        "tag mlops.stage.dev.approvedBy was 'me', and is gone again",
    ),
    "the record of a stay is deleted": (
        lambda c, ids: c.delete_model_version_tag("m", ids.one, "mlops.stage.dev.since"),
        "Promotion/m-dev",
        "tag mlops.stage.dev.since was gone, and is '2",
    ),
    "a model's description is edited": (
        lambda c, ids: c.update_registered_model("m", "mine"),
        "Model/m",
        "the description was 'mine', and is 'A model' again",
    ),
    "a model's tag is edited": (
        lambda c, ids: c.set_registered_model_tag("m", "mlops.resource", "mine"),
        "Model/m",
        "tag mlops.resource was 'mine', and is 'Model/m' again",
    ),
    "a model's tag is deleted": (
        lambda c, ids: c.delete_registered_model_tag("m", "mlops.project"),
        "Model/m",
        "tag mlops.project was gone, and is 'p' again",
    ),
    "a version's description is edited": (
        lambda c, ids: c.update_model_version("m", ids.one, "mine"),
        "ModelVersion/m-1.0.0",
        "the description was 'mine', and is empty again",
    ),
    "a version's tag is edited": (
        lambda c, ids: c.set_model_version_tag("m", ids.one, "mlops.resource", "mine"),
        "ModelVersion/m-1.0.0",
        "tag mlops.resource was 'mine', and is 'ModelVersion/m-1.0.0' again",
    ),
    "a version is given another number": (
        lambda c, ids: c.set_model_version_tag("m", ids.one, "mlops.version", "9.9.9"),
        "ModelVersion/m-1.0.0",
        "tag mlops.version was '9.9.9', and is '1.0.0' again",
    ),
    "a version's number is deleted": (
        lambda c, ids: c.delete_model_version_tag("m", ids.one, "mlops.version"),
        "ModelVersion/m-1.0.0",
        "tag mlops.version was gone, and is '1.0.0' again",
    ),
    "a version's digest is deleted": (
        lambda c, ids: c.delete_model_version_tag("m", ids.one, "mlops.digest"),
        "ModelVersion/m-1.0.0",
        "tag mlops.digest was gone, and is 'sha256:",
    ),
    "a version's digest is edited": (
        lambda c, ids: c.set_model_version_tag("m", ids.one, "mlops.digest", "sha256:00"),
        "ModelVersion/m-1.0.0",
        "tag mlops.digest was 'sha256:00', and is 'sha256:",
    ),
    "a version's fingerprint is edited": (
        lambda c, ids: c.set_model_version_tag("m", ids.one, "mlops.fingerprint", "00"),
        "ModelVersion/m-1.0.0",
        "tag mlops.fingerprint was '00', and is '",
    ),
    "the revision that bound a version is edited": (
        lambda c, ids: c.set_model_version_tag("m", ids.one, "mlops.revision", "main"),
        "ModelVersion/m-1.0.0",
        "tag mlops.revision was 'main', and is '",
    ),
    "the record of what a version was bound with is edited": (
        lambda c, ids: c.set_model_version_tag("m", ids.one, "mlops.bound", '{"mlops.digest": "sha256:00"}'),
        "ModelVersion/m-1.0.0",
        "tag mlops.bound was ",
    ),
    "an experiment's label is edited": (
        lambda c, ids: c.set_experiment_tag(ids.experiment, "mlops.label.team", "b"),
        "Experiment/fit",
        "tag mlops.label.team was 'b', and is 'a' again",
    ),
    "an experiment's tag is deleted": (
        lambda c, ids: c.delete_experiment_tag(ids.experiment, "mlops.resource"),
        "Experiment/fit",
        "tag mlops.resource was gone, and is 'Experiment/fit' again",
    ),
}


@pytest.mark.parametrize("what", HANDS)
def test_a_change_by_hand_is_put_right_and_it_is_said_what_was_found(kept: Kept, what: str) -> None:
    hand, resource, found = HANDS[what]
    before = sight(kept.project.root)
    kept.daemon.mark()
    hand(kept.client, kept.ids)
    said = found.format(one=kept.ids.one, two=kept.ids.two)
    healed = kept.daemon.tells("Healed", resource=resource, message=said)
    assert healed["cause"] == "changed outside git"
    until(lambda: sight(kept.project.root) == before, "everything is as it was")
    kept.daemon.rests()
    assert len(kept.daemon.told("Healed")) == 1
    assert not [row for row in kept.daemon.rows[kept.daemon.seen :] if row["event"] in ("Bound", "Promoted")]
    described = kept.daemons.run(kept.project.root, "describe", resource, "-o", "json")
    assert said in described.stdout


def test_an_alias_of_nobodys_is_left_alone(kept: Kept) -> None:
    before = sight(kept.project.root)
    kept.daemon.mark()
    kept.client.set_registered_model_alias("m", "mine", kept.ids.two)
    kept.client.set_registered_model_tag("m", "mine", "yes")
    kept.daemon.tells("Pass", message="ledger")
    kept.daemon.rests()
    assert not kept.daemon.told("Healed")
    kept.client.delete_registered_model_alias("m", "mine")
    kept.client.delete_registered_model_tag("m", "mine")
    assert sight(kept.project.root) == before


def marked(kept: Kept) -> str | None:
    """The revision that MLflow says is in force."""
    tags: dict[str, str] = kept.client.get_experiment(kept.ids.project).tags
    return tags.get("mlops.applied.revision")


@pytest.mark.parametrize("edited", ["nothing", "main", None])
def test_an_edited_mark_of_the_revision_in_force_is_put_right_where_it_is_known(
    kept: Kept, edited: str | None
) -> None:
    head = kept.project.git("rev-parse", "HEAD")
    kept.daemon.mark()
    if edited is None:
        kept.client.delete_experiment_tag(kept.ids.project, "mlops.applied.revision")
    else:
        kept.client.set_experiment_tag(kept.ids.project, "mlops.applied.revision", edited)
    found = f"was {edited!r}" if edited else "was gone"
    kept.daemon.tells("Healed", resource="Project/p", message=f"{found}, and is {head} again")
    assert marked(kept) == head
    kept.daemon.rests()


def test_the_last_good_revision_is_kept_where_git_has_not_the_one_in_force(kept: Kept) -> None:
    daemon, head = kept.daemon, kept.project.git("rev-parse", "HEAD")
    daemon.mark()
    kept.client.set_experiment_tag(kept.ids.project, "mlops.applied.revision", "f" * 40)
    daemon.tells("RevisionRefused", resource="Project/p", message="ffffffffffff, cannot be read either")
    kept.client.delete_registered_model_alias("m", "dev")
    daemon.tells("Healed", resource="Promotion/m-dev", revision=head)
    assert not daemon.told("PassFailed")
    assert marked(kept) == "f" * 40
    kept.client.set_experiment_tag(kept.ids.project, "mlops.applied.revision", head)
    daemon.rests()


def test_nothing_is_pruned_because_of_an_edited_mark_and_healing_goes_on(kept: Kept) -> None:
    daemon, root = kept.daemon, kept.project.root
    kept.project.write("resources/broken.yaml", "kind: Model\n")
    broken = kept.commit(prod="1.0.0", labels={"team": "a"})  # from now on it is not the last good one
    until(lambda: marked(kept) == broken, "it is in force")
    daemon.rests()
    for mend in ("by hand", "by reconcile"):
        daemon.mark()
        kept.client.set_experiment_tag(kept.ids.project, "mlops.applied.revision", "nothing")
        daemon.tells("RevisionRefused", resource="Project/p", message="(it is 'nothing')")
        (root / "resources/broken.yaml").unlink()
        head = kept.commit(labels={"team": "a"})  # without the promotion to prod
        daemon.tells("PruneRefused", resource="Promotion/m-prod", revision=head)
        kept.client.delete_registered_model_alias("m", "dev")
        daemon.tells("Healed", resource="Promotion/m-dev", revision=head)
        assert (in_stage(root), in_stage(root, "prod"), marked(kept)) == ("1.0.0", "1.0.0", "nothing")
        asked = kept.daemons.run(root, "reconcile")
        assert (asked.code, "edited by hand" in asked.stderr) == (3, True), asked.stderr
        if mend == "by hand":
            kept.client.set_experiment_tag(kept.ids.project, "mlops.applied.revision", broken)
        else:
            asked = kept.daemons.run(root, "reconcile", "--accept-rewrite")
            assert asked.code == 0, asked.stderr
        daemon.tells("Demoted", resource="Promotion/m-prod", revision=head)
        daemon.rests()
        assert (in_stage(root, "prod"), marked(kept)) == (None, head)
        kept.project.write("resources/broken.yaml", "kind: Model\n")
        broken = kept.commit(prod="1.0.0", labels={"team": "a"})
        daemon.tells("Promoted", resource="Promotion/m-prod", revision=broken)
        daemon.rests()
    (root / "resources/broken.yaml").unlink()
    kept.project.commit()
    daemon.rests()


def test_a_head_that_cannot_be_read_stops_no_healing_and_says_why(kept: Kept) -> None:
    daemon = kept.daemon
    before = kept.project.git("rev-parse", "HEAD")
    daemon.mark()
    blob = kept.project.git("hash-object", "mlops.yaml")
    kept.project.git("update-index", "--add", "--cacheinfo", f"100644,{blob},.mlops/cache.db")
    kept.project.git("commit", "-q", "-m", "with what a machine remembers")
    head = kept.project.git("rev-parse", "HEAD")
    daemon.tells("RevisionRefused", resource="Project/p", revision=head, message=".mlops/ is tracked by git")
    kept.client.delete_registered_model_alias("m", "dev")
    daemon.tells("Healed", resource="Promotion/m-dev", revision=before)
    daemon.rests()
    assert not daemon.told("PassFailed")
    assert len(daemon.told("RevisionRefused")) == 1
    assert marked(kept) == before

    kept.project.git("rm", "-q", "--cached", ".mlops/cache.db")
    kept.project.git("commit", "-q", "-m", "without it")
    head = kept.project.git("rev-parse", "HEAD")
    daemon.tells("InForce", revision=head)
    daemon.rests()


def test_without_self_heal_it_is_only_reported(kept: Kept) -> None:
    daemon = kept.daemon
    daemon.mark()
    sha = kept.configure(selfHeal=False)
    until(lambda: kept.daemons.get(kept.project.root)["revision"] == sha, "the Project is in force")
    daemon.rests()
    daemon.mark()
    kept.client.delete_registered_model_alias("m", "dev")
    kept.client.set_experiment_tag(kept.ids.experiment, "mlops.label.team", "b")
    daemon.tells(
        "SelfHealOff", resource="Promotion/m-dev", message=f"alias dev is gone, not on v{kept.ids.one}"
    )
    daemon.tells("SelfHealOff", resource="Experiment/fit", message="tag mlops.label.team is 'b', not 'a'")
    daemon.rests()
    for _ in range(3):
        assert kept.daemons.run(kept.project.root, "reconcile").code == 3
    assert not daemon.told("Healed")
    assert len(daemon.told("SelfHealOff")) == 2  # not again in every pass
    row = kept.daemons.get(kept.project.root)["resources"]["Promotion/m-dev"]
    assert (row["sync"], row["health"]) == ("OutOfSync", "Degraded")
    assert in_stage(kept.project.root) is None

    kept.configure()
    daemon.tells("Healed", resource="Promotion/m-dev")
    daemon.tells("Healed", resource="Experiment/fit")
    assert in_stage(kept.project.root) == "1.0.0"
    daemon.rests()


def test_what_somebody_changes_back_again_and_again_is_let_be_for_a_while(
    make_project: Callable[..., GitProject], daemons: Daemons
) -> None:
    project = make_project()
    daemon = daemons.fork(project.root, changed={"daemon.retries.OFTEN": 3, "daemon.retries.FIRST": 600.0})
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.rests()
    client = project.client
    daemon.mark()
    for times in range(1, 4):
        client.update_registered_model("m", "mine")
        until(lambda times=times: len(daemon.told("Healed")) == times, lambda: f"not healed\n{daemon}")
        daemon.rests()
    client.update_registered_model("m", "mine")
    daemon.rests()
    client.delete_registered_model_alias("m", "dev")  # everything else goes on
    daemon.tells("Healed", resource="Promotion/m-dev")
    daemon.rests()
    assert len(daemon.told("Healed", resource="Model/m")) == 3
    row = daemons.get(project.root)["resources"]["Model/m"]
    assert "put right 3 times within minutes" in str(row["conditions"])

    assert daemons.run(project.root, "reconcile").code == 0  # somebody asks
    assert len(daemon.told("Healed", resource="Model/m")) == 4


def test_a_removed_promotion_is_demoted_unless_something_is_broken(kept: Kept) -> None:
    daemon, root = kept.daemon, kept.project.root
    daemon.mark()
    documents = declared(labels={"team": "a"})
    kept.project.declare(documents)
    kept.project.write("resources/broken.yaml", "apiVersion: mlops/v1\nkind: Model\n")
    kept.project.commit()
    daemon.tells("Invalid", resource="Promotion/m-prod", message="resources/broken.yaml")
    daemon.rests()
    assert in_stage(root, "prod") == "1.0.0"

    (root / "resources/broken.yaml").unlink()
    kept.project.commit()
    daemon.tells("Demoted", resource="Promotion/m-prod")
    assert in_stage(root, "prod") is None
    assert kept.client.get_model_version("m", kept.ids.one).status == "READY"
    kept.commit(prod="1.0.0", labels={"team": "a"})
    daemon.tells("Promoted", resource="Promotion/m-prod")
    daemon.rests()


def test_an_emptied_set_of_resources_is_refused_until_it_is_allowed(kept: Kept) -> None:
    daemon, root = kept.daemon, kept.project.root
    before = kept.project.git("rev-parse", "HEAD")
    daemon.mark()
    kept.project.git("rm", "-q", "-r", "resources")
    emptied = kept.project.commit()
    daemon.tells("RevisionRefused", resource="Project/p", revision=emptied, message="allowEmpty")
    kept.client.delete_registered_model_alias("m", "dev")
    daemon.tells("Healed", resource="Promotion/m-dev", revision=before)
    assert (in_stage(root), in_stage(root, "prod")) == ("1.0.0", "1.0.0")
    assert not daemon.told("Demoted")

    kept.configure(allowEmpty=True)
    daemon.tells("Demoted", resource="Promotion/m-prod")
    assert (in_stage(root), in_stage(root, "prod")) == (None, None)
    configure(kept.project)
    kept.commit(prod="1.0.0", labels={"team": "a"})
    daemon.tells("Promoted", resource="Promotion/m-prod")
    daemon.rests()


def rewritten(kept: Kept, **asked: Any) -> tuple[str, str]:
    """Amend the newest commit, of which a copy is kept nowhere; gives it and what came in its place."""
    before = kept.project.git("rev-parse", "HEAD")
    kept.project.declare(declared(**asked, labels={"team": "a"}))
    kept.project.git("add", "-A")
    kept.project.git("commit", "-q", "--amend", "--allow-empty", "-m", "rewritten")
    return before, kept.project.git("rev-parse", "HEAD")


def test_rewritten_history_is_not_taken_before_somebody_accepts_it(kept: Kept) -> None:
    daemon, root = kept.daemon, kept.project.root
    daemon.mark()
    before, head = rewritten(kept, dev="2.0.0")
    daemon.tells("RevisionRefused", resource="Project/p", revision=head, message="does not descend")
    daemon.rests()
    kept.client.delete_registered_model_alias("m", "dev")
    daemon.tells("Healed", resource="Promotion/m-dev", revision=before)
    assert (in_stage(root), in_stage(root, "prod")) == ("1.0.0", "1.0.0")
    row = kept.daemons.get(root)["resources"]["Project/p"]
    assert f"{head[:12]} does not descend from {before[:12]}" in str(row["conditions"])
    asked = kept.daemons.run(root, "reconcile")
    assert (asked.code, "does not descend" in asked.stderr) == (3, True), asked.stderr
    assert len(daemon.told("RevisionRefused")) == 1  # however many passes there were

    asked = kept.daemons.run(root, "reconcile", "--accept-rewrite")
    assert asked.code == 0, asked.stderr
    daemon.tells("Promoted", resource="Promotion/m-dev", revision=head)
    daemon.tells("Demoted", resource="Promotion/m-prod", revision=head)
    assert (in_stage(root), in_stage(root, "prod")) == ("2.0.0", None)
    kept.commit(prod="1.0.0", labels={"team": "a"})
    daemon.tells("Promoted", resource="Promotion/m-prod")
    daemon.rests()


def test_rewritten_history_is_followed_where_the_project_in_force_says_so(kept: Kept) -> None:
    daemon, root = kept.daemon, kept.project.root
    daemon.mark()
    configure(kept.project, source={"rewrites": "follow"})
    before, head = rewritten(kept, dev="2.0.0", prod="1.0.0")  # only the new head says it: that is not enough
    daemon.tells("RevisionRefused", revision=head)
    assert kept.daemons.run(root, "reconcile").code == 3
    assert in_stage(root) == "1.0.0"
    kept.project.git("reset", "-q", "--hard", before)

    configure(kept.project, source={"rewrites": "follow"})
    kept.project.commit()
    daemon.rests()
    daemon.mark()
    _, head = rewritten(kept, dev="2.0.0", prod="1.0.0")
    daemon.tells("Promoted", resource="Promotion/m-dev", revision=head)
    assert in_stage(root) == "2.0.0"
    configure(kept.project)
    kept.commit(prod="1.0.0", labels={"team": "a"})
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.rests()


def test_a_project_whose_file_is_deleted_and_not_committed_is_shown_as_it_is_in_force(kept: Kept) -> None:
    root = kept.project.root
    before = kept.daemons.get(root)
    (root / "mlops.yaml").unlink()
    assert kept.daemons.get(root) == before
    planned = kept.daemons.run(root, "plan", "--working-tree")
    assert (planned.code, "mlops.yaml:1:1: is missing" in planned.stderr) == (1, True), planned.stderr
    kept.project.git("restore", "mlops.yaml")
