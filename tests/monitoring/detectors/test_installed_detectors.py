"""Detectors are found by the contract's names, and installed packages bring others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlops.errors import Stalled
from mlops.monitoring.detectors import BinDetector, Binned, RowDetector, detector, installed


def test_every_built_in_detector_is_there_with_its_threshold() -> None:
    thresholds = {name: detector(name).threshold for name in installed() if "/" not in name}
    assert thresholds == {
        "chiSquare": 0.1,
        "domainClassifier": 0.2,
        "jensenShannon": 0.1,
        "ks": 0.1,
        "psi": 0.2,
        "totalVariation": 0.1,
        "wasserstein": 0.1,
    }
    assert isinstance(detector("domainClassifier"), RowDetector)


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(Stalled, match=r"no detector 'psy'.*jensenShannon.*psi"):
        detector("psy")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with three detectors, of which one works."""
    (tmp_path / "acme_drift.py").write_text(
        "from mlops.monitoring.detectors import BinDetector, Measured\n"
        "def measure(binned):\n"
        "    return Measured(float(len(binned.window)), 0.5)\n"
        "bins = BinDetector('acme/bins', 3.0, ('numeric',), measure)\n"
        "number = 3\n"
    )
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mlops.detectors]\nbins = acme_drift:bins\nnumber = acme_drift:number\ngone = acme_nowhere:it\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_drift", raising=False)


@pytest.mark.usefixtures("package")
def test_an_installed_package_brings_a_detector() -> None:
    found = detector("acme/bins")
    assert isinstance(found, BinDetector)
    assert found.measure(Binned.of([1, 2], [3, 4])).effect == 2.0
    assert "acme/bins" in installed()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["acme/number", "acme/gone"])
def test_a_detector_that_is_broken_is_told_with_the_package_to_repair(name: str) -> None:
    with pytest.raises(Stalled, match="Repair or upgrade the package"):
        detector(name)
