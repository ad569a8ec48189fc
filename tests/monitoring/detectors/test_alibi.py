"""alibi-detect in a child process: it answers like our own detectors, and whatever happens to it stays there.

Those that need it run where it is installed, or with MLOPS_ALIBI_PYTHON, the Python of an environment that has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from mlops.errors import MlopsError, Stalled
from mlops.monitoring.alibi.catalogue import OFFERED, PYTHON
from mlops.monitoring.alibi.licence import notice
from mlops.monitoring.alibi.requests import Request, of_all, of_column
from mlops.monitoring.alibi.worker import Worker
from mlops.monitoring.detectors import Binned, Measured, detector
from mlops.monitoring.detectors.chi_square import chi_square
from mlops.monitoring.detectors.domain_classifier import domain_classifier
from mlops.monitoring.detectors.ks import ks
from mlops.monitoring.samples import RowSample

ROWS = 1_500


def _has(module: str) -> bool:
    python = os.environ.get(PYTHON) or sys.executable
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-I", "-c", code], check=False).returncode == 0


needs_alibi = pytest.mark.skipif(
    not _has("alibi_detect"),
    reason=f"alibi-detect is not installed, and {PYTHON} names no Python that has it",
)
needs_torch = pytest.mark.skipif(not _has("torch"), reason="torch is not installed beside alibi-detect")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as made:
        yield made


def beside(reference: np.ndarray, window: np.ndarray, *categorical: int) -> RowSample:
    flags = np.isin(np.arange(reference.shape[1]), categorical)
    return RowSample(tuple(f"x{place}" for place in range(reference.shape[1])), reference, window, flags, 1)


def normal(seed: int, shift: float = 0.0, columns: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (ROWS, columns))


def asked(request: Request | str) -> Request:
    assert isinstance(request, Request), request
    return request


def measured(worker: Worker, request: Request | str) -> Measured:
    (found,) = worker.measure([asked(request)])
    assert isinstance(found, Measured), found
    assert found.p_value is not None
    return found


@needs_alibi
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.25, 0.5])
def test_ks_is_as_our_own_on_the_same_rows(worker: Worker, shift: float) -> None:
    rows = beside(normal(1), normal(2, shift))
    theirs = measured(worker, of_column(OFFERED["alibi/ks"], rows, 0))
    edges = np.concatenate([[-np.inf], np.quantile(rows.reference, np.arange(1, 128) / 128), [np.inf]])
    counts = [np.histogram(side, edges)[0] for side in (rows.reference, rows.window)]
    own = ks(Binned.of(*counts, bounds=np.arange(129.0)))
    assert own.effect == pytest.approx(theirs.effect, abs=1 / 128)
    assert own.p_value is not None
    assert theirs.p_value is not None
    assert (own.p_value <= 0.01) == (theirs.p_value <= 0.01)


@needs_alibi
@pytest.mark.parametrize("shares", [[0.5, 0.3, 0.2], [0.46, 0.32, 0.22], [0.3, 0.3, 0.4]])
def test_chi_square_is_as_our_own_on_the_same_rows(worker: Worker, shares: list[float]) -> None:
    draw = np.random.default_rng(3)
    reference = draw.choice(3, (ROWS, 1), p=[0.5, 0.3, 0.2]).astype(float)
    window = draw.choice(3, (ROWS, 1), p=shares).astype(float)
    theirs = measured(worker, of_column(OFFERED["alibi/chiSquare"], beside(reference, window, 0), 0))
    own = chi_square(Binned.of(*(np.bincount(side[:, 0].astype(int)) for side in (reference, window))))
    assert (theirs.effect, theirs.p_value) == (
        pytest.approx(own.effect),
        pytest.approx(own.p_value, rel=1e-3, abs=1e-12),
    )


@needs_alibi
@needs_torch
def test_mmd_lsdd_and_classifiers_agree_with_the_domain_classifier_on_clear_cases(worker: Worker) -> None:
    draw = np.random.default_rng(4)
    plain = draw.normal(size=(ROWS, 2))
    related = draw.multivariate_normal([0, 0], [[1, 0.95], [0.95, 1]], ROWS)  # no column shows it
    for window, drifts in ((normal(5, columns=2), False), (normal(6, 0.7, 2), True), (related, True)):
        rows = beside(plain, window)
        own = domain_classifier(rows.reference, rows.window, rows.categorical, 1)
        found = {"domainClassifier": (own, 0.2)}
        for name in ("mmd", "lsdd", "classifier"):
            chosen = OFFERED[f"alibi/{name}"]
            found[name] = measured(worker, of_all(chosen, rows, 10)), chosen.threshold
        verdicts = {
            name: one.effect >= threshold and one.p_value is not None and one.p_value <= 0.005
            for name, (one, threshold) in found.items()
        }
        assert set(verdicts.values()) == {drifts}, found


@needs_alibi
@pytest.mark.parametrize("name", sorted(OFFERED))
def test_each_of_them_is_quiet_without_a_shift_and_loud_with_a_large_one(worker: Worker, name: str) -> None:
    if name in ("alibi/mmd", "alibi/lsdd", "alibi/spotTheDiff") and not _has("torch"):
        pytest.skip("torch is not installed beside alibi-detect")
    chosen = OFFERED[name]
    whole = chosen.own_name in ("chiSquare", "fet", "tabular")
    for shift, drifts in ((0.0, False), (1.0, True)):
        sides = [normal(7), normal(8, shift)]
        if whole:
            sides = [(side > 0).astype(float) for side in sides]
        if not chosen.kinds:  # two columns, nulls in both, one of categories
            extra = [np.where(normal(seed) > 1.5, np.nan, np.rint(normal(seed))) for seed in (9, 10)]
            sides = [
                np.column_stack([np.where(side > 3.9, np.nan, side), more])
                for side, more in zip(sides, extra, strict=True)
            ]
        rows = beside(*sides, *((0,) if name == "alibi/chiSquare" else (1,)))
        found = measured(worker, of_all(chosen, rows, 1) if not chosen.kinds else of_column(chosen, rows, 0))
        assert found.p_value is not None
        assert (found.effect >= chosen.threshold and found.p_value <= 0.01) == drifts, found


@needs_alibi
def test_the_same_rows_give_the_same_measure_in_another_child(worker: Worker) -> None:
    names = ["alibi/classifier", *(["alibi/mmd"] if _has("torch") else [])]
    requests = [asked(of_all(OFFERED[name], beside(normal(1, 0, 3), normal(2, 0.2, 3)), 5)) for name in names]
    with Worker() as other:
        assert other.measure(requests) == worker.measure(requests)


def test_nulls_are_handled_before_and_never_reach_it() -> None:
    reference, window = normal(1, columns=3), normal(2, columns=3)
    reference[:, 2] = np.abs(np.rint(reference[:, 2]))
    window[:, 2] = np.abs(np.rint(window[:, 2]))
    window[::3, 0], window[::4, 2], reference[5, 1], window[7, 1] = np.nan, np.nan, np.inf, -np.inf
    rows = beside(reference, window, 2)
    for name in ("alibi/tabular", "alibi/mmd"):
        request = asked(of_all(OFFERED[name], rows, 1))
        assert np.isfinite(request.reference).all()
        assert np.isfinite(request.window).all()
        missing = [
            place for place in range(request.window.shape[1]) if set(request.window[:, place]) == {0.0, 1.0}
        ]
        assert any(request.window[:, place].mean() == pytest.approx(1 / 3, abs=0.01) for place in missing)
    alone = asked(of_column(OFFERED["alibi/ks"], rows, 0))
    assert (len(alone.reference), len(alone.window)) == (ROWS, ROWS - ROWS // 3)


def test_values_that_a_float32_cannot_tell_apart_are_compared_all_the_same() -> None:
    for scale, offset in ((1.0, 1e8), (1e300, 0.0)):
        rows = beside(normal(1) * scale + offset, normal(2) * scale + offset)
        request = asked(of_column(OFFERED["alibi/ks"], rows, 0))
        assert len(np.unique(np.concatenate([request.reference, request.window]))) == 2 * ROWS
        assert np.isfinite(request.window).all()


def test_what_cannot_be_asked_is_said() -> None:
    rows = beside(normal(1, columns=2), np.full((ROWS, 2), np.nan), 1)
    assert of_column(OFFERED["alibi/ks"], rows, 0) == "0 values, fewer than 20"
    assert of_column(OFFERED["alibi/ks"], rows, 1) == "it does not compare categories"
    assert of_column(OFFERED["alibi/chiSquare"], rows, 0) == "it does not compare numbers"
    many = beside(normal(1), normal(2))
    assert of_column(OFFERED["alibi/fet"], many, 0) == "the reference has not two different values"
    few = beside(normal(1)[:30], normal(2)[:30])
    assert of_all(OFFERED["alibi/mmd"], few, 1) == "30 rows, fewer than 50"
    constant = beside(np.ones((ROWS, 2)), np.ones((ROWS, 2)))
    assert of_all(OFFERED["alibi/mmd"], constant, 1) == "all columns are constant"


def test_an_answer_without_numbers_is_no_measure_and_never_a_small_one() -> None:
    for name in ("alibi/ks", "alibi/cvm"):
        request = asked(of_column(OFFERED[name], beside(normal(1), normal(2)), 0))
        assert np.isnan(request.measured([None], [0.5]).effect)
        assert request.measured([0.1], [None]).p_value is None


def test_one_that_is_not_there_says_what_to_install(tmp_path: Path) -> None:
    requests = [asked(of_column(OFFERED["alibi/ks"], beside(normal(1), normal(2)), 0))]
    with Worker(str(tmp_path / "python")) as gone:
        (found,) = gone.measure(requests)
    assert isinstance(found, Stalled)
    assert PYTHON in str(found)
    if not (set(sys.modules) & {"alibi_detect"}) and not os.environ.get(PYTHON) and not _has("alibi_detect"):
        with Worker(sys.executable) as without:
            (found,) = without.measure(requests)
        assert isinstance(found, Stalled)
        assert "alibi/ks needs alibi-detect" in str(found)


def _python(folder: Path, body: str) -> str:
    """An interpreter that runs `body` instead of the child."""
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\nimport os, struct, sys, time\n{body}\n")
    program.chmod(0o755)
    return str(program)


def test_a_child_that_dies_is_an_error_of_its_request_and_another_one_answers_the_next(
    tmp_path: Path,
) -> None:
    body = f"""
if not os.path.exists({str(tmp_path / "tried")!r}):
    open({str(tmp_path / "tried")!r}, "w").close()
    os.kill(os.getpid(), 9)
answer = b'{{"distances": [0.5], "pValues": [0.25]}}'
sys.stdout.buffer.write(struct.pack("<Q", len(answer)) + answer)
sys.stdout.flush()
sys.stdin.read()
"""
    request = asked(of_column(OFFERED["alibi/ks"], beside(normal(1), normal(2)), 0))
    with Worker(_python(tmp_path, body)) as worker:
        died, answered = worker.measure([request, request])
    assert isinstance(died, MlopsError)
    assert "killed by signal 9" in str(died)
    assert answered == Measured(0.5, 0.25)


def test_what_needs_torch_says_so_and_a_fault_of_a_detector_has_its_name(tmp_path: Path) -> None:
    body = """
for answer in (b'{"missing": "torch"}', b'{"failed": "ValueError"}'):
    sys.stdin.buffer.read(*struct.unpack("<Q", sys.stdin.buffer.read(8)))
    sys.stdout.buffer.write(struct.pack("<Q", len(answer)) + answer)
    sys.stdout.flush()
sys.stdin.read()
"""
    request = asked(of_all(OFFERED["alibi/mmd"], beside(normal(1), normal(2)), 1))
    with Worker(_python(tmp_path, body)) as worker:
        found = worker.measure([request, request])
    assert [str(each) for each in found] == [
        "alibi/mmd needs torch. Install torch beside alibi-detect",
        "alibi/mmd failed: ValueError. Choose another detector",
    ]


def test_a_child_that_hangs_is_killed_after_its_time(tmp_path: Path) -> None:
    request = asked(of_column(OFFERED["alibi/ks"], beside(normal(1), normal(2)), 0))
    program = _python(
        tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    )
    with Worker(program, seconds=1.0) as worker:
        (found,) = worker.measure([request])
        assert isinstance(found, Stalled)
        assert "took longer than 1 seconds" in str(found)
        assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_closing_kills_a_child_that_another_thread_waits_for(tmp_path: Path) -> None:
    request = asked(of_column(OFFERED["alibi/ks"], beside(normal(1), normal(2)), 0))
    pid = tmp_path / "pid"
    worker = Worker(_python(tmp_path, f"open({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"))
    found: list[Measured | MlopsError] = []
    asking = threading.Thread(target=lambda: found.extend(worker.measure([request, request])))
    asking.start()
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.02)
    worker.close()
    asking.join(10)
    assert [str(each) for each in found] == ["alibi/ks was stopped"] * 2
    assert not psutil.pid_exists(int(pid.read_text()))


@needs_alibi
def test_a_child_without_memory_fails_alone() -> None:
    request = asked(of_column(OFFERED["alibi/ks"], beside(normal(1), normal(2)), 0))
    with Worker(memory=150 << 20) as worker:
        (found,) = worker.measure([request])
    assert isinstance(found, MlopsError)


def test_every_one_is_found_by_its_name_and_its_licence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ks", "cvm", "chiSquare", "fet", "tabular", "mmd", "lsdd", "classifier", "spotTheDiff"):
        assert detector(f"alibi/{name}") is OFFERED[f"alibi/{name}"]
    monkeypatch.setenv(PYTHON, "/opt/alibi/bin/python")
    told = notice()
    assert told is not None
    assert "Business Source License 1.1" in told
