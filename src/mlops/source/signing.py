"""How git is told to sign: with which format, and only with the programs that are known for it.

The configuration of a repository is input: it could name any program as the one that signs.
"""

from __future__ import annotations

import re

_SSH = re.compile(r"key::|ssh-|~|.*(/|\.pub$)")


def signing_with(key: str) -> tuple[str, ...]:
    """Options of git that let `--gpg-sign` sign with a key.

    Args:
        key: as `user.signingKey` takes it: the path of an SSH key or its public text, which an agent holds, or the
            name of a GPG key.
    """
    form = "ssh" if _SSH.match(key) else "openpgp"
    programs = ("gpg.program=gpg", "gpg.openpgp.program=gpg", "gpg.ssh.program=ssh-keygen")
    settings = (f"gpg.format={form}", *programs, "gpg.ssh.defaultKeyCommand=")
    return tuple(word for setting in settings for word in ("-c", setting))
