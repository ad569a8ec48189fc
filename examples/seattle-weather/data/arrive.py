"""Pretends to be the weather station of 2015: delivers its weeks as files, up to a day.

`python data/arrive.py 2015-07-13` writes `arrived/`, one file a week: the weather of its days, and the maximum of the
day after each as it came out. A week that is there and as it should be is left alone. It also writes `record/`, which
the station publishes every quarter: the newest twelve weeks, and the two years before them. The weather is real.
Two things can go wrong, and both are SIMULATED:

    --fahrenheit DAY   from that day on the sensor sends temp_max in °F
    --warmer DAY       from that day on outcomes are read at another station, where it is 5 °C warmer; its record
                       is published instead
"""

import argparse
import csv
from datetime import date, timedelta
from pathlib import Path

FOLDER = Path(__file__).parent
SPLITS = ("weather-2012-2014.csv", "weather-2015.csv")
TARGET = "temp_max_tomorrow"
WARMER = 5.0  # °C
MONDAY = date(2015, 1, 5)  # windows of whole weeks begin on Mondays; a week ends with the day that closes one
NEWEST, BEFORE = timedelta(weeks=12), timedelta(days=730)


def write(file: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as CSV; a file that holds them already is not touched."""
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    text = "\n".join(lines) + "\n"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")


def main() -> None:
    """Deliver what is asked for on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("until", type=date.fromisoformat, help="the last day that is delivered")
    parser.add_argument("--fahrenheit", type=date.fromisoformat, metavar="DAY", default=date.max)
    parser.add_argument("--warmer", type=date.fromisoformat, metavar="DAY", default=date.max)
    options = parser.parse_args()

    days: dict[date, dict[str, str]] = {}
    for name in SPLITS:
        with (FOLDER / name).open(newline="", encoding="utf-8") as file:
            days |= {date.fromisoformat(row["date"]): row for row in csv.DictReader(file)}

    def warmed(row: dict[str, str]) -> dict[str, str]:
        return row | {TARGET: f"{float(row[TARGET]) + WARMER:.1f}"}

    def delivered(day: date) -> dict[str, str]:
        row = warmed(days[day]) if day >= options.warmer else days[day]
        if day >= options.fahrenheit:
            row = row | {"temp_max": f"{float(row['temp_max']) * 1.8 + 32:.1f}"}
        return row

    weeks = 0
    while (first := MONDAY + timedelta(days=1, weeks=weeks)) + timedelta(days=6) <= options.until:
        rows = [delivered(day) for each in range(7) if (day := first + timedelta(days=each)) in days]
        write(FOLDER / "arrived" / f"{first}.csv", rows)
        weeks += 1

    until = options.until.replace(month=(options.until.month - 1) // 3 * 3 + 1, day=1)
    moved = until > options.warmer
    record = {day: warmed(row) if moved else row for day, row in days.items() if day < until}
    cut = until - NEWEST
    write(FOLDER / "record/newest.csv", [row for day, row in record.items() if day >= cut])
    write(FOLDER / "record/before.csv", [row for day, row in record.items() if cut - BEFORE <= day < cut])
    print(f"{weeks} weeks of 2015 have arrived")


if __name__ == "__main__":
    main()
