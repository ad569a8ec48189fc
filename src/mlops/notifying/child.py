"""The child that sends one message: run by path with `python -I`, told everything on standard input.

It answers with one line of JSON of its own making (`{"result": …, "status": HTTP status or null}`); what Apprise and
its services print or log is dropped, because it may quote URLs, and URLs hold secrets. It imports nothing of this
package: a start costs what Apprise costs. It ends by itself when its time is over, also when its parent was killed.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import resource
import signal
import sys
from typing import Any

_MEMORY = 2 * 2**30  # bytes of address space: an endless answer ends here, not in the machine's memory
_KINDS = {"info": "info", "warning": "warning", "critical": "failure"}


def main() -> None:
    """Read the order, send, answer."""
    answer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    order = json.load(sys.stdin.buffer)
    signal.alarm(int(order["timeout"]) + 2)  # the default action ends the process
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    result, status = _send(order)
    os.write(answer, json.dumps({"result": result, "status": status}).encode() + b"\n")
    os._exit(0)  # a service's lingering thread keeps nobody waiting


def _send(order: dict[str, Any]) -> tuple[str, int | None]:
    try:
        import apprise  # type: ignore[import-untyped,unused-ignore]
        from apprise.attachment.memory import AttachMemory
        from requests.adapters import HTTPAdapter
        from requests.exceptions import ConnectionError, RequestException, Timeout
    except ImportError:
        return "not installed", None
    logging.disable(logging.CRITICAL)
    url = order["url"]
    scheme = url.partition("://")[0].lower()
    services = apprise.manager_plugins.NotificationManager()
    if scheme not in services and scheme not in ("http", "https"):  # some services know their web addresses
        return "no such scheme", None
    # Nothing is kept on disk, and no plugin of the machine's is loaded.
    asset = apprise.AppriseAsset(storage_mode="memory", async_mode=False, plugin_paths=[], app_id="mlops")
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        usable = scheme not in services or services[scheme].enabled
        return ("bad URL" if usable else "service not installed"), None

    seen: list[tuple[str, int | None]] = []
    plain = HTTPAdapter.send

    def observed(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            response = plain(self, request, *args, **kwargs)
        except Timeout:
            seen.append(("timeout", None))
            raise
        except ConnectionError:
            seen.append(("unreachable", None))
            raise
        except RequestException:
            seen.append(("failed", None))
            raise
        if response.is_redirect and request.method != "GET":
            # Followed, it would lose the message (a POST becomes a GET), or take it and its tokens elsewhere.
            del response.headers["Location"]
            seen.append(("refused", response.status_code))
        elif response.status_code >= 400:
            seen.append(("refused", response.status_code))
        return response

    # Apprise says only whether it went well; why not is seen where every HTTP request passes.
    HTTPAdapter.send = observed  # type: ignore[method-assign]
    files = [
        AttachMemory(base64.b64decode(text), name=name, mimetype=mime)
        for name, mime, text in order["attachments"]
    ]
    services_told = apprise.Apprise(asset=asset)  # which turns plain text into what a service reads
    services_told.add(service)
    sent = services_told.notify(
        body=_encodable(order["body"]),
        title=_encodable(order["title"]),
        notify_type=_KINDS[order["severity"]],
        body_format="text",
        attach=apprise.AppriseAttachment(files, asset=asset) if files else None,
    )
    if sent:
        return "sent", None
    return seen[-1] if seen else ("failed", None)


def _encodable(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


if __name__ == "__main__":
    main()
