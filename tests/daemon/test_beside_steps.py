"""Slow steps beside the loop: each once at a time, as shares allow, cancelled when nobody wants them any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from mlops.applying.beside import Beside, Ended, Offer, is_slow
from mlops.applying.outcomes import Done, Failed, Left, Outcome
from mlops.applying.walk import WORKERS, Claim, Claims
from mlops.errors import Defect, Stalled, Transient
from mlops.planning.plan import Step
from mlops.planning.work import BindVersion, DeleteVersion, TrainTrial, Trial

PATIENCE = 30.0  # real seconds, after which what has to come will not


def step(name: str) -> Step:
    return Step(name, f"Experiment/{name}", "train", "a test", DeleteVersion(name, 1))


@dataclass
class Bench:
    """Steps that end when they are told to, or when they are stopped; and what became of them."""

    outcomes: dict[str, Outcome | Exception] = field(default_factory=dict)
    worlds: dict[str, Any] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    asleep: bool = False  # whether a step does not even notice that it is stopped
    _ends: dict[str, threading.Event] = field(default_factory=dict)
    _woken: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _changed: threading.Condition = field(default_factory=threading.Condition)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.beside = Beside(self.execute, self.began, self._woken.release, lambda: self.now)

    def began(self, step: Step, world: Any) -> None:
        self.announced.append(step.id)

    def execute(self, world: Any, step: Step) -> Outcome:
        with self._changed:
            self.begun.append(step.id)
            self.threads.append(threading.current_thread())
            self._changed.notify_all()
        end = self._end(step.id)
        while not end.wait(0.01):
            if world.stop.is_set() and not self.asleep:
                return Left("stopped")
        outcome = self.outcomes.get(step.id, Done())
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def offer(
        self,
        *names: str,
        claims: Callable[[str], Claims] = lambda name: (),
        wanted: Callable[[str], bool] = lambda name: True,
        mark: int | None = None,
        revision: str = "a" * 40,
    ) -> list[str]:
        """Offer steps as a pass does; gives those that are cancelled."""
        mark = self.beside.mark() if mark is None else mark
        offers = [
            Offer(step(name), claims(name), lambda name=name: self._world(name, revision), revision)
            for name in names
        ]
        return [one.id for one in self.beside.offer(offers, lambda step, revision: wanted(step.id), mark)]

    def end(self, name: str, outcome: Outcome | Exception | None = None) -> Ended:
        """Let one step end, and give its end, the only one there is."""
        if outcome is not None:
            self.outcomes[name] = outcome
        self._end(name).set()
        [ended] = self.ends(1)
        assert ended.step.id == name
        return ended

    def ends(self, count: int) -> list[Ended]:
        """Wait until the loop was woken for so many ends."""
        for _ in range(count):
            assert self._woken.acquire(timeout=PATIENCE), "nothing ended"
        return self.beside.take_ended()

    def begins(self, *names: str) -> None:
        """Wait until just these have begun, in any order."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= len(names), PATIENCE), self.begun
        assert sorted(self.begun) == sorted(names)

    def release(self) -> None:
        self.asleep = False
        self.beside.close(cancel=True, patience=0.0)
        for thread in self.threads:
            thread.join(PATIENCE)

    def _world(self, name: str, revision: str) -> Any:
        self.worlds[name] = SimpleNamespace(
            stop=threading.Event(), cancel_jobs=False, desired=SimpleNamespace(revision=revision)
        )
        return self.worlds[name]

    def _end(self, name: str) -> threading.Event:
        return self._ends.setdefault(name, threading.Event())


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.release()


def one_at_a_time(name: str) -> Claims:
    return (Claim("fit", 1, 1),)


def processors(shares: dict[str, float], there_are: float) -> Callable[[str], Claims]:
    return lambda name: (Claim("local processors", shares[name], there_are),)


def test_training_and_reading_bytes_are_slow_and_nothing_else_is() -> None:
    trial = Trial("fit", {}, (), (), "f", "d", None)
    slow = [TrainTrial(trial, None, 1, 1), BindVersion.__new__(BindVersion)]
    assert all(is_slow(Step("x", "X/x", "train", "", work)) for work in slow)
    assert not is_slow(step("x"))


def test_what_is_offered_runs_and_its_end_is_told_once(bench: Bench) -> None:
    bench.offer("a", "b", revision="c" * 40)
    bench.begins("a", "b")
    assert sorted(bench.announced) == ["a", "b"]
    assert bench.beside.taken() == {"a": True, "b": True}
    bench.now = 12.0
    failed = Failed(Stalled("its code is broken"))
    ended = bench.end("a", failed)
    assert (ended.outcome, ended.revision, ended.seconds, ended.wanted) == (failed, "c" * 40, 12.0, True)
    assert bench.beside.take_ended() == []
    assert bench.beside.taken() == {"b": True}


def test_a_step_that_runs_is_not_begun_again_whatever_revision_offers_it(bench: Bench) -> None:
    bench.offer("a", revision="a" * 40)
    bench.begins("a")
    bench.offer("a", revision="b" * 40)
    bench.begins("a")
    assert bench.end("a").revision == "a" * 40


def test_a_step_that_ended_after_the_mark_is_not_begun_again(bench: Bench) -> None:
    bench.offer("a")
    bench.begins("a")
    mark = bench.beside.mark()  # a pass takes its mark, and looks ...
    bench.end("a")  # ... and what it has seen does not show this end
    bench.offer("a", "b", mark=mark)
    bench.begins("a", "b")
    assert bench.beside.taken() == {"b": True}


def test_a_step_that_a_pass_after_its_end_still_plans_is_begun_again(bench: Bench) -> None:
    bench.offer("a")
    bench.end("a")
    bench.offer("a")
    bench.begins("a", "a")


def test_steps_share_what_is_limited_and_the_next_begins_when_one_ends(bench: Bench) -> None:
    bench.offer("a", "b", "c", claims=one_at_a_time)
    bench.begins("a")
    assert bench.beside.taken() == {"a": True, "b": False, "c": False}
    bench.end("a")
    bench.begins("a", "b")
    bench.end("b")
    bench.begins("a", "b", "c")


def test_a_share_is_counted_over_the_offers_of_several_passes(bench: Bench) -> None:
    bench.offer("a", claims=one_at_a_time)
    bench.begins("a")
    bench.offer("a", "b", claims=one_at_a_time)
    assert bench.beside.taken() == {"a": True, "b": False}


def test_a_small_step_goes_by_a_large_one_that_does_not_fit(bench: Bench) -> None:
    claims = processors({"half": 2, "large": 3, "small": 2}, 4)
    bench.offer("half", "large", "small", claims=claims)
    bench.begins("half", "small")


def test_a_step_that_asks_for_more_than_there_is_runs_alone(bench: Bench) -> None:
    claims = processors({"huge": 64, "small": 1}, 2)
    bench.offer("huge", "small", claims=claims)
    bench.begins("huge")
    bench.end("huge")
    bench.begins("huge", "small")
    bench.end("small")
    bench.offer("small", "huge", claims=claims)
    bench.begins("huge", "small", "small")


def test_what_waits_and_is_not_offered_any_more_is_forgotten(bench: Bench) -> None:
    bench.offer("a", "b", claims=one_at_a_time)
    bench.offer("a", claims=one_at_a_time)
    assert bench.beside.taken() == {"a": True}
    bench.end("a")
    assert bench.begun == ["a"]


def test_what_nobody_wants_any_more_is_cancelled_with_its_job_and_told_once(bench: Bench) -> None:
    bench.offer("old", "kept")
    bench.begins("old", "kept")
    assert bench.offer("kept", wanted=lambda name: name == "kept") == ["old"]
    assert bench.worlds["old"].cancel_jobs
    assert not bench.worlds["kept"].stop.is_set()
    [ended] = bench.ends(1)
    assert (ended.step.id, ended.wanted) == ("old", False)


def test_a_cancelled_step_that_has_not_let_go_yet_is_not_cancelled_twice(bench: Bench) -> None:
    bench.asleep = True
    bench.offer("old")
    bench.begins("old")
    assert bench.offer(wanted=lambda name: False) == ["old"]
    assert bench.offer(wanted=lambda name: False) == []
    assert not bench.end("old").wanted


def test_a_cancelled_step_holds_its_share_until_it_has_let_go(bench: Bench) -> None:
    bench.asleep = True
    bench.offer("old", claims=one_at_a_time)
    bench.begins("old")
    bench.offer("new", claims=one_at_a_time, wanted=lambda name: name == "new")
    assert bench.beside.taken() == {"old": True, "new": False}
    bench.end("old")
    bench.begins("old", "new")


def test_steps_that_still_run_are_wanted_though_they_are_not_offered(bench: Bench) -> None:
    bench.offer("a")
    bench.begins("a")
    assert bench.offer() == []
    assert bench.end("a").wanted


@pytest.mark.parametrize("cancel", [True, False], ids=["with their jobs", "without"])
def test_closing_lets_all_go_and_begins_nothing_more(bench: Bench, cancel: bool) -> None:
    bench.offer("a", "b", claims=one_at_a_time)
    bench.begins("a")
    bench.beside.close(cancel=cancel, patience=PATIENCE)
    assert bench.worlds["a"].cancel_jobs is cancel
    assert [one.outcome for one in bench.beside.take_ended()] == [Left("stopped")]
    bench.offer("c")
    assert bench.begun == ["a"]
    assert not any(thread.is_alive() for thread in bench.threads)


def test_closing_does_not_wait_for_what_hangs(bench: Bench) -> None:
    bench.asleep = True
    bench.offer("hangs")
    bench.begins("hangs")
    bench.beside.close(cancel=True, patience=0.0)
    assert bench.beside.taken() == {"hangs": True}
    assert bench.threads[0].daemon  # so that it keeps no process from ending


def test_a_step_that_raises_has_failed_and_does_not_seem_to_run_for_ever(bench: Bench) -> None:
    bench.offer("a", "b", claims=one_at_a_time)
    bench.begins("a")
    ended = bench.end("a", KeyError("nobody expected this"))
    assert isinstance(ended.outcome, Failed)
    assert isinstance(ended.outcome.error, Defect)
    assert isinstance(ended.outcome.error.__cause__, KeyError)
    bench.begins("a", "b")


def test_no_more_threads_run_than_there_may_be_and_none_stays(bench: Bench) -> None:
    names = [f"s{n:03}" for n in range(WORKERS + 10)]
    bench.offer(*names)
    bench.begins(*names[:WORKERS])
    assert sum(bench.beside.taken().values()) == WORKERS
    for name in names:
        bench._end(name).set()
    assert sorted(one.step.id for one in bench.ends(len(names))) == names
    for thread in bench.threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in bench.threads)


def test_a_step_that_the_machine_gives_no_thread_has_failed_and_is_begun_the_next_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refused)
        bench.offer("a", revision="c" * 40)
    [ended] = bench.ends(1)
    assert isinstance(ended.outcome, Failed)
    assert isinstance(ended.outcome.error, Transient)
    assert ended.revision == "c" * 40
    assert bench.beside.taken() == {}
    bench.beside.close(cancel=False, patience=0.0)  # waits for no thread that never was
    bench.beside = Beside(bench.execute, bench.began, bench._woken.release, lambda: bench.now)
    bench.offer("a")
    bench.begins("a")


def test_a_step_whose_surroundings_cannot_be_made_stops_no_other_and_holds_nothing(bench: Bench) -> None:
    def broken(name: str, revision: str) -> Any:
        if name == "broken":
            raise KeyError("a defect")
        return made(name, revision)

    made, bench._world = bench._world, broken  # type: ignore[method-assign]
    bench.offer("a", "broken", "b", claims=one_at_a_time)
    bench.begins("a")
    bench._end("a").set()
    told = bench.ends(2)
    assert [one.step.id for one in told] == ["a", "broken"]
    assert isinstance(told[1].outcome, Failed)
    assert isinstance(told[1].outcome.error, Defect)
    bench.begins("a", "b")
