"""Predictions of real MLflow models, told by a child process; and what is told when there are none."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlops.errors import Stalled, Transient
from mlops.execution.predicting import Predictor
from mlops.tracking.environment import CHILD_FOLDER

SAVE = """
    import os, pickle, sys
    from pathlib import Path

    import mlflow.pyfunc
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression, LogisticRegression

    place = Path(sys.argv[1])
    frame = pd.read_pickle(place / "frame.pkl")
    good = np.where((frame["size"] - 50) / 9 + frame["age"] > 0, "good", "bad")
    number = 2 * frame["size"] + frame["age"]

    class Loud(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            print("x" * 200_000, flush=True)
            if len(model_input) == 13:
                os._exit(3)
            return list(model_input["age"])[: 5 if len(model_input) == 7 else None]

    made = {
        "classes": LogisticRegression(max_iter=1000).fit(frame, good),
        "nameless": LinearRegression().fit(frame.to_numpy(), number),
        "signed": LinearRegression().fit(frame.to_numpy(), number),
        "three": LogisticRegression(max_iter=1000).fit(frame, pd.qcut(number, 3, labels=False)),
    }
    for name, model in made.items():
        signature = infer_signature(frame, number) if name == "signed" else None
        mlflow.sklearn.save_model(model, place / name, signature=signature, pip_requirements=["scikit-learn"])
    signature = infer_signature(frame, number)
    mlflow.pyfunc.save_model(
        place / "loud", python_model=Loud(), signature=signature, pip_requirements=["mlflow"]
    )
    (place / "made.pkl").write_bytes(pickle.dumps(made))
"""

ALL = ("prediction", "probability", "probability:bad", "probability:good")


def rows_of(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    # Not in the order of the alphabet, and `size` of another scale: a model that is given them swapped says otherwise.
    return pd.DataFrame({"size": rng.normal(50, 9, n), "age": rng.normal(0, 1, n)})


def batch_of(frame: pd.DataFrame) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Folder and model by name, saved by MLflow: in another process, as this one may have imported a part of it."""
    place = tmp_path_factory.mktemp("models")
    frame = rows_of(400)
    frame.to_pickle(place / "frame.pkl")
    subprocess.run([sys.executable, "-c", textwrap.dedent(SAVE), str(place)], check=True, timeout=120)
    made: dict[str, Any] = pd.read_pickle(place / "made.pkl")
    return {name: (place / name, made.get(name)) for name in (*made, "loud")}


def _program() -> ModuleType:
    """The child's program, here."""
    spec = importlib.util.spec_from_file_location("predict_here", CHILD_FOLDER / "mlops_predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _told(
    folder: str, table: pa.Table, wants: tuple[str, ...], features: list[str] | None, types: dict[str, str]
) -> dict[str, list[object]] | tuple[str, str]:
    """What the program tells of these rows, or what it refuses them with."""
    program = _program()
    try:
        said = program.Model(folder, features, types).says(table, wants)
    except program.Refusal as refused:
        return refused.what, refused.fix
    return {name: program._array(name, values).to_pylist() for name, values in said.items()}


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return _program()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """One process for all questions: MLflow is imported whole there, as it is in the child."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def ask(
    program: ModuleType, models: dict[str, tuple[Path, Any]], elsewhere: ProcessPoolExecutor
) -> Callable[..., dict[str, list[object]]]:
    """What the child would tell, without the seconds that starting one takes."""

    def told(
        name: str,
        frame: pd.DataFrame | pa.Table,
        wants: tuple[str, ...] = ("prediction",),
        features: list[str] | None = None,
        types: dict[str, str] | None = None,
    ) -> dict[str, list[object]]:
        table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
        said = elsewhere.submit(_told, str(models[name][0]), table, wants, features, types or {}).result(120)
        if isinstance(said, tuple):
            raise program.Refusal(*said)
        return said

    return told


def test_a_classifier_tells_what_it_says_here_batch_for_batch(
    models: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    folder, model = models["classes"]
    frame = rows_of(70_000)  # more than one question's worth
    shuffled = batch_of(frame.assign(label="secret", id=range(len(frame)))[["id", "label", "age", "size"]])
    batches = [shuffled.slice(0, 0), shuffled.slice(0, 10), shuffled.slice(0, 0), shuffled]
    with Predictor(folder, where="ModelVersion/loan-1", home=tmp_path / "home", wants=ALL) as predict:
        told = list(predict(batches))
        again = list(predict([shuffled.slice(5, 3)]))  # by the same child
    assert [batch.num_rows for batch in told] == [0, 10, 0, 70_000]
    assert {batch.schema for batch in told} == {told[1].schema}
    assert told[3].column("prediction").to_pylist() == list(model.predict(frame))
    expected = model.predict_proba(frame)
    for name, values in zip(ALL[1:], (expected[:, 1], expected[:, 0], expected[:, 1]), strict=True):
        np.testing.assert_allclose(told[3].column(name).to_numpy(), values, rtol=1e-12)
    assert again[0].equals(told[3].slice(5, 3))
    assert list((tmp_path / "home").iterdir()) == []


def test_a_custom_model_may_print_and_when_it_ends_its_process_that_is_told(
    models: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    with Predictor(models["loud"][0], where="ModelVersion/loan-2", home=tmp_path, wants=ALL) as predict:
        (told,) = predict([batch_of(rows_of(20))])
        assert told.schema.names == ["prediction"]  # it knows no probabilities
        assert told.column("prediction").to_pylist() == list(rows_of(20)["age"])
        with pytest.raises(Stalled, match=r"ModelVersion/loan-2: The model failed .*exit code 3"):
            list(predict([batch_of(rows_of(13))]))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_number_of_rows_is_refused_with_a_fix(ask: Callable[..., Any], program: ModuleType) -> None:
    with pytest.raises(program.Refusal, match="gave 5 values of 'prediction' for 7 rows") as caught:
        ask("loud", rows_of(7))
    assert "one row for each row" in caught.value.fix


def test_a_model_that_is_no_model_says_where_and_why(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    predict = Predictor(tmp_path / "broken", where="ModelVersion/x-1", home=tmp_path / "home", wants=ALL)
    with predict, pytest.raises(Stalled, match="ModelVersion/x-1: The model could not be loaded"):
        list(predict([batch_of(rows_of(3))]))
    assert list((tmp_path / "home").iterdir()) == []


def test_columns_come_in_the_order_of_the_signature_of_fitting_or_as_given(
    ask: Callable[..., Any], models: dict[str, tuple[Path, Any]], program: ModuleType
) -> None:
    frame = rows_of(5)
    swapped = frame[["age", "size"]]
    for name in ("signed", "three"):
        expected = models[name][1].predict(frame if name == "three" else frame.to_numpy())
        assert ask(name, swapped, features=["age", "size"])["prediction"] == pytest.approx(list(expected))
    expected = list(models["nameless"][1].predict(frame.to_numpy()))
    assert ask("nameless", swapped, features=["size", "age"])["prediction"] == pytest.approx(expected)
    with pytest.raises(program.Refusal, match="does not say which columns it reads"):
        ask("nameless", swapped)


def test_a_column_that_is_lacking_is_named(ask: Callable[..., Any], program: ModuleType) -> None:
    for name in ("classes", "signed"):
        with pytest.raises(program.Refusal, match="do not have: 'size'"):
            ask(name, rows_of(3)[["age"]])


def test_text_becomes_what_the_signature_or_the_caller_says(
    ask: Callable[..., Any], models: dict[str, tuple[Path, Any]]
) -> None:
    frame = rows_of(4)
    text = frame.map(repr).map(lambda value: value.replace("np.float64(", "").rstrip(")"))
    expected = list(models["signed"][1].predict(frame.to_numpy()))
    assert ask("signed", text)["prediction"] == pytest.approx(expected)
    typed = ask("classes", text, types={"size": "double", "age": "double"})
    assert typed["prediction"] == list(models["classes"][1].predict(frame))


def test_probabilities_are_told_by_class_as_it_is_written(
    ask: Callable[..., Any], models: dict[str, tuple[Path, Any]], program: ModuleType
) -> None:
    frame = rows_of(6)
    told = ask("three", frame, ("prediction", "probability:2", "probability:0"))
    expected = models["three"][1].predict_proba(frame)
    assert told["probability:2"] == pytest.approx(list(expected[:, 2]))
    assert told["probability:0"] == pytest.approx(list(expected[:, 0]))
    assert set(told["prediction"]) <= {0.0, 1.0, 2.0}
    with pytest.raises(program.Refusal, match="tells 3 classes apart, of which none is the positive one"):
        ask("three", frame, ("prediction", "probability"))
    with pytest.raises(program.Refusal, match="does not know the classes 'Good': it knows 'bad', 'good'"):
        ask("classes", frame, ("prediction", "probability:Good"))
    assert list(ask("signed", frame, ("prediction", "probability"))) == ["prediction"]


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (True, "true"),
        (np.bool_(False), "false"),
        (np.int64(3), "3"),
        (2.0, "2"),
        (np.float64(2.5), "2.5"),
        ("a", "a"),
    ],
)
def test_classes_are_written_as_in_yaml(program: ModuleType, label: object, text: str) -> None:
    assert program._text(label) == text


def test_every_shape_of_an_answer_is_one_value_a_row_or_refused(program: ModuleType) -> None:
    def one(answer: object) -> list[object]:
        return program._array("prediction", program._columns(answer)["prediction"]).to_pylist()  # type: ignore[no-any-return]

    assert one(np.array([[1], [2]])) == [1.0, 2.0]
    assert one(pd.DataFrame({"anything": [1.5, float("nan")]})) == [1.5, None]
    assert one(pd.DataFrame({"prediction": ["a", None], "extra": [1, 2]})) == ["a", None]
    assert one({"prediction": [True, False]}) == [True, False]
    assert one(pd.Series(["a", "b"], dtype="category")[1:]) == ["b"]
    assert one(np.array([1, np.nan, np.inf], dtype=np.float16)) == [1.0, None, np.inf]
    assert one([None, None]) == [None, None]
    for wrong in (np.zeros((2, 3)), [[1, 2], [3, 4]], pd.DataFrame({"a": [1], "b": [2]})):
        with pytest.raises(program.Refusal, match=r"more than one value a row|none is called prediction"):
            one(wrong)
    for odd in (["a", 1], [b"a"], [object()]):
        with pytest.raises(program.Refusal, match=r"several types|as binary"):
            one(odd)


def test_whole_numbers_with_gaps_stay_fractions_and_texts_of_truth_values_become_them(
    program: ModuleType,
) -> None:
    assert program._fitted(pd.Series([1, 2]), "integer").dtype == np.int32
    assert program._fitted(pd.Series(["1", "2"]), "long").dtype == np.int64
    assert program._fitted(pd.Series(["1", None]), "long").dtype == np.float64
    assert program._fitted(pd.Series([1.0, 2.0]), "long").dtype == np.int64
    assert program._fitted(pd.Series([1.5, 2.0]), "long").dtype == np.float64
    assert program._fitted(pd.Series(["x", "2"]), "double").isna().tolist() == [True, False]
    assert program._fitted(pd.Series(["true", "0"]), "boolean").tolist() == [True, False]
    assert program._fitted(pd.Series([7, 8]), "string").tolist() == ["7", "8"]
    assert program._fitted(pd.Series(["2024-01-01"]), "datetime").dt.year.tolist() == [2024]


_FALSE = """#!{python}
import json, struct, sys, time
answers = open(sys.argv[3], "wb")
rows = open(sys.argv[2], "rb")
def take():
    return rows.read(int.from_bytes(rows.read(8), "little"))
def give(data):
    answers.write(len(data).to_bytes(8, "little") + data)
    answers.flush()
def say(columns, *buffers, rows=4):
    give(json.dumps({{"rows": rows, "columns": columns}}).encode())
    for buffer in buffers:
        give(buffer)
TEXTS = [["prediction", "string", [0, 1, 1]]]
take()
give(b"{{}}")
while True:
    take()
    {answer}
"""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("give(b'{')", "something else"),
        ("give(b'[' * 100_000)", "something else"),
        ("give(b'[]')", "something else"),
        ("give(b'{}')", "something else"),
        ("say([['prediction', 'double', [False, True]]], bytes(8))", "something else"),  # too few bytes
        ("say([['prediction', 'double', [False, False]]])", "something else"),
        ("say([['prediction', 'double', [False, True]]], bytes(40), rows=5)", "something else"),
        ("say([['prediction', 'large', [False, True]]], bytes(32))", "something else"),
        ("say([['other', 'double', [False, True]]], bytes(32))", "something else"),
        # offsets that point outside, and bytes that are no text
        ("say(TEXTS, struct.pack('<5i', 0, 1, 2, 3, 10**9), b'abcd')", "something else"),
        ("say(TEXTS, struct.pack('<5i', 0, 1, 2, 3, 4), b'\\xff' * 4)", "something else"),
        ("say([])", "tells none of the columns"),
        (
            "give(json.dumps({'refused': 'is \\x1b[31m' + 'x' * 9999}).encode())",
            r"^ModelVersion/x-1: The model is x{1,500}\.",
        ),
    ],
)  # fmt: skip
def test_an_answer_that_the_program_would_not_give_is_not_believed(
    tmp_path: Path, answer: str, words: str
) -> None:
    python = tmp_path / "python"
    python.write_text(_FALSE.format(python=sys.executable, answer=answer))
    python.chmod(0o755)
    predict = Predictor(tmp_path, where="ModelVersion/x-1", home=tmp_path / "h", wants=ALL, python=python)
    with predict, pytest.raises(Stalled, match=words):
        list(predict([batch_of(rows_of(4))]))


def test_types_that_change_between_batches_are_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    answer = """
    say([['prediction', 'double', [False, True]]], bytes(32))
    take()
    say([['prediction', 'bool', [False, True]]], bytes(8))
"""
    python.write_text(_FALSE.format(python=sys.executable, answer=answer))
    python.chmod(0o755)
    predict = Predictor(tmp_path, where="x", home=tmp_path / "h", wants=ALL, python=python)
    with predict, pytest.raises(Stalled, match="one type for some rows and of another for others"):
        list(predict([batch_of(rows_of(4))] * 2))


def test_only_the_features_leave_this_process(tmp_path: Path) -> None:
    python = tmp_path / "python"
    seen = tmp_path / "seen"
    head, _, _ = _FALSE.partition("while True")
    rest = f"""
    open({str(seen)!r}, "wb").write(take())
    say([['prediction', 'double', [False, True]]], bytes(32))
    """
    python.write_text(head.format(python=sys.executable) + textwrap.dedent(rest))
    python.chmod(0o755)
    frame = rows_of(4).assign(diagnosis=["flu"] * 4)
    predict = Predictor(
        tmp_path, where="x", home=tmp_path / "h", wants=ALL, python=python, features=["size", "age"]
    )
    with predict:
        list(predict([batch_of(frame)]))
    with pa.ipc.open_stream(seen.read_bytes()) as stream:
        assert stream.read_all().column_names == ["size", "age"]
    assert b"flu" not in seen.read_bytes()


def test_nothing_is_started_where_nothing_is_asked(tmp_path: Path) -> None:
    with Predictor(tmp_path / "none", where="x", home=tmp_path / "h", wants=("prediction",)) as predict:
        assert list(predict([])) == []
        (empty,) = predict([batch_of(rows_of(0))])
    assert empty.schema.names == ["prediction"]
    assert empty.num_rows == 0
    assert not (tmp_path / "h").exists()


def test_a_stop_ends_it(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(_FALSE.format(python=sys.executable, answer="time.sleep(600)"))
    python.chmod(0o755)
    stop = threading.Event()
    predict = Predictor(tmp_path, where="x", home=tmp_path / "h", wants=ALL, python=python, stop=stop)
    threading.Timer(0.3, stop.set).start()
    with predict, pytest.raises(Transient, match="stopped"):
        list(predict([batch_of(rows_of(4))]))
    assert list((tmp_path / "h").iterdir()) == []


def test_the_program_is_readable_by_old_pythons() -> None:
    ast.parse((CHILD_FOLDER / "mlops_predict.py").read_text(), feature_version=(3, 8))


def test_a_model_that_hangs_ends_also_when_nobody_watches_any_more(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").touch()
    (tmp_path / "mlflow" / "pyfunc.py").write_text("import time\ntime.sleep(600)\n")
    rows, answers = tmp_path / "rows", tmp_path / "answers"
    os.mkfifo(rows)
    os.mkfifo(answers)
    reading = os.open(answers, os.O_RDONLY | os.O_NONBLOCK)
    command = [sys.executable, str(CHILD_FOLDER / "mlops_predict.py"), str(rows), str(answers)]
    child = subprocess.Popen(command, env={"PYTHONPATH": str(tmp_path)})
    try:
        order = json.dumps({"model": "m", "features": None, "types": {}, "wants": [], "limit": 1}).encode()
        with rows.open("wb") as pipe:
            pipe.write(len(order).to_bytes(8, "little") + order)
            pipe.flush()
            assert child.wait(60) == -signal.SIGALRM
    finally:
        child.kill()
        child.wait()
        os.close(reading)
