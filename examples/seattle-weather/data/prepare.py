"""Makes weather-2012-2014.csv and weather-2015.csv from seattle-weather.csv: `python data/prepare.py`.

Each row gains what a model may know that evening (the season, as a point on the year's circle) and what it
has to say (tomorrow's maximum). The last day has no tomorrow and is left out.
"""

import csv
import math
from datetime import date
from itertools import pairwise
from pathlib import Path

FOLDER = Path(__file__).parent
FILES = {2012: "weather-2012-2014.csv", 2013: "weather-2012-2014.csv", 2014: "weather-2012-2014.csv",
         2015: "weather-2015.csv"}  # fmt: skip


def prepare(source: Path, target: Path) -> None:
    """Write one CSV a split into the folder `target`, from the daily table `source`."""
    with source.open(newline="") as file:
        days = list(csv.DictReader(file))
    rows: dict[str, list[dict[str, str]]] = {name: [] for name in FILES.values()}
    for today, tomorrow in pairwise(days):
        day = date.fromisoformat(today["date"].replace("/", "-"))
        angle = 2 * math.pi * day.timetuple().tm_yday / 365.25
        season = {"season_sin": f"{math.sin(angle):.4f}", "season_cos": f"{math.cos(angle):.4f}"}
        row = today | {"date": day.isoformat()} | season | {"temp_max_tomorrow": tomorrow["temp_max"]}
        rows[FILES[day.year]].append(row)
    for name, split in rows.items():
        with (target / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(split[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(split)


if __name__ == "__main__":
    prepare(FOLDER / "seattle-weather.csv", FOLDER)
