"""Proposals of policies: written to a branch, trained there, and then shown to people."""

from __future__ import annotations

from mlops.applying.outcomes import Outcome
from mlops.applying.world import World
from mlops.errors import Stalled
from mlops.planning.plan import Step
from mlops.planning.work import ProposeChange


def propose(world: World, step: Step, work: ProposeChange) -> Outcome:
    """Write a proposal to its branch, or publish one that is trained."""
    raise Stalled("this version cannot write proposals", where=step.resource, fix="Change the YAML by hand")
