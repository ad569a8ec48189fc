"""The program that runs alibi-detect, in a process and maybe an environment of its own. It imports nothing of mlops.

On stdin come requests, each its length in eight bytes and then a numpy `.npz`: `head`, which is JSON, `reference` and
`window`. On stdout goes, for each, a length and JSON: `{"distances": […], "pValues": […]}`, or
`{"missing": module}`, or `{"failed": name of an exception}`.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<Q")


def main() -> None:
    """Answer until stdin ends. Arguments: bytes of memory, seconds of processor time."""
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_CORE, 0)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    while True:
        message = _message(sys.stdin.buffer)
        if message is None:
            return
        body = json.dumps(_answered(message)).encode()
        answers.write(_LENGTH.pack(len(body)) + body)
        answers.flush()


def _limit(kind: int, wanted: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (most, most))


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _message(source: BinaryIO) -> bytes | None:
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = source.read(length)
    return body if len(body) == length else None


def _answered(message: bytes) -> dict[str, Any]:
    try:
        import numpy as np

        with np.load(io.BytesIO(message), allow_pickle=False) as arrays:
            request = json.loads(bytes(arrays["head"]))
            return _answer(request, arrays["reference"], arrays["window"])
    except ModuleNotFoundError as error:
        return {"missing": str(error.name).partition(".")[0]}
    except Exception as error:  # one detector's fault must not stop the others
        return {"failed": type(error).__name__}


def _answer(request: dict[str, Any], reference: Any, window: Any) -> dict[str, Any]:
    _seed(request["seed"])
    found = _DETECTORS[request["detector"]](request, reference, window).predict(window)["data"]
    return {"distances": _numbers(found["distance"]), "pValues": _numbers(found["p_val"])}


def _numbers(values: Any) -> list[float | None]:
    import numpy as np

    return [float(each) if np.isfinite(each) else None for each in np.atleast_1d(values).ravel()]


def _seed(seed: int) -> None:
    import random

    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    try:
        import torch
    except ModuleNotFoundError:  # what needs it says so itself
        return
    torch.manual_seed(seed)
    torch.set_num_threads(1)


def _ks(request: dict[str, Any], reference: Any, window: Any) -> Any:
    from alibi_detect.cd import KSDrift

    return KSDrift(reference)


def _cvm(request: dict[str, Any], reference: Any, window: Any) -> Any:
    from alibi_detect.cd import CVMDrift

    return CVMDrift(reference)


def _fet(request: dict[str, Any], reference: Any, window: Any) -> Any:
    from alibi_detect.cd import FETDrift

    return FETDrift(reference, alternative="two-sided")


def _chi_square(request: dict[str, Any], reference: Any, window: Any) -> Any:
    from alibi_detect.cd import ChiSquareDrift

    return ChiSquareDrift(reference, categories_per_feature=_categories(request, reference, window))


def _tabular(request: dict[str, Any], reference: Any, window: Any) -> Any:
    from alibi_detect.cd import TabularDrift

    return TabularDrift(reference, categories_per_feature=_categories(request, reference, window))


def _categories(request: dict[str, Any], reference: Any, window: Any) -> dict[int, list[int]]:
    """Those of both sides: of those that alibi-detect finds in the reference alone it leaves out the others."""
    import numpy as np

    return {
        place: np.unique(np.concatenate([reference[:, place], window[:, place]])).astype(int).tolist()
        for place in request["categorical"]
    }


def _mmd(request: dict[str, Any], reference: Any, window: Any) -> Any:
    import torch  # noqa: F401 - says what is missing
    from alibi_detect.cd import MMDDrift

    return MMDDrift(reference, backend="pytorch", n_permutations=request["permutations"], device="cpu")


def _lsdd(request: dict[str, Any], reference: Any, window: Any) -> Any:
    import torch  # noqa: F401
    from alibi_detect.cd import LSDDDrift

    return LSDDDrift(reference, backend="pytorch", n_permutations=request["permutations"], device="cpu")


def _classifier(request: dict[str, Any], reference: Any, window: Any) -> Any:
    from alibi_detect.cd import ClassifierDrift
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=15, early_stopping=False, random_state=request["seed"]
    )
    # Judged on rows that the model was not fitted on: over folds the p-value would be too small.
    return ClassifierDrift(reference, model, backend="sklearn", train_size=0.5, seed=request["seed"])


def _spot_the_diff(request: dict[str, Any], reference: Any, window: Any) -> Any:
    import torch  # noqa: F401
    from alibi_detect.cd import SpotTheDiffDrift

    return SpotTheDiffDrift(
        reference, backend="pytorch", train_size=0.5, epochs=5, learning_rate=1e-2, batch_size=64,
        seed=request["seed"], verbose=0, device="cpu",
    )  # fmt: skip


_DETECTORS = {
    "ks": _ks,
    "cvm": _cvm,
    "chiSquare": _chi_square,
    "fet": _fet,
    "tabular": _tabular,
    "mmd": _mmd,
    "lsdd": _lsdd,
    "classifier": _classifier,
    "spotTheDiff": _spot_the_diff,
}

if __name__ == "__main__":
    main()
