"""What git is given so that neither a repository nor its configuration can run a program or reach the network.

A repository is input, and so is its configuration. Every command therefore switches off hooks, fsmonitor,
submodules, transports, lazy fetches, pagers and replaced objects. What the environment of an enclosing hook says
about another repository is dropped. A command that is given a `Network` may use the one transport named there,
with the user's own settings for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

HARDENING = (
    *("-c", "protocol.allow=never"),
    *("-c", "protocol.ext.allow=never"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.pager=cat"),
    *("-c", "submodule.recurse=false"),
    *("-c", "diff.ignoreSubmodules=all"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "safe.bareRepository=all"),  # a mirror is one; what its configuration could run is off
)
"""Options that every git command gets."""
NO_PROMPT = ("-c", "core.askPass=")
"""Options of one that has no business with credentials."""
_FIXED = {
    "LC_ALL": "C",
    "LANGUAGE": "",
    "GIT_ALLOW_PROTOCOL": "",  # no transport at all, so a partial clone cannot fetch behind our back
    "GIT_GRAFT_FILE": os.devnull,
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
# Of the GIT_ variables only these pass: they are the user's own settings, not another command's repository.
_KEPT = re.compile(
    r"GIT_(CEILING_DIRECTORIES|DISCOVERY_ACROSS_FILESYSTEM|EXEC_PATH|TEST_ASSUME_DIFFERENT_OWNER"
    r"|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)|(AUTHOR|COMMITTER)_(NAME|EMAIL|DATE))"
)
# With a network these, too: the user's ssh, askpass program, certificates and proxy.
_KEPT_FOR_NETWORK = re.compile(
    r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|SSL_\w+|PROXY_SSL_\w+|HTTP_PROXY_AUTHMETHOD|HTTP_USER_AGENT)"
)


@dataclass(frozen=True, slots=True)
class Network:
    """What a command may reach: one transport, with the user's own settings for it.

    Attributes:
        protocol: git's name of the transport: `https`, `http`, `ssh` or `file`.
        environ: where the user's settings and credentials for git come from.
        configuration: settings of git and their values. They may hold a credential, so they are handed over
            in the environment and never as arguments.
    """

    protocol: str
    environ: Mapping[str, str] = field(repr=False)
    configuration: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def environment(extra: Mapping[str, str] | None = None, network: Network | None = None) -> dict[str, str]:
    """The environment that git gets: ours without what points at another repository or runs programs.

    Our own variables are left out, too: they hold tokens for others than git.
    """
    given = os.environ if network is None else network.environ
    kept = {name: value for name, value in given.items() if not name.startswith(("GIT_", "MLOPS_"))}
    for name in given.keys() - kept.keys():
        if _KEPT.fullmatch(name) or (network is not None and _KEPT_FOR_NETWORK.fullmatch(name)):
            kept[name] = given[name]
    # A relative entry would let a file called `git` in the repository be run.
    places = given.get("PATH", os.defpath).split(os.pathsep)
    kept["PATH"] = os.pathsep.join(place for place in places if place.startswith("/"))
    kept |= _FIXED
    if network is not None:
        kept |= {"GIT_ALLOW_PROTOCOL": network.protocol, "GCM_INTERACTIVE": "never"}
        count = kept.get("GIT_CONFIG_COUNT", "")
        begin = int(count) if count.isdecimal() else 0
        for at, (key, value) in enumerate(network.configuration, begin):
            kept |= {f"GIT_CONFIG_KEY_{at}": key, f"GIT_CONFIG_VALUE_{at}": value}
        kept["GIT_CONFIG_COUNT"] = str(begin + len(network.configuration))
    return {**kept, **(extra or {})}
