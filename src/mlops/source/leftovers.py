"""What a git that was killed leaves in a bare repository of ours: locks, halves of packs, notes to itself."""

from __future__ import annotations

import shutil
from pathlib import Path

_LEFTOVERS = (  # folder, whether also below it, names
    (".", False, ("*.lock", "*.new", "gc.pid", "shallow_*")),
    ("refs", True, ("*.lock",)),
    ("objects", False, ("tmp_*",)),
    ("objects/info", True, ("*.lock", "tmp_*")),
    ("objects/pack", False, ("*.lock", "*.keep", "tmp_*", ".tmp-*")),
)


def clear_away(repository: Path) -> None:
    """Removes it all; nobody may be writing there.

    Args:
        repository: the folder of a bare repository.
    """
    for top, below, patterns in _LEFTOVERS:
        folder = repository / top
        for pattern in patterns:
            for path in folder.rglob(pattern) if below else folder.glob(pattern):
                remove(path)


def remove(path: Path) -> None:
    """Removes a file, a link, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
