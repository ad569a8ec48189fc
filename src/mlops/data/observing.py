"""Datasets as they are: digest, size, and whether pin and expectations hold. Writes only the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mlops.data.batching import Held, ReadAhead
from mlops.data.delta import DeltaTableAt, observe_delta, version_in
from mlops.data.expectations import violations
from mlops.data.formats import format_of
from mlops.data.locating import Located, Tracked, locate
from mlops.data.members import Blob, FileSet, Hashed, digest_files
from mlops.data.profiles import (
    Profile,
    decode_profile,
    encode_profile,
    profile_delta,
    profile_files,
    profile_key,
    shape_files,
    shape_key,
)
from mlops.data.request import (
    Clock,
    DatasetRequest,
    DigestCache,
    Expectation,
    Format,
    Inside,
    Problem,
    printable,
)
from mlops.errors import MlopsError
from mlops.observation.observed import ObservedDataset


@dataclass(frozen=True, slots=True)
class Description:
    """A dataset's rows, columns (name → type), size in bytes, and the digest that they belong to."""

    rows: int
    columns: Mapping[str, str]
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Found:
    """A located dataset with its digest, and each file as it was hashed (of Delta tables: none).

    `settled`: no later change could look the same.
    """

    located: Located
    digest: str
    size: int
    settled: bool
    hashed: tuple[Hashed, ...] = ()

    @property
    def outside(self) -> bool:
        """Whether its bytes are not in the revision."""
        return self.located.outside


def observe(
    name: str,
    uri: str,
    format: Format | None,
    *,
    base: Path,
    version: int | None = None,
    pin: str | None = None,
    expect: Expectation | None = None,
    inside: Inside | None = None,
    cache: DigestCache,
    now: Clock,
) -> ObservedDataset:
    """Observe one dataset; `observe_all` says how."""
    request = DatasetRequest(name, uri, format, version, pin, expect)
    return observe_all([request], base=base, inside=inside, cache=cache, now=now)[name]


def observe_all(
    requests: Sequence[DatasetRequest], *, base: Path, inside: Inside | None, cache: DigestCache, now: Clock
) -> dict[str, ObservedDataset]:
    """Observe datasets: one look into the cache for all digests, one more if any has expectations.

    Args:
        requests: what is declared.
        base: the project root, which relative URIs may not leave.
        inside: the files that git tracks at the revision; None: nothing is.
        cache: of digests and profiles.
        now: seconds since the epoch.
    Returns:
        By name. A dataset that cannot be used has `reason` and `message` and no digest; none of them raises.
    """
    ahead = ReadAhead(inside) if inside is not None else None
    tracked = Tracked(ahead)
    located: dict[str, Located] = {}
    found: dict[str, Found] = {}
    profiles: dict[str, Profile] = {}
    failed: dict[str, Problem] = {}
    for request in requests:
        with _isolated(request, failed):
            located[request.name] = locate(request, base, tracked)
    known = cache.get_many(sorted({key for one in located.values() for key in _keys(one)}))
    if ahead is not None:
        ahead.prefetch(blob for one in located.values() for blob in _blobs(one) if blob.key not in known)
    with Held(cache) as held:
        for request in requests:
            if request.name not in located:
                continue
            with _isolated(request, failed):
                found[request.name], entries = _digest(located[request.name], known, now)
                known |= entries  # another dataset may hold the same content
                held.add(entries)
                _check_content(request, found[request.name])
        checked = [r for r in requests if r.expect is not None and r.name in found and r.name not in failed]
        known = cache.get_many(_profile_keys(checked, found)) if checked else {}
        if ahead is not None:
            ahead.prefetch(
                blob
                for request in checked
                if not set(_profile_keys([request], found)) & known.keys()
                for blob in _blobs(found[request.name].located)
            )
        for request in checked:
            with _isolated(request, failed):
                profiles[request.name], entries = _profile(request, found[request.name], known)
                known |= entries
                held.add(entries)
                _check_expectations(request, profiles[request.name])
    return {
        r.name: _observed(r, located.get(r.name), found.get(r.name), profiles.get(r.name), failed.get(r.name))
        for r in requests
    }


def find(
    request: DatasetRequest, *, base: Path, inside: Inside | None, cache: DigestCache, now: Clock
) -> Found:
    """Locate and digest one dataset and check its pin.

    Raises:
        Problem: why it cannot be used.
    """
    located = locate(request, base, Tracked(inside))
    found, entries = _digest(located, cache.get_many(_keys(located)), now)
    if entries:
        cache.put_many(entries)
    _check_content(request, found)
    return found


def describe(
    request: DatasetRequest, *, base: Path, inside: Inside | None, cache: DigestCache, now: Clock
) -> Description:
    """Read a dataset's rows and columns: of Parquet from its footers, of a Delta table from one column.

    Raises:
        Problem: why it cannot be used.
    """
    found = find(request, base=base, inside=inside, cache=cache, now=now)
    file_format = format_told(request, found)
    keys = [profile_key(found.digest, file_format), shape_key(found.digest, file_format)]
    known = cache.get_many(keys)
    shape = next((p for key in keys if (p := decode_profile(known.get(key))) is not None), None)
    if shape is None:
        shape = _read(found.located, file_format, full=False)
        if found.settled:
            cache.put_many({keys[1]: encode_profile(shape)})
    return Description(shape.rows, shape.types, found.size, found.digest)


def profile(
    request: DatasetRequest, *, base: Path, inside: Inside | None, cache: DigestCache, now: Clock
) -> Profile:
    """Read all of a dataset once: rows, and of each column the type, the missing values and the extremes.

    Raises:
        Problem: why it cannot be used.
    """
    found = find(request, base=base, inside=inside, cache=cache, now=now)
    known = cache.get_many([profile_key(found.digest, format_told(request, found))])
    read, entries = _profile(request, found, known)
    if entries:
        cache.put_many(entries)
    return read


def as_of(request: DatasetRequest, digest: str) -> DatasetRequest:
    """`request` for what had this digest: of a Delta table the version that it names, though the table went on."""
    if digest.startswith("delta:") and request.version is None:
        return replace(request, version=version_in(digest))
    return request


@contextmanager
def _isolated(request: DatasetRequest, failed: dict[str, Problem]) -> Iterator[None]:
    """One bad dataset fails by itself, whatever it does to the library that reads it."""
    try:
        yield
    except Problem as problem:
        failed[request.name] = problem
    except MlopsError as error:  # from whoever reads the revision; it already says what and what to do
        failed[request.name] = Problem("Unreadable", f"{request.display}: {error.what}", fix=error.fix)
    except Exception as error:
        what = f"{request.display} cannot be read ({type(error).__name__})"
        failed[request.name] = Problem("Unreadable", what, fix="Check the data, spec.uri and spec.format.")


def _keys(located: Located) -> list[str]:
    if isinstance(located, DeltaTableAt):
        return [located.key] if located.key is not None else []
    return [member.key for member in located.members if member.key is not None]


def _blobs(located: Located) -> list[Blob]:
    """The members that git holds."""
    members = located.members if isinstance(located, FileSet) else located.blobs
    return [member for member in members if isinstance(member, Blob)]


def _digest(located: Located, known: Mapping[str, bytes], now: Clock) -> tuple[Found, Mapping[str, bytes]]:
    if isinstance(located, DeltaTableAt):
        state = observe_delta(located, known, now)
        entries = {located.key: state.entry} if located.key is not None and state.entry is not None else {}
        return Found(located, state.digest, state.size, True), entries
    done = digest_files(located, known, now)
    return Found(done.files, done.digest, done.files.size, done.settled, done.hashed), done.entries


def _check_content(request: DatasetRequest, found: Found) -> None:
    pin = request.pin
    if pin is not None and pin.strip().lower() != found.digest.lower():
        raise Problem(
            "DigestMismatch",
            f"{request.display} is pinned to {printable(pin)}, but its content is {found.digest}",
            fix=f"Restore the pinned content, or accept this one: set spec.digest to {found.digest}.",
        )
    if isinstance(found.located, FileSet) and found.size == 0 and format_of(found.located, request.format):
        raise Problem("Unreadable", f"{request.display} is empty", fix="Write the data, or mend spec.uri.")


def format_told(request: DatasetRequest, found: Found) -> Format:
    """The format of a found dataset's rows; raises Problem where neither declaration nor names tell it."""
    if isinstance(found.located, DeltaTableAt):
        return "delta"
    told = format_of(found.located, request.format)
    if told is None:
        fix = "Set spec.format to csv, parquet or delta, or leave spec.expect out."
        raise Problem("Unreadable", f"{request.display}: the format of its rows is not known", fix=fix)
    return told


def _profile_keys(requests: Sequence[DatasetRequest], found: Mapping[str, Found]) -> list[str]:
    keys = []
    for request in requests:
        one = found[request.name]
        told: Format | None = "delta"
        if isinstance(one.located, FileSet):
            told = format_of(one.located, request.format)
        if told is not None:
            keys.append(profile_key(one.digest, told))
    return keys


def _profile(
    request: DatasetRequest, found: Found, known: Mapping[str, bytes]
) -> tuple[Profile, Mapping[str, bytes]]:
    file_format = format_told(request, found)
    key = profile_key(found.digest, file_format)
    remembered = decode_profile(known.get(key))
    if remembered is not None:
        return remembered, {}
    read = _read(found.located, file_format, full=True)
    return read, {key: encode_profile(read)} if found.settled else {}


def _read(located: Located, file_format: Format, *, full: bool) -> Profile:
    if isinstance(located, DeltaTableAt):
        return profile_delta(located, full=full)
    return profile_files(located, file_format) if full else shape_files(located, file_format)


def _check_expectations(request: DatasetRequest, read: Profile) -> None:
    broken = violations(request.expect, read) if request.expect is not None else []
    if broken:
        raise Problem(
            "ExpectationFailed",
            f"{request.display} does not hold what it is expected to: {'; '.join(broken)}",
            fix="Mend the data, or spec.expect.",
        )


def _observed(
    request: DatasetRequest,
    located: Located | None,
    found: Found | None,
    read: Profile | None,
    problem: Problem | None,
) -> ObservedDataset:
    return ObservedDataset(
        request.name,
        request.shown if request.shown is not None else request.uri,
        found.digest if found is not None and problem is None else None,
        outside=located is None or located.outside,
        pinned=request.pin is not None or request.version is not None,
        size=found.size if found is not None else None,
        rows=read.rows if read is not None else None,
        columns=read.types if read is not None else None,
        reason=problem.reason if problem is not None else None,
        message=str(problem) if problem is not None else None,
    )
