"""Signed tags: made with git's own `user.signingKey`, as the person at the keyboard has set it."""

from __future__ import annotations

from mlops.errors import MlopsError
from mlops.source.git import run, shown
from mlops.source.repository import Repository
from mlops.source.signing import signing_with


def setting(repository: Repository, name: str) -> str | None:
    """What git is configured with here, None where it is not."""
    found = run(["config", "--get", name], repository.root, accept=(0, 1))
    return found.stdout.decode("utf-8", "replace").strip() or None


def sign(repository: Repository, name: str, commit: str, message: str) -> str:
    """Make or move a signed tag; gives the id of the tag object.

    Args:
        repository: where.
        name: of the tag, without `refs/tags/`.
        commit: its full sha.
        message: what is signed.

    Raises:
        MlopsError: there is no key to sign with, or git could not sign with it.
    """
    key = setting(repository, "user.signingKey")
    if key is None:
        fix = "Set it: git config user.signingKey ~/.ssh/id_ed25519.pub (or a GPG key's name)."
        raise MlopsError("git knows no key to sign with (user.signingKey)", fix=fix)
    command = [
        *signing_with(key),
        "tag",
        "--force",
        "--cleanup=verbatim",
        f"--local-user={key}",
        "--file=-",
        name,
        commit,
    ]
    done = run(command, repository.root, feed=[message.encode()], accept=range(256), seconds=120.0)
    if done.status:
        said = shown(done.stderr.strip().splitlines()[-1]) if done.stderr.strip() else ""
        raise MlopsError(
            f"git could not sign with user.signingKey: {said}"[:400],
            fix="See that `git tag -s` works here; a key with a passphrase needs its agent.",
        )
    ref = f"refs/tags/{name}"
    return run(["rev-parse", "--verify", "--end-of-options", ref], repository.root).stdout.decode().strip()


def delete(repository: Repository, name: str, oid: str) -> None:
    """Take a tag away, if it still names `oid`."""
    run(["update-ref", "--no-deref", "-d", f"refs/tags/{name}", oid], repository.root)
