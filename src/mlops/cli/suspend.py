"""`mlops suspend` and `mlops resume`: an edit of `spec.suspend` in the working tree, for the next commit."""

from __future__ import annotations

import click

from mlops.cli.output import open_controller, say


@click.command()
@click.argument("what", metavar="KIND/NAME")
@click.pass_context
def suspend(ctx: click.Context, what: str) -> int:
    """Freeze a resource: it is observed and shown, never acted on. Commit the edit to make it count."""
    return _edit(ctx, what, suspended=True)


@click.command()
@click.argument("what", metavar="KIND/NAME")
@click.pass_context
def resume(ctx: click.Context, what: str) -> int:
    """Let a suspended resource go on. Commit the edit to make it count."""
    return _edit(ctx, what, suspended=False)


def _edit(ctx: click.Context, what: str, *, suspended: bool) -> int:
    from mlops.errors import MlopsError
    from mlops.resources import Key
    from mlops.source.editing import set_suspend

    key = Key.parse(what)
    controller = open_controller(ctx)
    loaded = controller.check()
    resource = loaded.resources.get(key)
    if resource is None:
        fix = "Mend its document first" if key in loaded.invalid else "See `mlops get`"
        raise MlopsError(f"{key} is not declared in the working tree, or is broken", fix=fix)
    if resource.spec.suspend == suspended:
        say(f"{key} is {'suspended' if suspended else 'not suspended'} already")
        return 0
    place = loaded.locations[key]
    set_suspend(controller.root / place.file, key.kind, key.name, suspended)
    say(f"{place.file}: {key} is {'suspended' if suspended else 'going on'}; commit it to make it count")
    return 0
