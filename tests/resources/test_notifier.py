"""Notifier as it is written."""

from __future__ import annotations

import pytest

from conftest import Declared
from mlops.resources import Key
from mlops.resources.kinds import MODELS
from mlops.resources.notifier import Notifier


@pytest.fixture(autouse=True)
def _kind_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "Notifier", Notifier)


def notifier(spec: str) -> str:
    return f"kind: Notifier\nmetadata: {{name: team}}\nspec: {{{spec}}}\n"


def test_urls_may_be_variables_so_that_no_secret_is_declared(declared: Declared) -> None:
    text = (
        "urls: ['${BUCKET}', 'slack://${BUCKET}/general', 'mailto://ops@example.com'], minSeverity: warning"
    )
    assert declared.problems(notifier(text)) == []
    found = declared.load().resources[Key("Notifier", "team")]
    assert isinstance(found, Notifier)
    assert found.variables == ("BUCKET",)
    assert found.spec.min_severity == "warning"


def test_everything_is_sent_where_no_severity_is_named(declared: Declared) -> None:
    assert declared.problems(notifier("urls: ['json://localhost']")) == []
    found = declared.load().resources[Key("Notifier", "team")]
    assert isinstance(found, Notifier)
    assert found.spec.min_severity == "info"


@pytest.mark.parametrize(
    ("spec", "place", "words"),
    [
        ("minSeverity: info", "4:1: Notifier/team: spec.urls:", "is required"),
        ("urls: []", "4:14: Notifier/team: spec.urls:", "fewer than 1"),
        ("urls: ['hooks.example.com/x']", "4:15: Notifier/team: spec.urls[0]:", "has no scheme"),
        ("urls: ['${BUCKT}']", "4:15: Notifier/team: spec.urls[0]:", "Did you mean BUCKET?"),
        ("urls: ['json://${BUCKET']", "4:15: Notifier/team: spec.urls[0]:", "names no variable"),
        ("urls: ['json://a b']", "4:15: Notifier/team: spec.urls[0]:", "blank"),
        ("urls: ['json://a'], minSeverity: high", "4:41: Notifier/team: spec.minSeverity:", "warning"),
        ("urls: ['json://a'], minSeverty: info", "4:28: Notifier/team: spec.minSeverty:", "minSeverity?"),
    ],
)
def test_a_mistake_is_named_with_its_place(declared: Declared, spec: str, place: str, words: str) -> None:
    (found,) = declared.problems(notifier(spec))
    assert found.startswith(f"resources/x.yaml:{place}"), found
    assert words in found


def test_a_url_is_never_repeated_in_a_message(declared: Declared) -> None:
    (found,) = declared.problems(notifier("urls: ['xoxb-secret-token']"))
    assert "secret" not in found
