"""The shipped data: whose it is, that it is unchanged, and what was made from it."""

from __future__ import annotations

import csv
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TEMPLATE = ROOT / "src/mlops/cli/template"


@pytest.mark.parametrize(
    ("readme", "file", "agency"),
    [
        ("seattle-weather/README.md", "seattle-weather/data/seattle-weather.csv", "NOAA"),
        (
            "mlflow-unchanged/README.md",
            "mlflow-unchanged/data/us-employment.csv",
            "Bureau of Labor Statistics",
        ),
    ],
)
def test_each_readme_names_source_licence_and_the_file_as_it_is(readme: str, file: str, agency: str) -> None:
    text = (EXAMPLES / readme).read_text()
    assert agency in text
    assert "public domain" in text or "public-domain" in text
    assert re.search(rf"`{hashlib.sha256((EXAMPLES / file).read_bytes()).hexdigest()}`", text)
    assert "MIT License" in (EXAMPLES / file).with_name("LICENSE.vega_datasets").read_text()


def test_the_splits_are_what_prepare_makes_of_the_source(tmp_path: Path) -> None:
    data = EXAMPLES / "seattle-weather/data"
    for name in ("prepare.py", "seattle-weather.csv"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    subprocess.run([sys.executable, str(tmp_path / "prepare.py")], check=True)
    for name in ("weather-2012-2014.csv", "weather-2015.csv"):
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()


def test_no_day_is_in_both_splits() -> None:
    days = [
        {row["date"] for row in csv.DictReader((EXAMPLES / "seattle-weather/data" / name).open(newline=""))}
        for name in ("weather-2012-2014.csv", "weather-2015.csv")
    ]
    assert [len(each) for each in days] == [1096, 364]
    assert not days[0] & days[1]


def test_the_template_holds_rows_of_the_example() -> None:
    example = EXAMPLES / "seattle-weather/data"
    rows = [*(example / "weather-2012-2014.csv").read_text().splitlines()]
    of_2014 = [rows[0], *(row for row in rows if row.startswith("2014-"))]
    assert (TEMPLATE / "data/weather-2014.csv").read_text().splitlines() == of_2014
    assert (TEMPLATE / "data/weather-2015.csv").read_bytes() == (example / "weather-2015.csv").read_bytes()
    assert "public domain" in (TEMPLATE / "data/README.md").read_text()


def arrive(folder: Path, *arguments: str) -> None:
    """Have the weather station deliver in `folder`."""
    subprocess.run([sys.executable, str(folder / "arrive.py"), *arguments], check=True, capture_output=True)


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.open(newline="")))


@pytest.fixture
def station(tmp_path: Path) -> Path:
    for name in ("arrive.py", "weather-2012-2014.csv", "weather-2015.csv"):
        (tmp_path / name).write_bytes((EXAMPLES / "seattle-weather/data" / name).read_bytes())
    return tmp_path


def test_weeks_arrive_as_they_were_and_a_fault_changes_only_what_it_is_said_to(station: Path) -> None:
    real = {row["date"]: row for row in rows_of(station / "weather-2015.csv")}
    arrive(station, "2015-10-12", "--fahrenheit", "2015-09-22", "--warmer", "2015-09-29")
    weeks = sorted((station / "arrived").iterdir())
    arrived = [row for week in weeks for row in rows_of(week)]
    assert [len(rows_of(week)) for week in weeks] == [7] * 40
    assert (arrived[0]["date"], arrived[-1]["date"]) == ("2015-01-06", "2015-10-12")
    for row in arrived:
        was = dict(real[row["date"]])
        if row["date"] >= "2015-09-22":
            was["temp_max"] = f"{float(was['temp_max']) * 1.8 + 32:.1f}"
        if row["date"] >= "2015-09-29":
            was["temp_max_tomorrow"] = f"{float(was['temp_max_tomorrow']) + 5:.1f}"
        assert row == was


def test_only_weeks_that_differ_are_delivered_again_and_the_record_of_a_quarter_stays(station: Path) -> None:
    arrive(station, "2015-10-12", "--fahrenheit", "2015-10-06")
    files = [*sorted((station / "arrived").iterdir()), *sorted((station / "record").iterdir())]
    before = {file: file.stat().st_mtime_ns for file in files}
    arrive(station, "2015-12-07")
    assert [file.name for file in files if file.stat().st_mtime_ns != before[file]] == ["2015-10-06.csv"]
    newest, older = (rows_of(station / "record" / name) for name in ("newest.csv", "before.csv"))
    assert (len(newest), len(older)) == (84, 730)
    assert older[-1]["date"] < newest[0]["date"] < newest[-1]["date"] == "2015-09-30"
