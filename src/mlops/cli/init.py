"""`mlops init`."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import click

from mlops.cli.output import say
from mlops.errors import MlopsError


@click.command()
@click.argument("folder", required=False, default=".", type=click.Path(path_type=Path))
def init(folder: Path) -> int:
    """Make a working project in FOLDER (default: here), as a git repository with a first commit.

    A small model on real data: one experiment, two stages, the workflows. Nothing that exists is replaced.
    """
    from mlops.resources.schema import schema
    from mlops.source.git import NotARepository
    from mlops.source.initialise import commit_all, initialise
    from mlops.source.repository import Repository

    root = folder.absolute()
    template = files("mlops.cli").joinpath("template")
    manifest = json.loads(template.joinpath("files.json").read_text("utf-8"))
    written = {name: template.joinpath(source).read_bytes() for source, name in manifest["copy"].items()}
    written[manifest["schema"]] = (json.dumps(schema(None), indent=2) + "\n").encode()
    there = sorted({place for name in written if (place := _in_the_way(root, name)) is not None})
    if there:
        raise MlopsError(
            f"{there[0]} exists already" + (f", and {len(there) - 1} more" if len(there) > 1 else ""),
            where=str(root),
            fix="Nothing was written. Choose an empty folder: `mlops init DIR`",
        )
    for name, content in sorted(written.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    go = f"cd {folder} && " if folder != Path() else ""
    try:
        Repository.discover(root)
        say(
            f"{len(written)} files in {root}. It is part of a repository that was there: commit them yourself."
        )
        say(f"Next: {go}git add . && git commit, then mlops plan and mlops apply. README.md tells the rest.")
    except NotARepository:
        commit_all(initialise(root), "Declare a first model", [root / name for name in sorted(written)])
        say(f"{len(written)} files in {root}, committed to a new git repository.")
        say(f"Next: {go}mlops plan, then mlops apply. README.md tells the rest.")
    return 0


def _in_the_way(root: Path, name: str) -> str | None:
    """What keeps `name` from being written: it is there, or what should be a folder above it is none, or a link."""
    path = root / name
    if path.is_symlink() or path.exists():
        return name
    for above in path.relative_to(root).parents:
        folder = root / above
        if above != Path() and (folder.is_symlink() or (folder.exists() and not folder.is_dir())):
            return above.as_posix()
    return root.as_posix() if root.exists() and not root.is_dir() else None
