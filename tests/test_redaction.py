"""No secret leaves, in whatever form and however it is cut; and what is no secret stays readable."""

from __future__ import annotations

import base64
import html
import io
import json
import pickle
import random
import re
import shlex
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.redaction import Redactor

SECRET = "p&ss w/rd+\"quo'ted\\=ü~"
NOTHING = Redactor()


def streamed(redactor: Redactor, data: bytes, cuts: Iterator[int]) -> bytes:
    """`data` through a stream, in chunks of the given sizes."""
    redacting, out, at = redactor.stream(), [], 0
    while at < len(data):
        size = next(cuts)
        out.append(redacting.feed(data[at : at + size]))
        at += size
    return b"".join([*out, redacting.flush()])


@pytest.mark.parametrize(
    "form",
    [
        str,
        quote,
        quote_plus,
        lambda s: quote(s, safe=""),
        lambda s: re.sub("%..", lambda m: m[0].lower(), quote(s, safe="")),
        lambda s: quote(quote(s, safe=""), safe=""),
        json.dumps,
        lambda s: json.dumps(s, ensure_ascii=False),
        lambda s: json.dumps(json.dumps(s)),
        repr,
        lambda s: repr(s.encode()),
        html.escape,
        shlex.quote,
        lambda s: base64.b64encode(s.encode()).decode(),
        lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    ],
)
@pytest.mark.parametrize("secret", [SECRET, "plain0SECRET", "the tail\\", "a'b'c'd", "~~~???>>>"])
def test_a_value_is_masked_in_every_form(form: Callable[[str], str], secret: str) -> None:
    written = form(secret)
    clean = Redactor([secret]).redact(f"before {written} after")
    left = clean.removeprefix("before ").removesuffix(" after")
    assert left.strip("b\"'\\") == "***"


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", "!", "!!", ":more"])
def test_a_value_inside_of_base64_is_masked_at_any_alignment(before: str, after: str) -> None:
    written = base64.b64encode(f"{before}{SECRET}{after}".encode()).decode()
    clean = Redactor([SECRET]).redact(f"Basic {written} sent")
    head, mask, tail = clean.partition("***")
    assert mask
    # No more than the neighbours, and some bits of the outermost byte.
    assert len(head) - len("Basic ") <= len(before) * 8 // 6 + 1
    assert len(tail) - len(" sent") <= len(after) * 8 // 6 + 3


def test_what_is_no_secret_stays_as_it_is() -> None:
    redactor = Redactor.from_environ(
        {
            "HOME": "/home/ada", "PATH": "/usr/bin:/bin", "AWS_REGION": "eu-west-1", "AWS_PROFILE": "ada-dev",
            "SSH_KEY_PATH": "/home/ada/.ssh/id", "PWD": "/work/project", "KEYBOARD_LAYOUT": "german",
            "API_TOKEN": "", "SOME_KEY": "default",
        }
    )  # fmt: skip
    text = """
    /home/ada /usr/bin:/bin eu-west-1 ada-dev /home/ada/.ssh/id PWD=/work/project german default
    https://example.com/a@b?x=1#y file:///a/b git@github.com:acme/models.git alice@example.com sqlite:///.mlops/x.db
    token: 5  pad_token=<pad>  num_tokens=512  monkey=1  the password is wrong  authorization failed  sk-learn
    Bearer of news  basic configuration  eyJ  AKIA  -----BEGIN CERTIFICATE-----MIIB-----END CERTIFICATE-----
    rmse=0.5  3 steps: + Experiment/bikes-gbt  train  "key": "value"  sha256:0123456789abcdef0123456789abcdef
    """
    assert redactor.redact(text) is text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://u:hunter22@h:5432/d", "postgresql://***@h:5432/d"),
        ("https://tokenvalue@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("clone 'https://x:p@ss@h/r' failed", "clone 'https://***@h/r' failed"),
        ("a://u:pw1@h,b://u:pw2@h", "a://***@h,b://***@h"),
        ("Authorization: Bearer hunter22", "Authorization: ***"),
        ("{'Authorization': 'Basic aHVudGVyMjI='}", "{'Authorization': '***'}"),
        ('{"authorization": "token hunter22", "x": 1}', '{"authorization": "***", "x": 1}'),
        ("[(b'Authorization', b'Bearer hunter22')]", "[(b'Authorization', b'***')]"),
        ("proxy-authorization=hunter22", "proxy-authorization=***"),
        ("sent bearer hunter22hunter22hunter22, got 401", "sent bearer ***, got 401"),
        ("https://a.blob.core/x?sv=2020&sig=hunt%2Ber22&se=1", "https://a.blob.core/x?sv=2020&sig=***&se=1"),
        ("?X-Amz-Credential=hunter22&X-Amz-Signature=hunter22", "?X-Amz-Credential=***&X-Amz-Signature=***"),
        ("?access_token=hunter22 client_secret=hunter22", "?access_token=*** client_secret=***"),
        ('{"password": "hunter22"}', '{"password": "***"}'),
        ('{\\"api_key\\": \\"hunter22\\"}', '{\\"api_key\\": \\"***\\"}'),
        ("AccountName=a;AccountKey=hunter22==;Endpoint=b", "AccountName=a;AccountKey=***;Endpoint=b"),
        ("Server=s;Uid=u;Pwd=hunter22;", "Server=s;Uid=u;Pwd=***;"),
        ("ghp_" + "a1B2" * 9, "***"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key ***."),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK done", "*** done"),
        (
            "a -----BEGIN RSA PRIVATE KEY-----\nMIIE\nhunter22==\n-----END RSA PRIVATE KEY----- b",
            "a -----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY----- b",
        ),
        (
            "x -----BEGIN PRIVATE KEY-----\\nMIIEhunter22\\n -- cut off",
            "x -----BEGIN PRIVATE KEY-----***-- cut off",
        ),
    ],
)  # fmt: skip
def test_a_secret_is_known_by_its_surroundings(text: str, clean: str) -> None:
    assert NOTHING.redact(text) == clean
    assert NOTHING.redact(clean) == clean
    data = text.encode()
    assert streamed(NOTHING, data, iter(lambda: 1, 0)) == clean.encode()
    assert streamed(NOTHING, data + b"\n" + data, iter(lambda: 3, 0)) == f"{clean}\n{clean}".encode()


@pytest.mark.parametrize(
    "name",
    [
        "API_TOKEN", "db_password", "CLIENT_SECRET", "MY_KEY", "GOOGLE_CREDENTIALS", "AWS_SESSION_TOKEN",
        "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING", "PGPASSWORD", "TEAM_WEBHOOK",
        "SENTRY_DSN", "DATABASE_URL", "MLFLOW_TRACKING_TOKEN", "AZURE_CLIENT_ID",
    ],
)  # fmt: skip
def test_a_variable_whose_name_says_secret_is_masked(name: str) -> None:
    assert Redactor.from_environ({name: "hunter22x"}).redact("it is hunter22x.") == "it is ***."


def test_a_variable_that_the_project_names_is_masked_whatever_it_is() -> None:
    environ = {
        "MLFLOW_TRACKING_URI": "http://mlflow.internal:5000",
        "AWS_PROFILE": "research",
        "STAGE": "dev",
    }
    redactor = Redactor.from_environ(environ, ["MLFLOW_TRACKING_URI", "AWS_PROFILE", "STAGE", "ABSENT"])
    assert redactor.redact("at http://mlflow.internal:5000/x with research") == "at ***/x with ***"
    assert redactor.redact("develop in dev") == "develop in dev"  # too short to be told from the rest
    assert redactor.too_short == ("STAGE",)


@pytest.mark.parametrize(
    ("value", "leaks"),
    [
        ("postgresql://u:hunt%40er22@h/d", ["hunt%40er22", "hunt@er22"]),
        ("https://hooks.example.com/services/T0/hunter22hunter22hunter22", ["hunter22hunter22hunter22"]),
        ("https://a.example.com/x?sig=hunter22", ["hunter22"]),
        ("AccountName=a;AccountKey=hunter22==;Endpoint=b", ["hunter22=="]),
        (json.dumps({"type": "service", "private_key": "line one of hunter22\nand hunter22 again"}),
         ["line one of hunter22", "and hunter22 again"]),
        ("line one of hunter22\r\nand hunter22 again\n", ["line one of hunter22", "and hunter22 again"]),
        ("hunter22\n", ["hunter22"]),
        ('{"not": "json', ['{"not": "json']),
        ("http://[hunter22", ["http://[hunter22"]),
        ("[" * 60_000, ["[" * 60_000]),
    ],
)  # fmt: skip
def test_the_secret_part_of_a_value_is_masked_alone(value: str, leaks: list[str]) -> None:
    redactor = Redactor.from_environ({"TEAM_TOKEN": value})
    for leak in leaks:
        assert leak not in redactor.redact(f"because of {leak}!")


def test_masks_of_overlapping_values_leave_no_rest() -> None:
    redactor = Redactor(["abcdefgh", "efghijkl", "abcdefghijklmnop"])
    assert redactor.redact("abcdefghijkl abcdefghijklmnop efghijkl") == "*** *** ***"


def test_odd_values_and_texts_do_no_harm() -> None:
    long = "".join(str(number) for number in range(50_000))
    redactor = Redactor(["", " ", "\n", "a", "******", "\udcff\udcfe secret", "(a+)+$b", long])
    for text in ("", "a", "***", "\ud800", "\0" * 10, "(a+)+$"):
        assert redactor.redact(text) == text
    assert redactor.redact("\udcff\udcfe secret, (a+)+$b") == "***, ***"
    assert redactor.redact(f"y{long}y") == "y***y"


def test_a_redactor_does_not_show_what_it_holds() -> None:
    redactor = Redactor(["hunter22"])
    assert "hunter22" not in repr(redactor)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(redactor)


def random_cuts(seed: int, largest: int) -> Iterator[int]:
    source = random.Random(seed)
    while True:
        yield source.randint(1, largest)


KEY = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    + "b3BlbnNzaC1rZXk\n" * 30
    + "c2hvcnQ=\n-----END OPENSSH PRIVATE KEY-----"
)
LOG = f"""epoch 1 loss 0.5
url https://user:hunter22@host/path and {SECRET} and {quote(SECRET)}
Authorization: Bearer abc.def
10%|█         | 1/10\r20%|██        | 2/10\r
{KEY}
after the key, two lines: first hunter line
second hunter line; {base64.b64encode(SECRET.encode()).decode()} last
"""


@pytest.mark.parametrize("largest", [1, 7, 64, 5000])
def test_a_stream_is_redacted_like_the_whole_however_it_is_cut(largest: int) -> None:
    redactor = Redactor([SECRET, "first hunter line\nsecond hunter line"])
    whole = redactor.redact(LOG).encode()
    assert b"hunter" not in whole
    for seed in range(1 if largest == 1 else 20):
        assert streamed(redactor, LOG.encode(), random_cuts(seed, largest)) == whole


@settings(max_examples=60, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(
            ["hunter22x", "\n", "\r", "x", " ", "://", "@", "hunter", "22x", "Authorization:", "=", '"', KEY]
        ),
        max_size=40,
    ),
    seed=st.integers(0, 2**16),
)
def test_no_cut_lets_a_value_through(text: list[str], seed: int) -> None:
    redactor = Redactor(["hunter22x", "two\nlines of it"])
    data = "".join(text).encode()
    clean = streamed(redactor, data, random_cuts(seed, 30))
    assert b"hunter22x" not in clean
    assert b"b3BlbnNzaC1rZXk" not in clean
    assert clean == redactor.redact(data.decode()).encode()


def test_a_line_without_end_is_passed_on_in_bounded_memory() -> None:
    redactor = Redactor([SECRET])
    chunk = b"0123456789abcdef" * 4096
    redacting, longest, out = redactor.stream(), 0, []
    for number in range(100):
        out.append(redacting.feed(chunk))
        if number % 10 == 0:
            out.append(redacting.feed(SECRET.encode()[:7]))
            out.append(redacting.feed(SECRET.encode()[7:]))
        longest = max(longest, len(redacting._held))
    out.append(redacting.flush())
    assert longest < 5 * len(chunk)
    clean = b"".join(out)
    assert clean.count(b"***") == 10
    assert clean.replace(b"***", b"") == chunk * 100


def test_an_endless_secret_is_dropped_up_to_the_end_of_its_line() -> None:
    redacting = NOTHING.stream()
    out = [redacting.feed(b"go\nAuthorization: ")]
    for _ in range(50):
        out.append(redacting.feed(b"hunter22" * 4096))
        assert len(redacting._held) < 200_000
    out += [redacting.feed(b"22\nnext line\n"), redacting.flush()]
    assert b"".join(out) == b"go\nAuthorization: ***\nnext line\n"


def test_an_unfinished_private_key_does_not_hold_the_stream_for_ever() -> None:
    redacting = NOTHING.stream()
    out = [redacting.feed(b"-----BEGIN PRIVATE KEY-----\nMIIEhunter22\n-- interrupted\n")]
    out += [redacting.feed(b"still going: %d\n" % number) for number in range(20_000)]
    assert len(b"".join(out)) > 200_000
    clean = b"".join([*out, redacting.flush()])
    assert b"hunter22" not in clean
    assert clean.endswith(b"still going: 19999\n")
    assert clean.count(b"still going") == 20_000


def test_files_and_iterables_of_chunks_are_streams() -> None:
    redactor = Redactor(["hunter22"])
    assert b"".join(redactor.redact_bytes(io.BytesIO(b"a hunter22\n" * 20_000))) == b"a ***\n" * 20_000
    assert b"".join(redactor.redact_bytes([b"a hun", b"ter22", b"", b"\nb"])) == b"a ***\nb"
    assert list(redactor.redact_bytes([])) == []


def test_lines_are_given_out_as_soon_as_they_end() -> None:
    redacting = Redactor(["hunter22"]).stream()
    assert redacting.feed(b"epoch 1\nepo") == b"epoch 1\n"
    assert redacting.feed(b"ch 2\r") == b"epoch 2\r"


HOSTILE = [
    "eyJ", "eyJ-", "secret", "password\\", "://", "://a@", "authorization \t", "bearer ", "?key=", "ghp_",
    "-----BEGIN PRIVATE KEY-----\n", "-----END X-----", "\\", "A", " ", "hunter2",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_linearly_with_hostile_text(piece: str) -> None:
    redactor = Redactor(["hunter22", "hunter2hunter2x"])

    def cost(size: int) -> float:
        text = piece * (size // len(piece))
        begin = time.process_time()
        redactor.redact(text)
        return time.process_time() - begin

    cost(10_000)
    small = min(cost(50_000) for _ in range(3))
    # Sixteen times the text: a quadratic search would take 256 times as long.
    assert min(cost(800_000) for _ in range(2)) < 100 * max(small, 0.002)
