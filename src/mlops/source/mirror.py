"""A bare repository that follows one branch of a remote one, and the approval tags beside it.

It is a cache: what is damaged is set aside and made again, and what a kill left half done is cleared away by the
next fetch. One process at a time writes to it, held by a lock that dies with its holder; a git that outlived
its own is ended before the next one starts.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from mlops.errors import MlopsError, Stalled, Transient
from mlops.source.exclusive import Turn, alone
from mlops.source.git import Conversation, Output, failure, run, shown
from mlops.source.hardening import Network
from mlops.source.leftovers import clear_away, remove
from mlops.source.refs import branch_ref
from mlops.source.remote import Remote
from mlops.source.repository import Repository

STILL: Final = 120.0  # seconds of a fetch without a sign of life
LONGEST: Final = 3600.0  # seconds of a whole fetch
LARGEST: Final = 8 * 1024**3  # bytes that one fetch may bring
PATIENCE: Final = 10.0  # seconds to wait for another process that writes to the mirror
_TIDY_TIME: Final = 1800.0  # seconds of a garbage collection
_TICK: Final = 0.25  # seconds between two looks at the clock and the disk

_APPROVALS = "refs/tags/approve/"
_KEPT = "refs/mlops/kept/"
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SETTINGS = (
    *("-c", "protocol.version=2"),  # the host lists only the refs that are asked for
    *("-c", "fetch.unpackLimit=1"),  # what comes is one pack, whose size can be watched
    *("-c", "transfer.unpackLimit=1"),
)
_FETCH = (
    *("fetch", "--progress", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
    "--no-auto-maintenance",
)
_TIDY = (
    *("-c", "gc.auto=2000"),
    *("-c", "gc.autoPackLimit=50"),
    *("-c", "gc.bigPackThreshold=256m"),
    *("-c", "gc.cruftPacks=true"),
    *("-c", "gc.pruneExpire=2.weeks.ago"),  # whoever reads a commit that was just rewritten away can finish
    *("-c", "gc.autoDetach=false"),
    *("gc", "--auto", "--quiet"),
)
_NO_BRANCH = re.compile(r"^fatal: couldn't find remote ref ", re.MULTILINE)
_IN_THE_WAY = re.compile(r"'refs/heads/[^']*' exists; cannot create")
_OTHER_FORMAT = re.compile(r"mismatched algorithms: client \w+; server (sha1|sha256)")
_BROKEN = re.compile(
    r"^(fatal|error|warning): .*("
    r"corrupt|bad object|bad config|object file .* is empty|broken|inflate|unable to read|could not read"
    r"|missing (blob|tree|commit)|index file|packfile|not a git repository|necessary objects|unresolved)",
    re.MULTILINE | re.IGNORECASE,
)


class Mirror:
    """Follows one branch of a remote repository in a folder of its own. Its methods may be called by any thread.

    Args:
        url: https, ssh (also `user@host:path`), a local path or `file://`; http only to this machine.
        folder: where the bare repository is; made when it is absent.
        environ: where git's own settings come from, and `MLOPS_GIT_TOKEN` with `MLOPS_GIT_USERNAME`, which
            only the host of `url` is given.

    Raises:
        Stalled: the URL is not allowed or holds a credential.
    """

    def __init__(self, url: str, folder: Path, *, environ: Mapping[str, str]) -> None:
        self.remote = Remote.parse(url)
        self.folder = Path(os.path.realpath(folder.parent)) / folder.name
        self.brought = False
        """Whether the last fetch moved anything: the branch, or an approval."""
        self._environ = dict(environ)
        self._closed = threading.Event()
        self._writing = threading.Lock()  # of refs, within this process
        self._kept: frozenset[str] | None = None
        self._untidy = True

    def open(self) -> Repository:
        """The bare repository; made if it is absent, set aside and made again if it is damaged.

        Raises:
            Transient: another process is writing to it.
            MlopsError: the folder cannot be written.
        """
        found = self._healthy()
        if found is None:
            with self._alone():
                found = self._healthy() or self._made("sha1")
        return found

    def fetch(self, branch: str) -> str | None:
        """Brings the branch and the approvals here as they are at the remote.

        Returns:
            The branch's sha; None if the remote has no such branch, and then it stays here as it was.

        Raises:
            Transient: the remote did not give it: it is away, refuses, stands still or vanished.
            Stalled: it brings more than `LARGEST` bytes, or the token cannot be one.
            MlopsError: the branch's name cannot be one, or the folder cannot be written.
        """
        ref = branch_ref(branch)
        with self._alone() as turn:
            if self._format() is None:
                self._made("sha1")
            self._clear_away()
            before = self._refs(ref)
            status, errors = self._fetch(turn, ref)
            if status and self._mended(ref, errors):
                status, errors = self._fetch(turn, ref)
            if status and not _NO_BRANCH.search(errors):
                raise self.remote.refusal(status, errors, self._environ)
            after = self._refs(ref)
            self.brought = before != after
            if not status:
                self._point_head(ref)
            if not self.brought and self._untidy:  # when there is time for it
                self._untidy = False
                self._tidy(turn)
            self._untidy |= self.brought
        if status:
            return None
        lines = (line.split(b" ") for line in after.splitlines())
        return next((sha.decode() for name, sha in lines if name == os.fsencode(ref)), None)

    def default_branch(self) -> str | None:
        """The branch that the remote's HEAD names; None if it names none.

        Raises:
            Transient: the remote did not tell: it is away, refuses, or vanished.
        """
        self.open()
        asked = run(
            ["ls-remote", "--symref", "--end-of-options", self.remote.address, "HEAD"],
            self.folder,
            accept=range(256),
            extra=self._here,
            network=self.remote.network(self._environ),
        )
        if asked.status:
            raise self.remote.refusal(asked.status, asked.stderr, self._environ)
        found = re.match(rb"ref: refs/heads/(\S+)\tHEAD", asked.stdout)
        return os.fsdecode(found[1]) if found is not None else None

    def keep(self, shas: Collection[str]) -> frozenset[str]:
        """Sees to it that these commits outlive rewritten history, and that no others do any more.

        Args:
            shas: full ids of commits; what was listed before and is not now may be collected.

        Returns:
            Those that are not here, and so cannot be kept.

        Raises:
            Transient: another process is writing.
            MlopsError: one of them is no full sha.
        """
        wanted = frozenset(shas)
        for sha in wanted:
            if not _SHA.fullmatch(sha):
                raise MlopsError(
                    f"{shown(sha[:80])!r} is not the full sha of a commit", fix="Resolve it first."
                )
        with self._writing:
            if wanted == self._kept:
                return frozenset()
            before = {name.removeprefix(_KEPT) for name in self._listed(_KEPT)}
            here = {sha for sha in wanted if sha in before or self._has(sha)}
            changes = [f"create {_KEPT}{sha} {sha}\n" for sha in sorted(here - before)]
            changes += [f"delete {_KEPT}{sha}\n" for sha in sorted(before - here)]
            if changes:
                self._run("update-ref", "--stdin", feed="".join(changes))
            self._kept = wanted if here == wanted else None
        return wanted - here

    def close(self) -> None:
        """Stops a fetch that is under way, which then raises Transient; later ones are refused."""
        self._closed.set()

    @property
    def _here(self) -> dict[str, str]:
        """Names the repository to git, which else might take one further up for it if ours is damaged."""
        return {"GIT_DIR": str(self.folder)}

    def _alone(self) -> AbstractContextManager[Turn]:
        file = self.folder.with_name(f"{self.folder.name}.lock")
        return alone(file, patience=PATIENCE, stop=self._closed)

    def _run(self, *arguments: str, accept: Sequence[int] = (0,), feed: str | None = None) -> Output:
        lines = None if feed is None else [os.fsencode(feed)]
        return run(arguments, self.folder, feed=lines, accept=accept, extra=self._here)

    def _has(self, sha: str) -> bool:
        return self._run("cat-file", "-e", f"{sha}^{{commit}}", accept=(0, 1, 128)).status == 0

    def _refs(self, ref: str) -> bytes:
        """The branch and the approvals here, with what they name."""
        return self._run("for-each-ref", "--format=%(refname) %(objectname)", ref, _APPROVALS).stdout

    def _listed(self, below: str) -> list[str]:
        return os.fsdecode(self._run("for-each-ref", "--format=%(refname)", below).stdout).split()

    def _format(self) -> str | None:
        """The hash of its object ids; None if the folder is no bare repository."""
        if not self.folder.is_dir():
            return None
        asked = self._run("rev-parse", "--show-object-format", "--is-bare-repository", accept=range(256))
        found = asked.stdout.decode("utf-8", "replace").split()
        return found[0] if asked.status == 0 and found[1:] == ["true"] else None

    def _healthy(self) -> Repository | None:
        """The repository if it is one and has all that its refs need now; history is not walked."""
        object_format = self._format()
        newest = ("rev-list", "--objects", "--no-walk", "--quiet", "--all")
        if object_format is None or self._run(*newest, accept=range(256)).status:
            return None
        return Repository(self.folder, self.folder, True, object_format)

    def _made(self, object_format: str) -> Repository:
        """Makes it anew under a name of its own, so that it appears whole or not at all."""
        name = self.folder.name
        fresh, aside = (self.folder.with_name(f".{name}.{what}") for what in ("new", "damaged"))
        try:
            remove(fresh)
            made = ("init", "--bare", "--quiet", "--template=", f"--object-format={object_format}")
            run([*made, "--", fresh.name], self.folder.parent)
            if os.path.lexists(self.folder):
                remove(aside)
                self.folder.rename(aside)
            fresh.rename(self.folder)
        except OSError as problem:
            raise MlopsError(
                f"the mirror cannot be made: {problem.strerror}",
                where=shown(str(self.folder)),
                fix="See that the folder may be written and its disk has room.",
            ) from problem
        self._kept = None
        return Repository(self.folder, self.folder, True, object_format)

    def _clear_away(self) -> None:
        """What a killed git left, without taking a lock away from `keep`."""
        with self._writing:
            clear_away(self.folder)

    def _fetch(self, turn: Turn, ref: str) -> tuple[int, str]:
        """Git's status and what it said."""
        cut = self.folder / "shallow"
        whole = ["--unshallow"] if cut.is_file() and cut.stat().st_size else []
        command = [*_SETTINGS, *_FETCH, *whole, "--update-shallow", "--end-of-options", self.remote.address]
        specs = [f"+{ref}:{ref}", f"+{_APPROVALS}*:{_APPROVALS}*"]
        network = self.remote.network(self._environ)
        return self._watched(turn, [*command, *specs], network, still=STILL, longest=LONGEST)

    def _watched(
        self, turn: Turn, command: Sequence[str], network: Network | None, *, still: float, longest: float
    ) -> tuple[int, str]:
        """Runs git as long as it shows signs of life, brings no more than it may, and nobody closes this."""
        talk = Conversation(command, self.folder, extra=self._here, network=network)
        try:
            turn.note(talk.pid)
            begin = last = looked = time.monotonic()
            while (heard := talk.heard(_TICK)) is not None:
                now = time.monotonic()
                last = now if heard else last
                if heard and now - looked < _TICK:
                    continue
                looked = now
                if self._closed.is_set():
                    raise Transient(f"git {talk.name} was stopped", where=str(self.remote))
                if now - last > still or now - begin > longest:
                    raise Transient(
                        f"git {talk.name} stood still or took too long, and was stopped",
                        where=str(self.remote),
                        fix="It is tried again; see that the host answers and is quick enough.",
                    )
                if self._arriving() > LARGEST:
                    raise Stalled(
                        f"the repository brings more than {LARGEST} bytes at once",
                        where=str(self.remote),
                        fix="Keep large data outside of git.",
                    )
            return talk.finish()
        except MlopsError:
            talk.close()
            self._clear_away()  # half of a large pack does not wait for the next fetch
            raise
        finally:
            talk.close()
            turn.clear()

    def _arriving(self) -> int:
        """Bytes of packs that are being received."""
        size = 0
        for file in (self.folder / "objects/pack").glob("tmp_*"):
            with contextlib.suppress(FileNotFoundError):
                size += file.stat().st_size
        return size

    def _mended(self, ref: str, errors: str) -> bool:
        """Whether the mirror itself was why a fetch failed, and is not any more."""
        if _IN_THE_WAY.search(errors):  # a branch `a` that was followed before `a/b`
            heads = set(self._listed("refs/heads")) - {ref}
            self._run("update-ref", "--stdin", feed="".join(f"delete {head}\n" for head in sorted(heads)))
        elif (other := _OTHER_FORMAT.search(errors)) is not None:
            self._made(other[1])
        elif _BROKEN.search(errors) and not self._sound():
            self._made("sha1")
        else:
            return False
        return True

    def _sound(self) -> bool:
        if self._healthy() is None:
            return False
        walk = ("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        return self._run(*walk, accept=range(256)).status == 0

    def _point_head(self, ref: str) -> None:
        """HEAD names the branch that is followed, for whoever asks for no other revision."""
        if (self.folder / "HEAD").read_bytes() != b"ref: %s\n" % os.fsencode(ref):
            self._run("symbolic-ref", "HEAD", ref)

    def _tidy(self, turn: Turn) -> None:
        """Packs what came in small pieces and drops what nothing names any more; git decides whether it is time."""
        status, errors = self._watched(turn, _TIDY, None, still=_TIDY_TIME, longest=_TIDY_TIME)
        if status:
            raise failure("gc", status, errors, self.folder)
