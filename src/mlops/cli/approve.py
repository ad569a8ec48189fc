"""`mlops approve`: a signed tag that says that this version, with these bytes, may go where it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlops.cli.output import open_controller, say

if TYPE_CHECKING:
    from mlops.approvals import Asked
    from mlops.view import View


@click.command()
@click.argument("promotion", metavar="PROMOTION")
@click.option("--revision", metavar="REV", help="The revision that asks for it. Default: HEAD.")
@click.pass_context
def approve(ctx: click.Context, promotion: str, revision: str | None) -> int:
    """Approve what PROMOTION asks for: writes a tag signed with git's `user.signingKey`.

    The tag names the promotion, the version and the digest of the model, so it is worth nothing for any other. One
    that would not count, because its key is unknown or its owner wrote the change, is not written, and it is said why.
    """
    from mlops.approvals.tags import message, tag_name
    from mlops.errors import MlopsError
    from mlops.source.tagging import delete, setting, sign

    controller = open_controller(ctx)
    view = controller.look(revision)
    asked = _asked(view, promotion.removeprefix("Promotion/"))
    if asked is None:
        return 0
    if asked.digest is None:
        raise MlopsError(
            f"ModelVersion/{asked.model_version} is not bound yet, so there are no bytes to approve",
            fix="`mlops apply` trains and binds it; then approve.",
        )
    decision = controller.decision(view, asked)
    who = (setting(controller.repository, "user.email") or "unknown").lower()
    mine = [one for one in decision.approvals if one.who == who]
    if decision.approved or mine:
        say(f"{asked.promotion} {asked.version}: {decision.message}")
        return 0
    name = tag_name(asked.promotion, asked.version, who)
    oid = sign(
        controller.repository,
        name,
        view.snapshot.revision,
        message(asked.promotion, asked.version, asked.digest),
    )
    after = controller.decision(view, asked)
    if not any(one.reference == name for one in after.approvals):
        delete(controller.repository, name, oid)
        why = next((text for text in after.refused if text.startswith(name)), "it was not found again")
        why = why.partition("does not count: ")[2] or why
        raise MlopsError(
            f"this approval would not count: {why}",
            where=f"Promotion/{asked.promotion}",
            fix=f"Nothing was written. {asked.required} of {', '.join(asked.groups)} who did not write it have to.",
        )
    say(f"Signed {name}: {asked.version} with {asked.digest[:19]}… may go to {asked.stage}.")
    missing = asked.required - len(after.approvals)
    if missing > 0:
        say(f"{missing} more of {', '.join(asked.groups)} have to.")
    say(f"It counts where it is: git push origin {name}")
    return 0


def _asked(view: View, promotion: str) -> Asked | None:
    """What the promotion needs approvals for; None, with a word, where it needs none."""
    from mlops.errors import MlopsError
    from mlops.resources import Key

    key = Key("Promotion", promotion)
    for asked in view.planned.asking:
        if asked.promotion == promotion:
            return asked
    if key not in view.desired.resources:
        known = ", ".join(sorted(one.name for one in view.desired.resources if one.kind == "Promotion")[:8])
        raise MlopsError(f"there is no {key} at this revision", fix=f"There are: {known or 'none'}.")
    status = view.planned.assessments[key].status
    say(f"{key} {status.get('version', '')} needs no approval: it is in its stage, or nobody is asked.")
    return None
