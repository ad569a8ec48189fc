"""What other processes ask of a term: its passes take it up, and answer it.

A request for the revision that is followed is answered once that revision has come to rest, one for training beside
it (a pull request's, mostly) once that training has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlops.applying.beside import Beside
from mlops.applying.outcomes import Outcome
from mlops.daemon.following import Following
from mlops.daemon.requests import Request, Tally, answer, pending
from mlops.errors import MlopsError, Transient
from mlops.planning.context import Options
from mlops.planning.plan import Step, without

if TYPE_CHECKING:
    from mlops.controller import Controller
    from mlops.view import View

LONGEST_FETCH: Final = 600.0  # seconds that a commit which somebody asks for may need to come here


@dataclass(slots=True)
class Wishes:
    """The requests that wait for an answer, and what was done for them."""

    controller: Controller
    following: Following
    beside: Beside
    working_tree: bool
    training: dict[str, View] = field(default_factory=dict)  # by request: asked for beside what is followed
    _head: str = ""  # that the pass under way looks at
    _requests: tuple[Request, ...] = ()
    _since: dict[str, float] = field(default_factory=dict)  # when a pass had a request first
    _fetching: dict[str, int] = field(
        default_factory=dict
    )  # those that wait for the remote, which was asked then
    _heads: dict[str, str] = field(
        default_factory=dict
    )  # where the branch stood then, or once it was fetched
    _heard: frozenset[str] = frozenset()  # requests whose wish a pass has carried out
    _again: bool = False  # whether steps run or wait that are tried again because somebody asked
    _tally: Tally = field(default_factory=Tally)
    _tallies: dict[str, Tally] = field(default_factory=dict)  # by request for training

    def news(self) -> bool:
        """Whether there is a request that no pass has seen, or one for which the remote was asked since."""
        fetched = [id for id, number in self._fetching.items() if self.following.answered(number)]
        for id in fetched:  # told once: the next pass sees what was fetched, and answers
            del self._fetching[id]
        known = {request.id for request in self._requests}
        return bool(fetched) or any(one.id not in known for one in pending(self.controller.state))

    def take_up(self, head: str) -> bool:
        """Read what is asked now that the branch stands at `head`; gives whether there is a wish not heard yet."""
        self._requests, self._head = pending(self.controller.state), head
        if self._tally.revision != head:
            self._tally = Tally(head)
        ids, now = [request.id for request in self._requests], self.controller.monotonic()
        for request in self._requests:
            if request.id not in self._since and not request.report:
                number = self.following.ask()
                if not self.following.answered(number):
                    self._fetching[request.id] = number
        self._fetching = {id: self._fetching[id] for id in ids if id in self._fetching}
        self._since = {id: self._since.get(id, now) for id in ids}
        self._heads = {id: self._heads.get(id) or head for id in ids if id not in self._fetching}
        self._heard = self._heard.intersection(ids)
        self._tallies = {id: self._tallies[id] for id in ids if id in self._tallies}
        return bool(self._unheard())

    def options(self) -> Options:
        """What the requests say that git does not."""
        again = any(request.retry_stalled and request.train is None for request in self._unheard())
        accept = self._head if any(map(self._accepts, self._requests)) else None
        return Options(retry_stalled=again, retry=self._retried(), accept=accept, scheduled=True)

    def look(self, view: View) -> None:
        """Look at the training that is asked for beside the revision that is followed, by people or by policies."""
        self.training = self.controller.proposed(view)
        for request in self._requests:
            if request.train is None:
                continue
            options = Options(
                retry_stalled=request.retry_stalled and request in self._unheard(),
                retry=self._retried(),
                refresh=frozenset(request.refresh),
            )
            try:
                view = self.controller.look(request.revision, training=request.train, options=options)
            except Transient as error:  # stops nothing else; it is asked for again by the next pass
                self.controller.on_warning(f"the training that {request.by} asks for: {error}")
            except MlopsError as error:
                self._reply(request, {"problem": str(error)})
            else:
                self.training[request.id] = view
                self._tallies.setdefault(request.id, Tally(view.desired.revision))

    def heard(self) -> None:
        """What was asked for is under way: from now on only that is tried again, and not what fails once more."""
        self._again = any(request.retry_stalled for request in self._unheard()) or bool(self._retried())
        self._heard = frozenset(self._since)

    def count(self, step: Step, revision: str, outcome: Outcome) -> None:
        """Count how a step of the plan of a revision ended, for whoever asks."""
        self._tally.add(step, outcome)
        for tally in self._tallies.values():
            if tally.revision == revision:
                tally.add(step, outcome)

    def answer(
        self, view: View, resting: Collection[str], *, interrupted: bool, problem: str | None = None
    ) -> None:
        """Answer what a pass fulfilled, or what nothing can fulfil.

        Args:
            view: what the pass saw last of the revision that is followed.
            resting: steps that are not to be tried now.
            interrupted: whether it gave way before its end.
            problem: why it is not known where the branch stands.
        """
        for request in self._requests:
            content: Mapping[str, Any] | None = None
            if request.train is not None:
                asked = self.training.get(request.id)
                if asked is not None and self._at_rest(request, asked, resting):
                    content = self._tallies[request.id].report(asked)
            elif request.report and (self.working_tree or request.revision != self._head):
                content = self._elsewhere(request)
            elif interrupted or request.id in self._fetching:
                continue
            elif not request.report:
                content = {**self._tally.report(view), "source": problem}
            elif view.refused is not None or self._at_rest(request, view, resting):
                content = self._tally.report(view)
            if content is not None:
                self._reply(request, content)

    def _unheard(self) -> list[Request]:
        return [request for request in self._requests if request.id not in self._heard]

    def _retried(self) -> frozenset[str]:
        """The steps that go on though their attempts are used up."""
        return frozenset(self.beside.taken() if self._again else ())

    def _accepts(self, request: Request) -> bool:
        """Whether a request accepts the head: as it stood when it was asked, or with commits on top of that."""
        meant = request.revision or self._heads.get(request.id)
        if not request.accept_rewrite or not meant:
            return False
        return meant == self._head or self.controller.repository.is_ancestor(meant, self._head) is True

    def _at_rest(self, request: Request, view: View, resting: Collection[str]) -> bool:
        """Whether nothing is left that `request` waits for: all that its view plans, or what does not run yet."""
        left = without(view.planned.plan, resting).steps
        if request.until_rest:
            return not left
        runs = self.beside.taken()
        return request.train is None or all(runs.get(step.id) for step in left)

    def _elsewhere(self, request: Request) -> Mapping[str, Any] | None:
        """What to say to who asks for another revision than the one that is followed."""
        wanted = str(request.revision)
        if self.working_tree:
            return {"problem": "the daemon follows the working tree, not commits"}
        known = self.controller.repository.is_ancestor(wanted, self._head)
        if known:
            return {"superseded": self._head}
        if known is None:  # not fetched yet
            if self.controller.monotonic() - self._since[request.id] > LONGEST_FETCH:
                return {"problem": f"no commit {wanted[:12]} has come to the daemon's repository"}
            self.following.ask()
            return None
        where = f"the daemon follows a branch that stands at {self._head[:12]}"
        return {"problem": f"{where}, without {wanted[:12]} in it"}

    def _reply(self, request: Request, content: Mapping[str, Any]) -> None:
        answer(self.controller.state, request, content, now=self.controller.now())
        self._requests = tuple(one for one in self._requests if one.id != request.id)
        self.training.pop(request.id, None)
