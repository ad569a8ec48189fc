"""JSON over HTTP with one host: bounded in size and time, its answers remembered with their ETags.

The token goes to the host that this client was made for and nowhere else: no redirect is followed, no link
that leaves the API is, and plain http is spoken with this machine alone. Reading is tried again after a fault
of the network; writing never is, as nobody knows whether it was done.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlencode, urlsplit

from mlops import __version__
from mlops.errors import MlopsError
from mlops.forges.forge import Answers, ForgeRefused, ForgeUnavailable
from mlops.redaction import Redactor

if TYPE_CHECKING:
    import requests

PAGE: Final = 100  # rows of a page, the most that GitHub gives
MOST_PAGES: Final = 30
MOST_BYTES: Final = 16 * 2**20  # of one answer: a hundred pull requests with the longest bodies
_TIMEOUT: Final = (10.0, 20.0)  # seconds to connect, and between two bytes
_DEADLINE: Final = 60.0  # seconds for a whole answer, however it drips
_PAUSES: Final = (0.5, 2.0)  # seconds before reading is tried again
_LONGEST_REST: Final = 3600.0  # seconds; GitHub's limits renew each hour
_BROKEN: Final = frozenset((500, 502, 503, 504))

Method = Literal["GET", "POST", "PATCH"]
Narrow = Callable[[Any], Any]


@dataclass(slots=True)
class Client:
    """One API.

    Attributes:
        base: the API's address without a slash at its end; every path is added to it.
        authorization: the header that carries the token; None without one.
        variable: the environment's name of that token, for error messages.
        rights: what the token has to be allowed, for error messages.
        now: seconds since 1970.
        headers, query: go with every request.
    """

    base: str
    authorization: str | None = field(repr=False)
    variable: str
    rights: str
    answers: Answers
    redactor: Redactor
    now: Callable[[], float]
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    sleep: Callable[[float], None] = time.sleep
    timeout: tuple[float, float] = _TIMEOUT
    deadline: float = _DEADLINE
    _session: requests.Session | None = field(default=None, repr=False)
    _rests_until: float | None = None

    def get(self, path: str, narrow: Narrow, **query: str | int) -> Any:
        """What stands at `path`, as `narrow` leaves it; from memory where the forge says it is unchanged.

        Raises:
            ForgeUnavailable, ForgeRefused: it was not to be had.
        """
        return self._page(self._url(path, query), narrow)[0]

    def pages(self, path: str, narrow: Narrow, **query: str | int) -> Iterator[Any]:
        """The rows of a list, page after page, each as `narrow` leaves it.

        Raises:
            ForgeUnavailable: as in `get`.
            ForgeRefused: as in `get`, or the list has more than `MOST_PAGES` pages: a part of it tells nothing.
        """

        def rows(found: Any) -> list[Any]:
            if not isinstance(found, list):
                raise ValueError("not a list")
            return [narrow(row) for row in found]

        url = self._url(path, {"per_page": PAGE, **query})
        for _ in range(MOST_PAGES):
            found, onward = self._page(url, rows)
            yield from found
            if onward is None:
                return
            url = onward
        raise ForgeRefused(f"this list has more than {MOST_PAGES * PAGE:,} rows", where=self.base + path)

    def send(self, method: Method, path: str, body: Any, narrow: Narrow, *, safe: bool = False) -> Any:
        """Write something; what the forge says of it. `safe`: it only asks, and may be repeated."""
        url = self._url(path, {})
        answer = self._ask(method, url, body, safe=safe)
        return self._read(answer.text, narrow, url)

    def redact(self, text: str) -> str:
        """`text` as others may see it."""
        return self.redactor.redact(text)

    def _url(self, path: str, query: Mapping[str, str | int]) -> str:
        asked = {**self.query, **query}
        return f"{self.base}{path}?{urlencode(asked)}" if asked else self.base + path

    def _page(self, url: str, narrow: Narrow) -> tuple[Any, str | None]:
        kept = self._kept(url)
        answer = self._ask("GET", url, None, safe=True, etag=kept["etag"] if kept else None)
        if answer.status == 304 and kept is not None:
            return kept["body"], kept["next"]
        body = self._read(answer.text, narrow, url)
        onward = self._next(answer.link, url)
        if answer.etag:
            self._keep(url, {"etag": answer.etag, "body": body, "next": onward})
        return body, onward

    def remembered(self, key: str) -> Any:
        """What `remember` kept under `key`, None where it is forgotten."""
        data = self.answers.get(f"{self.base} {key}")
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            return None  # damaged: asked again

    def remember(self, key: str, value: Any) -> None:
        """Keep what never changes; nothing that holds a secret is kept."""
        text = json.dumps(value)
        if self.redact(text) == text:
            self.answers.put(f"{self.base} {key}", text.encode())

    def _kept(self, url: str) -> Any:
        kept = self.remembered(url.removeprefix(self.base))
        if not isinstance(kept, dict) or kept.keys() != {"etag", "body", "next"}:
            return None
        onward = kept["next"]
        return kept if onward is None or str(onward).startswith(f"{self.base}/") else None

    def _keep(self, url: str, entry: Any) -> None:
        self.remember(url.removeprefix(self.base), entry)

    def _next(self, link: str, url: str) -> str | None:
        """Where the next page is; only ever in this API."""
        found = re.search(r'<([^<>]{1,4000})>; *rel="next"', link)
        if found is None:
            return None
        if not found[1].startswith(f"{self.base}/"):
            raise ForgeRefused("the next page of this list is on another host", where=_shown(url))
        return found[1]

    def _read(self, text: bytes, narrow: Narrow, url: str) -> Any:
        try:
            return narrow(json.loads(text))
        except (ValueError, TypeError, KeyError, RecursionError):
            # Not what it said: it may be anything.
            raise ForgeUnavailable(
                "the forge answered something else than its API promises",
                where=_shown(url),
                fix="See that `url` in Project.spec.forge is its API, and what stands between it and here.",
            ) from None

    def _ask(self, method: Method, url: str, body: Any, *, safe: bool, etag: str | None = None) -> _Answer:
        if self._rests_until is not None and self.now() < self._rests_until:
            raise self._resting(url, self._rests_until)
        pauses = list(_PAUSES) if safe else []
        while True:
            try:
                answer = self._once(method, url, body, etag)
            except ForgeUnavailable:
                if not pauses:
                    raise
            else:
                if answer.status not in _BROKEN or answer.retry_after or not pauses:
                    self._judge(answer, method, url)
                    return answer
            self.sleep(pauses.pop(0))

    def _once(self, method: Method, url: str, body: Any, etag: str | None) -> _Answer:
        import requests

        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        headers |= {"User-Agent": f"mlops/{__version__}", **self.headers}
        if etag is not None:
            headers["If-None-Match"] = etag
        started = time.monotonic()
        try:
            with self._opened().request(
                method,
                url,
                json=body,
                headers=headers,
                timeout=self.timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                said = bytearray()
                for chunk in response.iter_content(65_536):
                    said += chunk
                    if len(said) > MOST_BYTES:
                        raise ForgeUnavailable(
                            f"an answer has more than {MOST_BYTES:,} bytes", where=_shown(url)
                        )
                    if time.monotonic() - started > self.deadline:
                        raise ForgeUnavailable("an answer takes too long", where=_shown(url))
                return _Answer(response.status_code, dict(_lower(response.headers)), bytes(said))
        except requests.RequestException as error:
            reason = type(error).__name__  # its text may repeat what was sent
            raise ForgeUnavailable(
                f"the forge does not answer ({reason})",
                where=_shown(url),
                fix="It is tried again; see that the host can be reached from here.",
            ) from None

    def _opened(self) -> requests.Session:
        if self._session is None:
            import requests

            self._session = requests.Session()
            # This machine needs no proxy; and with `auth` set no .netrc is looked at.
            self._session.trust_env = urlsplit(self.base).scheme == "https"
            self._session.auth = self._authorize
        return self._session

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.authorization is not None:
            request.headers["Authorization"] = self.authorization
        return request

    def _judge(self, answer: _Answer, method: Method, url: str) -> None:
        """Raises what an answer means that is not what was asked for."""
        status = answer.status
        if status in (200, 201, 304):
            return
        limited = status in (403, 429) and (
            answer.retry_after is not None or answer.remaining == "0" or status == 429
        )
        if limited or (status in _BROKEN and answer.retry_after is not None):
            self._rests_until = self._renewal(answer)
            raise self._resting(url, self._rests_until)
        raise self._refusal(answer, method, url)

    def _renewal(self, answer: _Answer) -> float:
        """When it may be asked again, within the hour in which limits renew; a minute where it does not say."""
        now = self.now()
        after = _seconds(answer.retry_after)
        reset = _seconds(answer.headers.get("x-ratelimit-reset")) if answer.remaining == "0" else None
        at = now + after if after is not None else reset if reset is not None else now + 60.0
        return min(max(at, now + 1.0), now + _LONGEST_REST)

    def _resting(self, url: str, until: float) -> ForgeUnavailable:
        return ForgeUnavailable(
            f"the forge takes no more requests for {max(1, round(until - self.now()))}s",
            where=_shown(url),
            fix="Its limit of requests is used up; it is asked again then.",
            retry_at=until,
        )

    def _refusal(self, answer: _Answer, method: Method, url: str) -> MlopsError:
        status = answer.status
        said = f": {self.redact(message)}" if (message := _message(answer.text)) else ""
        where = f"{method} {_shown(url)}"
        if status in _BROKEN or status in (408, 409):
            return ForgeUnavailable(
                f"the forge failed with status {status}{said}", where=where, fix="It is tried again."
            )
        if 300 <= status < 400 or status == 203:
            what = f"the forge sends this elsewhere (status {status}), and a token is not taken there"
            fix = (
                f"See that Project.spec.forge names the repository as it is called now, and {self.variable}."
            )
            return ForgeRefused(what, where=where, fix=fix, status=status)
        if status in (401, 403, 404):
            what = f"the forge does not show this, or does not let it be done (status {status}){said}"
            have = "See that the token in" if self.authorization else "Set"
            fix = f"{have} {self.variable} {'may' if self.authorization else 'to a token that may'} {self.rights}."
            return ForgeRefused(what, where=where, fix=fix, status=status)
        return ForgeRefused(
            f"the forge refuses this (status {status}){said}",
            where=where,
            fix="See what it says, and what Project.spec.forge names.",
            status=status,
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    text: bytes

    @property
    def etag(self) -> str | None:
        etag = self.headers.get("etag", "")
        return etag if 0 < len(etag) <= 200 and etag.isprintable() else None

    @property
    def link(self) -> str:
        return self.headers.get("link", "")

    @property
    def remaining(self) -> str | None:
        return self.headers.get("x-ratelimit-remaining")

    @property
    def retry_after(self) -> str | None:
        return self.headers.get("retry-after")


def _lower(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((name.lower(), value) for name, value in headers.items())


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and re.fullmatch(r"[0-9]{1,12}", header) else None


def _message(text: bytes) -> str:
    """What the forge says went wrong, on one line and short."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(said, dict):
        return ""
    parts = [said.get("message")]
    errors = said.get("errors")
    for error in errors[:3] if isinstance(errors, list) else ():
        parts.append(error.get("message") if isinstance(error, dict) else error)
    line = "; ".join(part for part in parts if isinstance(part, str))
    return "".join(char if char.isprintable() else " " for char in line)[:300]


def _shown(url: str) -> str:
    return url.partition("?")[0][:300]
