"""Project: where things are kept, how git is followed, who may approve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mlops.resources.document import Boolean, Document, Section, Spec, Variable, exactly_one, refuse
from mlops.resources.fields import Steps, View, steps, text_at
from mlops.resources.places import ArtifactUri, ForgeUrl, RelativePath, StateUri, TrackingUri
from mlops.resources.problem import shown
from mlops.resources.quantities import Duration

DEFAULT_ARTIFACTS = ".mlops/artifacts"
_REMOTE = ("http:", "https:", "databricks", "uc", "${")

EMAIL_PATTERN = r"^[^@\s<>]{1,64}@[^@\s<>]{1,255}$"
Email = Annotated[str, StringConstraints(pattern=EMAIL_PATTERN)]
GroupName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
_Login = Annotated[str, StringConstraints(pattern=r"^[^\s/]{1,255}$")]
_Key = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
_Part = Annotated[str, StringConstraints(pattern=r"^[^\s/?#]([^/?#]{0,253}[^\s/?#])?$")]


def _branch(name: str) -> str:
    parts = name.split("/")
    bad = any(char in name for char in " ~^:?*[\\\x7f") or any(ord(char) < 32 for char in name)
    if (
        bad
        or name.startswith("-")
        or "@{" in name
        or ".." in name
        or name == "@"
        or any(not part or part[0] == "." or part.endswith((".", ".lock")) for part in parts)
    ):
        raise refuse("is not a name that git takes for a branch", "Choose a name such as main.")
    return name


class Tracking(Section):
    """Where MLflow keeps runs and models."""

    uri: TrackingUri = Field(
        default="sqlite:///.mlops/mlflow.db",
        description="Any MLflow tracking URI. Default: `sqlite:///.mlops/mlflow.db`.",
    )
    artifacts: ArtifactUri | None = Field(
        default=None,
        description="Where artifacts go. Default: `.mlops/artifacts`; for a server, its own place.",
    )

    @model_validator(mode="before")
    @classmethod
    def _artifacts_beside_the_store(cls, data: Any) -> Any:
        # A server hands out its own artifact location; only a store that we open ourselves needs one.
        if not isinstance(data, dict) or "artifacts" in data or str(data.get("uri", "")).startswith(_REMOTE):
            return data
        return {**data, "artifacts": DEFAULT_ARTIFACTS}


class State(Section):
    """Where the reconciler keeps its cache."""

    uri: StateUri = Field(
        default="sqlite:///.mlops/state.db",
        description="`sqlite:///…` or `postgresql://…`. Default: `sqlite:///.mlops/state.db`.",
    )
    keep_events: Duration = Field(
        default=7_776_000.0,
        json_schema_extra={"default": "90d"},
        description="How long events are kept, the newest 100 of each resource at most. Default: 90d.",
    )


class GitSource(Section):
    """How git is followed."""

    branch: Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_branch)] = Field(
        default="main", description="The branch in force. Default: main."
    )
    interval: Duration = Field(
        default=60.0, json_schema_extra={"default": "1m"}, description="How often git is asked. Default: 1m."
    )
    rewrites: Literal["refuse", "follow"] = Field(
        default="refuse",
        description="When history was rewritten: `refuse` (default) or `follow` the new head.",
    )
    verify: Literal["none", "signatures"] = Field(
        default="none", description="`signatures`: only commits signed by an approver count. Default: `none`."
    )


class GitHub(Section):
    """A repository on GitHub."""

    repository: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$")
    ] = Field(description="`owner/name`.", examples=["acme/models"])
    url: ForgeUrl = Field(
        default="https://api.github.com", description="The API. Default: `https://api.github.com`."
    )


class AzureDevOps(Section):
    """A repository on Azure DevOps."""

    organization: _Part = Field(description="The organization.")
    project: _Part = Field(description="The project in it.")
    repository: _Part = Field(description="The repository in the project.")
    url: ForgeUrl = Field(
        default="https://dev.azure.com", description="The host. Default: `https://dev.azure.com`."
    )


class Forge(Section):
    """Where pull requests are: one of the two."""

    model_config = ConfigDict(json_schema_extra=exactly_one("github", "azureDevOps"))

    github: GitHub | None = Field(default=None, description="GitHub or GitHub Enterprise.")
    azure_dev_ops: AzureDevOps | None = Field(
        default=None, validate_default=True, description="Azure DevOps Repos."
    )

    @field_validator("azure_dev_ops")
    @classmethod
    def _one_forge(cls, value: AzureDevOps | None, info: ValidationInfo) -> AzureDevOps | None:
        if "github" in info.data and (value is None) == (info.data["github"] is None):
            if value is None:
                raise refuse(
                    "names no forge", "Give one of github and azureDevOps, or leave forge out.", at=("..",)
                )
            raise refuse("stands beside github", "Keep one of github and azureDevOps.")
        return value


class Approver(Section):
    """One way by which one person proves who they are; several keys are several entries."""

    email: Email = Field(description="Who it is.")
    github: _Login | None = Field(default=None, description="Their login on GitHub.")
    azure_dev_ops: _Login | None = Field(default=None, description="Their login on Azure DevOps.")
    ssh_key: Annotated[_Key, StringConstraints(pattern=r"^[a-z0-9@.-]+ \S+( [^\n]*)?$")] | None = Field(
        default=None, description="Their public SSH key, as in `~/.ssh/id_ed25519.pub`."
    )
    gpg_key: _Key | None = Field(
        default=None, description="Their GPG key's fingerprint, or the public key itself."
    )


class WriteBack(Section):
    """Who the reconciler's own commits are by."""

    name: Annotated[str, StringConstraints(pattern=r"^[^<>\n\x00]{1,200}$")] = Field(
        default="mlops", description="The author's name. Default: mlops."
    )
    email: Email = Field(
        default="mlops@localhost", description="The author's e-mail. Default: mlops@localhost."
    )
    signing_key: _Key | None = Field(
        default=None, description="The key git signs with, as `user.signingKey` takes it."
    )


class ProjectSpec(Spec):
    """What a Project declares."""

    resources: tuple[RelativePath, ...] = Field(
        default=("resources",),
        max_length=1000,
        description="Folders with resources. Default: `[resources/]`.",
    )
    tracking: Tracking = Field(
        default_factory=lambda: Tracking(artifacts=DEFAULT_ARTIFACTS),
        description="Where MLflow keeps runs and models.",
    )
    state: State = Field(default_factory=State, description="Where the reconciler keeps its cache.")
    source: GitSource = Field(default_factory=GitSource, description="How git is followed.")
    allow_empty: Boolean = Field(
        default=False, description="Whether a revision without any resources is meant. Default: false."
    )
    self_heal: Boolean = Field(
        default=True, description="Whether a change made in MLflow by hand is put right. Default: true."
    )
    prune: Boolean = Field(
        default=True, description="Whether what was removed from git is taken out of force. Default: true."
    )
    variables: tuple[Variable, ...] = Field(
        default=(),
        max_length=1000,
        description="Environment variables that `${VAR}` and experiments may use.",
    )
    forge: Forge | None = Field(
        default=None, description="Where pull requests are. Omitted: signed tags only."
    )
    groups: Mapping[GroupName, tuple[Email, ...]] = Field(
        default_factory=dict, max_length=1000, description="E-mail addresses of the people in each group."
    )
    approvers: tuple[Approver, ...] = Field(
        default=(), max_length=10_000, description="How people prove who they are: logins and public keys."
    )
    write_back: WriteBack = Field(
        default_factory=WriteBack, description="Who the reconciler's own commits are by."
    )

    @field_validator("approvers")
    @classmethod
    def _one_person_counts_once(cls, value: tuple[Approver, ...]) -> tuple[Approver, ...]:
        for index, field, what in shared_proofs(value):
            raise refuse(what, ONE_PERSON, at=(index, field))
        return value


def shared_proofs(approvers: Iterable[View]) -> Iterator[tuple[int, str, str]]:
    """Keys and logins that stand under two e-mails: index of the approver, field, and what is wrong."""
    owner: dict[tuple[str, str], str] = {}
    for index, approver in enumerate(approvers):
        email = text_at(approver, _EMAIL)
        for field, (pattern, comparable) in _PROOFS.items():
            proof = text_at(approver, pattern)
            if email and proof:
                other = owner.setdefault((field, comparable(proof)), email.lower())
                if other != email.lower():
                    yield index, field, f"stands under two e-mails, also under {shown(other, 'another')}"


ONE_PERSON = "One person counts once: keep it under one of them."
_EMAIL = steps("email")
# How a proof is read, and the form in which equal means the same.
_PROOFS: dict[str, tuple[Steps, Callable[[str], str]]] = {
    "github": (steps("github"), str.lower),
    "azureDevOps": (steps("azureDevOps"), str.lower),
    "sshKey": (steps("sshKey"), lambda key: " ".join(key.split()[:2])),  # the rest is a comment
    "gpgKey": (steps("gpgKey"), lambda key: "".join(key.split()).upper().removeprefix("0X")),
}


class Project(Document):
    """The project itself; it stands in `mlops.yaml` at the project root."""

    kind: Literal["Project"] = Field(description="`Project`.")
    spec: ProjectSpec = Field(description="What it is.")
