"""What a logged model predicts for rows of data, from a child process that is trusted with nothing.

A model's code is as foreign as training code: it runs as a job does, with a job's variables and limits, under a
supervisor that ends all of it, and what it answers is checked before it counts. The child's half is
`tracking/child/mlops_predict.py`; rows go there and answers come back through named pipes, a batch at a time.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import mlops.tracking
from mlops.errors import Stalled
from mlops.execution.piped import PATIENCE, PipedChild
from mlops.execution.plain_text import fit_to_show

_PROGRAM: Final = Path(mlops.tracking.__file__).parent / "child" / "mlops_predict.py"
_ROWS: Final = 2**16  # most rows, and about the most bytes, that are asked for at a time
_BYTES: Final = 2**25
_HEAD: Final = 2**20  # most bytes of an answer's description, and of each of its buffers
_BUFFER: Final = 2**28
_QUOTED: Final = 500  # characters of what the child says that are shown
_BUFFERS: Final = {"double": 2, "bool": 2, "string": 3}  # of the Arrow types that may come


class Refused(Stalled):
    """The model was loaded, and says of itself or of its answer why it cannot be used so."""


class Predictor:
    """A logged model that can be asked for predictions: use it as a context, and call it with record batches.

    The child is started by the first question, serves all that follow, and is gone when the context ends. Threads may
    share it. What is told depends on the model, the rows and the arguments here alone, so that it can be kept under
    their digests.

    Args:
        model: the folder with its MLmodel file, which nobody changes meanwhile.
        where: what errors call it, such as `ModelVersion/loan-3`.
        home: a folder of this machine for what is needed meanwhile. What a predictor that was killed left there is
            ended and removed.
        wants: the columns to tell: `prediction`, and `probability` (of the positive class, the greater one of two)
            or `probability:<class>`. Probabilities that a model does not tell are left out.
        features: columns that the model may see, in the order in which it was trained where neither its signature nor
            scikit-learn names them. None: all there are, for a model that names them.
        types: column → type as `data.tallies` names them, for data that comes as text and a model without signature.
        python: the interpreter of the environment that the model was trained in; None: this one.
        environ: variables, of which the child sees what a job sees; None: those of this process.
        timeout: seconds that loading it, and then each piece of at most 65,536 rows, may take.
        memory: bytes that the child and all its processes may hold; None: any.
        stop: once it is set, the child is ended.
        example: whether the model, once it is loaded, has to accept the input example that it was logged with.
    """

    def __init__(
        self,
        model: Path,
        *,
        where: str,
        home: Path,
        wants: Sequence[str],
        features: Sequence[str] | None = None,
        types: Mapping[str, str] | None = None,
        python: Path | None = None,
        environ: Mapping[str, str] | None = None,
        timeout: float = 600.0,
        memory: int | None = None,
        stop: threading.Event | None = None,
        example: bool = False,
    ) -> None:
        self._where, self._timeout, self._memory = where, timeout, memory
        self._stop = stop if stop is not None else threading.Event()
        self._home, self._wants, self._features = home.absolute(), tuple(wants), features
        self._python = python if python is not None else Path(sys.executable)
        self._environ = dict(os.environ if environ is None else environ)
        self._order = {
            "model": str(model.absolute()),
            "features": None if features is None else list(features),
            "types": dict(types or {}),
            "wants": list(wants),
            "example": example,
            "limit": math.ceil(timeout + PATIENCE),  # of its own, should nobody watch it any more
        }
        self._lock = threading.Lock()
        self._child: PipedChild | None = None
        self._schema: Any = None  # of all answers

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if there is one; the next question would start another."""
        with self._lock:
            self._end()

    def load(self) -> None:
        """Have the model loaded now. Raises as asking it does: `Refused` where it has no example, or rejects it."""
        with self._lock:
            if self._child is None:
                self._child = self._loaded()

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """What the model says of each of these pyarrow record batches.

        Returns:
            For each batch one of as many rows, with those columns of `wants` that the model tells, always of one
            schema: doubles, truth values or texts. NaN is null.

        Raises:
            Stalled: the model cannot be loaded, lacks columns, fails, hangs, needs too much memory, or answers anything
                but one value a row.
            Transient: it was killed from outside, or `stop` was set.
        """
        empty = 0  # batches without rows, held back until it is known which columns the model tells
        for batch in batches:
            if batch.num_rows == 0 and self._schema is None:
                empty += 1
                continue
            told = self._told(batch)
            yield from (_none(told.schema) for _ in range(empty))
            empty = 0
            yield told
        if empty:
            import pyarrow as pa

            schema = pa.schema([(name, pa.float64()) for name in self._wants])
            yield from (_none(schema) for _ in range(empty))

    def _told(self, batch: Any) -> Any:
        """What the model says of a batch, asked for in pieces of bounded size."""
        import pyarrow as pa

        if batch.num_rows == 0:
            return _none(self._schema)
        names = batch.schema.names if self._features is None else self._features
        seen = batch.select([name for name in names if batch.schema.get_field_index(name) >= 0])
        step = min(_ROWS, max(1, _BYTES * batch.num_rows // max(1, seen.nbytes)))
        pieces = [self._ask(seen.slice(at, step)) for at in range(0, batch.num_rows, step)]
        if self._schema is None:
            self._schema = pieces[0].schema
        if any(piece.schema != self._schema for piece in pieces):
            raise Stalled(
                "The model gives values of one type for some rows and of another for others",
                where=self._where,
                fix="Let its predict return the same columns and types whatever it is given.",
            )
        return pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)

    def _ask(self, piece: Any) -> Any:
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, piece.schema.remove_metadata()) as stream:
            stream.write_batch(piece.replace_schema_metadata(None))  # pandas' would make an index of a column
        with self._lock:
            try:
                if self._child is None:
                    self._child = self._loaded()
                self._child.give(sink.getvalue())
                return self._batch(self._child, piece.num_rows)
            except BaseException:
                self._end()
                raise

    def _loaded(self) -> PipedChild:
        """A child that has loaded the model."""
        path = self._environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        child = PipedChild(
            (str(self._python), str(_PROGRAM)),
            where=self._where,
            home=self._home,
            environ=self._environ,
            given={
                "PATH": f"{self._python.parent}:{path}",
                "PYTHONDONTWRITEBYTECODE": "1",  # beside the model's code: its digest would be another
                "PYTHONHASHSEED": "0",
                "PYTHONNOUSERSITE": "1",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            timeout=self._timeout,
            memory=self._memory,
            stop=self._stop,
        )
        try:
            child.failed = "The model could not be loaded"
            child.give(json.dumps(self._order).encode())
            self._head(child)
            child.failed = "The model failed when it was asked for predictions"
        except BaseException:
            child.end()
            raise
        return child

    def _head(self, child: PipedChild) -> dict[str, Any]:
        """The description of the child's next answer."""
        try:
            head = json.loads(child.take(_HEAD))
        except (ValueError, RecursionError):
            raise child.astray() from None
        if not isinstance(head, dict):
            raise child.astray()
        if "refused" in head:
            what, fix = (
                fit_to_show(str(head.get(name)), self._environ)[:_QUOTED] for name in ("refused", "fix")
            )
            raise Refused(f"The model {what}", where=self._where, fix=fix)
        return head

    def _batch(self, child: PipedChild, rows: int) -> Any:
        """The child's answer, in which nothing is believed: its buffers are taken as they are and looked through."""
        import pyarrow as pa

        head = self._head(child)
        types = {"double": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
        arrays: dict[str, Any] = {}
        try:
            for name, kind, present in head["columns"]:
                if name not in self._wants or name in arrays or len(present) != _BUFFERS[kind]:
                    raise child.astray()
                buffers = [pa.py_buffer(child.take(_BUFFER)) if there else None for there in present]
                arrays[name] = pa.Array.from_buffers(types[kind], rows, buffers)
                arrays[name].validate(full=True)
            astray = head["rows"] != rows
        except (KeyError, TypeError, ValueError):  # pyarrow's errors of bad buffers are ValueErrors
            raise child.astray() from None
        if astray:
            raise child.astray()
        if not arrays:
            raise Stalled(
                f"The model tells none of the columns that are needed of it: {', '.join(self._wants)}",
                where=self._where,
                fix="Name columns.prediction in the predictions' Dataset, or log a model that tells probabilities.",
            )
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


def _none(schema: Any) -> Any:
    """A record batch without rows."""
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([], schema=schema)
