"""Loads a logged model and tells what it predicts, in a process of its own: `mlops_predict.py ROWS ANSWERS`.

Both are named pipes. A message is its length in 8 bytes, little-endian, and that many bytes. What comes: the order as
JSON (`execution/predicting.py` writes it), then one Arrow IPC stream a batch, until the end of the pipe. What goes:
`{}` once the model is loaded, then for each batch its columns as JSON and their Arrow buffers, each a message of its
own, since whoever reads them trusts this process with nothing: plain buffers cannot grow when they are decoded. An
exception is printed as ever and ends the process. Any Python from 3.8 that has MLflow, pandas and pyarrow.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, which a Python without annotations needs not import
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, BinaryIO

_WHOLE = {"integer": "int32", "long": "int64"}
_FRACTIONS = {"float": "float32", "double": "float64"}
_OF_TEXT = {
    "integer": "long",
    "double": "double",
    "boolean": "boolean",
    "timestamp": "datetime",
    "date": "datetime",
}
_SHOWN = 10  # names in a message


class Refusal(Exception):
    """What is wrong with the model's answer, and what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


class Model:
    """The loaded model, with what it says of its inputs."""

    def __init__(self, folder: str, features: Sequence[str] | None, types: Mapping[str, str]) -> None:
        import mlflow.pyfunc

        self._pyfunc: Any = mlflow.pyfunc.load_model(folder)
        try:
            self._raw: Any = self._pyfunc.get_raw_model()
        except (AttributeError, NotImplementedError):  # an older MLflow, or a flavour that has none to give
            self._raw = None
        schema = self._pyfunc.metadata.get_input_schema()
        named = schema is not None and schema.has_input_names()
        columns = named and not schema.is_tensor_spec()
        kinds = zip(schema.input_names(), schema.input_types()) if columns else ()  # noqa: B905 - a Python of before 3.10
        # Signature first; of texts that no signature explains, the caller knows the types.
        self._kinds = {name: getattr(kind, "name", "") for name, kind in kinds}
        self._text_kinds = {name: _OF_TEXT.get(kind, "") for name, kind in types.items()}
        self._inputs: list[str] | None = list(schema.input_names()) if named else None
        required = getattr(schema, "required_input_names", schema.input_names) if named else list
        self._required: set[str] = set(required())
        fitted = getattr(self._raw, "feature_names_in_", None)
        if self._inputs is None and fitted is not None:
            self._inputs = [str(name) for name in fitted]
            self._required = set(self._inputs)
        if self._inputs is None:
            self._inputs = None if features is None else list(features)
            self._required = set(self._inputs or ())

    def accepts_example(self, folder: str) -> None:
        """Have it predict what it was logged with; refuses where it has no signature or example, or fails at it."""
        metadata = self._pyfunc.metadata
        if metadata.signature is None:
            raise Refusal(
                "has no signature", "Log it with signature=mlflow.models.infer_signature(inputs, outputs)."
            )
        if metadata.saved_input_example_info is None:
            raise Refusal("has no input example", "Log it with input_example=… a few rows of its inputs.")
        try:
            self._pyfunc.predict(metadata.load_input_example(folder))
        except Exception as error:
            traceback.print_exc()
            what = f"does not accept its own input example: {type(error).__name__}: {str(error)[:300]}"
            raise Refusal(what, "Log it with an example that its predict takes.") from error

    def says(self, table: Any, wants: Sequence[str]) -> dict[str, Any]:
        """The columns of `wants` that the model tells, as arrays."""
        frame = self._frame(table)
        random.seed(0)  # so that the same rows are told the same, whatever was asked before
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(0)
        if self._raw is None or not hasattr(self._raw, "predict_proba"):
            told = _columns(self._pyfunc.predict(frame))
        else:
            told = {"prediction": _single(self._raw.predict(frame))}
            if any(name != "prediction" for name in wants):
                told.update(self._probabilities(self._raw.predict_proba(frame), wants))
        for name, values in told.items():
            if len(values) != table.num_rows:
                raise Refusal(
                    f"gave {len(values)} values of {name!r} for {table.num_rows} rows",
                    "Let its predict return one row for each row that it is given.",
                )
        return {name: told[name] for name in wants if name in told}

    def _frame(self, table: Any) -> Any:
        if self._inputs is None:
            raise Refusal(
                "does not say which columns it reads",
                "Log it with a signature: mlflow.models.infer_signature(inputs, outputs).",
            )
        lacking = sorted(self._required - set(table.column_names))
        if lacking:
            raise Refusal(
                f"reads columns that the data do not have: {_list(lacking)}",
                "Give the reference's Dataset these columns, or name another reference.",
            )
        names = [name for name in self._inputs if name in table.column_names]
        frame = table.select(names).to_pandas()
        for name in names:
            kind = self._kinds.get(name) or (self._text_kinds.get(name, "") if _is_text(frame[name]) else "")
            frame[name] = _fitted(frame[name], kind)
        return frame

    def _probabilities(self, given: Any, wants: Sequence[str]) -> dict[str, Any]:
        classes = [_text(label) for label in getattr(self._raw, "classes_", ())]
        if getattr(given, "ndim", 0) != 2 or given.shape[1] != len(classes):
            raise Refusal(
                "tells several things at once: its predict_proba gives not one probability a class",
                "Monitor a model with one target.",
            )
        given = getattr(given, "to_numpy", lambda: given)()
        told = {"probability:" + label: given[:, at] for at, label in enumerate(classes)}
        if len(classes) == 2:
            told["probability"] = given[:, 1]
        unknown = [name for name in wants if name != "prediction" and name not in told]
        if unknown == ["probability"]:
            raise Refusal(
                f"tells {len(classes)} classes apart, of which none is the positive one",
                "Map classes to columns in columns.probability of the predictions' Dataset.",
            )
        if unknown:
            missing = [name.partition(":")[2] for name in unknown]
            raise Refusal(
                f"does not know the classes {_list(missing)}: it knows {_list(classes)}",
                "Correct columns.probability of the predictions' Dataset.",
            )
        return told


def _columns(answer: Any) -> dict[str, Any]:
    """What a model's predict returned, by column: a table may name them as `wants` does."""
    import pandas as pd

    if isinstance(answer, dict):
        answer = pd.DataFrame(answer)
    if not isinstance(answer, pd.DataFrame):
        return {"prediction": _single(answer)}
    if "prediction" in answer.columns:
        named = [
            name for name in answer.columns if str(name).partition(":")[0] in ("prediction", "probability")
        ]
        return {str(name): _single(answer[name]) for name in named}
    if answer.shape[1] == 1:
        return {"prediction": answer.iloc[:, 0]}
    raise Refusal(
        f"gives a table of {answer.shape[1]} columns, of which none is called prediction",
        "Let its predict return one value a row, or a DataFrame with a column prediction.",
    )


def _single(values: Any) -> Any:
    """One value a row."""
    import numpy as np

    shape = getattr(values, "shape", None)
    if shape is None:
        values = list(values)
        if any(isinstance(value, (list, tuple, dict, set, np.ndarray)) for value in values):
            shape = (len(values), 2)
    if shape is not None and len(shape) == 2 and shape[1] == 1:
        return np.asarray(values).ravel()
    if shape is not None and len(shape) != 1:
        raise Refusal(
            "gives more than one value a row",
            "Let its predict return one value a row, or a DataFrame with a column prediction.",
        )
    return values


def _fitted(series: Any, kind: str) -> Any:
    """A column as the type that the model was logged with; whole numbers with gaps stay fractions, as in pandas."""
    import pandas as pd

    text = _is_text(series)
    if kind in _WHOLE or kind in _FRACTIONS:
        if text:
            series = pd.to_numeric(series, errors="coerce")
        if not pd.api.types.is_numeric_dtype(series.dtype):
            return series
        if kind in _FRACTIONS:
            return series.astype(_FRACTIONS[kind])
        gaps = series.isna().any() or not (series == series.round()).all()
        return series if gaps else series.astype(_WHOLE[kind])
    if kind == "boolean" and not pd.api.types.is_bool_dtype(series.dtype):
        known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
        series = series.astype(str).str.strip().str.lower().map(known)
        return series if series.isna().any() else series.astype(bool)
    if kind == "datetime" and text:
        return pd.to_datetime(series, errors="coerce")
    if kind == "string" and not text:
        return series.astype(str).where(series.notna(), None)
    return series


def _is_text(series: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_object_dtype(series.dtype) or pd.api.types.is_string_dtype(series.dtype))


def _text(label: Any) -> str:
    """A class as it is written in YAML: true, 1, good."""
    if isinstance(label, bool) or type(label).__name__ in ("bool_", "bool"):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)


def _array(name: str, values: Any) -> Any:
    """An Arrow array of doubles, truth values or texts; what is not a number is null."""
    import numpy as np
    import pyarrow as pa

    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        raise Refusal(
            f"gives values of {name!r} that are of several types, or of one that is not known here",
            "Let it return numbers, truth values or texts.",
        ) from None
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_boolean(kind):
        return array
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view":
        return array.cast(pa.string())
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not numeric and not pa.types.is_null(kind):
        raise Refusal(f"gives {name!r} as {kind}", "Let it return numbers, truth values or texts.")
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.float64())
    if pa.types.is_float16(kind):
        array = array.cast(pa.float32())
    numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return pa.array(numbers, pa.float64(), mask=np.isnan(numbers))


def _list(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(repr(name[:80]) for name in names[:_SHOWN]) + more


def _take(pipe: BinaryIO) -> bytes | None:
    """The next message; None at the end of the pipe."""
    head = pipe.read(8)
    return pipe.read(int.from_bytes(head, "little")) if len(head) == 8 else None


def _give(pipe: BinaryIO, head: dict[str, Any], buffers: Sequence[Any] = ()) -> None:
    for part in (json.dumps(head).encode(), *buffers):
        pipe.write(len(part).to_bytes(8, "little"))
        pipe.write(part)
    pipe.flush()


def _answer(model: Model, data: bytes, wants: Sequence[str]) -> tuple[dict[str, Any], list[Any]]:
    import pyarrow as pa

    with pa.ipc.open_stream(data) as stream:
        table = stream.read_all()
    arrays = {name: _array(name, values) for name, values in model.says(table, wants).items()}
    columns: list[list[Any]] = []
    buffers: list[Any] = []
    for name, array in arrays.items():
        parts = (
            pa.concat_arrays([array, array[:0]]) if array.offset else array
        ).buffers()  # from the first row
        columns.append([name, str(array.type), [part is not None for part in parts]])
        buffers.extend(memoryview(part) for part in parts if part is not None)
    return {"rows": table.num_rows, "columns": columns}, buffers


def main() -> None:
    """Answer until the pipe ends. Alarms end a process that hangs also when nobody is left who watches it."""
    del sys.path[0]  # this folder
    # In this order: whoever opens the other end of `rows` can rely on it that `answers` is open.
    with open(sys.argv[2], "wb") as answers, open(sys.argv[1], "rb") as rows:
        order = json.loads(_take(rows) or b"")
        signal.alarm(order["limit"])
        try:
            model = Model(order["model"], order["features"], order["types"])
            if order.get("example"):
                model.accepts_example(order["model"])
            _give(answers, {})
            while True:
                signal.alarm(0)
                data = _take(rows)
                if data is None:
                    break
                signal.alarm(order["limit"])
                _give(answers, *_answer(model, data, order["wants"]))
        except Refusal as refusal:
            _give(answers, {"refused": refusal.what, "fix": refusal.fix})


if __name__ == "__main__":
    status = 0
    try:
        main()
    except BaseException:  # what it is, whoever started this process tells from what is printed
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads that a model left behind wait for nothing
