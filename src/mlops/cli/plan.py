"""`mlops plan`."""

from __future__ import annotations

from pathlib import Path

import click

from mlops.cli.output import (
    open_controller,
    output_option,
    print_json,
    print_lines,
    print_problems,
    print_yaml,
    revision_options,
    say,
)


@click.command()
@revision_options
@click.option("--base", metavar="REV", help="Plan against this revision instead of the one in force.")
@click.option("--out", type=click.Path(path_type=Path), help="Save the plan for `mlops apply FILE`.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 when there are changes.")
@click.option(
    "--comment",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Keep the plan as one comment on this pull request of GITHUB_REPOSITORY, or of the Project's forge.",
)
@output_option("json", "yaml", "markdown")
@click.pass_context
def plan(
    ctx: click.Context,
    revision: str | None,
    working_tree: bool,
    base: str | None,
    out: Path | None,
    detailed_exitcode: bool,
    comment: int | None,
    output: str | None,
) -> int:
    """Show what would change and why, gates and approvals included; writes nothing, runs nothing.

    Exit codes: 0 whatever the plan says; 1 documents are broken (the rest is planned all the same); with
    --detailed-exitcode, 2 when there are changes.
    """
    from mlops.cli.plan_markdown import of_view
    from mlops.cli.plan_text import lines
    from mlops.cli.saved_plan import save
    from mlops.forges import forge_here
    from mlops.planning.context import Options

    controller = open_controller(ctx)
    against = controller.repository.resolve(base).sha if base is not None else None
    view = controller.look(revision, working_tree=working_tree, options=Options(base=against))
    broken = print_problems(view.loaded.problems)
    made = view.planned.plan
    if output == "json":
        print_json(made.to_json())
    elif output == "yaml":
        print_yaml(made.to_json())
    elif output == "markdown":
        print(of_view(view, problems=view.loaded.problems), end="")
    else:
        print_lines(lines(made, dirty=view.desired.dirty))
    if comment is not None:
        text = of_view(view, problems=view.loaded.problems)
        controller.forge_of(forge_here(view.project.spec.forge, controller.environ)).comment(
            comment, f"plan {view.project.metadata.name}", text
        )
        say(f"the plan is a comment on pull request #{comment}")
    if out is not None:
        save(out, made, working_tree=working_tree)
        say(f"saved to {out}; `mlops apply {out}` does exactly this, or refuses if anything moved")
    if broken:
        return 1
    return 2 if detailed_exitcode and made.steps else 0
