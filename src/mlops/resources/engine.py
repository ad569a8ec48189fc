"""What the result of reading a file depends on besides the file."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import pydantic

from mlops import __version__


@cache
def engine_version() -> str:
    """Changes with everything that could make the same bytes give another result.

    That is the version of the package and of pydantic, and the text of the modules here, so that an edited
    rule is never answered from what an older one left in a cache.
    """
    digest = hashlib.sha256(f"{__version__} {pydantic.VERSION}".encode())
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()[:16]
