"""Where the samples come from: days computed by a formula, or days recorded from the API.

What the simulator answers, and how it fails, belongs in `server` and `faults`.
"""

import gzip
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from demand_assets.grid import TIME_ZONE, end_of, start_of

REAL, SCHEDULE, FORECAST = "1293", "545", "544"
A_DAY = timedelta(days=1)
FINER_SINCE = datetime(2022, 5, 23, 21, tzinfo=TIME_ZONE).astimezone(UTC)
"""From this instant on the operator publishes every 5 minutes instead of every 10."""


@dataclass(slots=True)
class Sample:
    """One published value in MW.

    `at` has Madrid's offset as a fixed one, so that comparing two samples compares instants;
    `share` is the value's part, 0 to 1, of the sum of all series. `text` is the sample as JSON,
    encoded once, as each answer is joined from it.
    """

    at: datetime
    value: float | None
    share: float
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        stamp = self.at.isoformat(timespec="milliseconds")
        value = self.value if isinstance(self.value, int) else json.dumps(self.value)
        self.text = f'{{"value":{value},"percentage":{self.share},"datetime":"{stamp}"}}'


Day = dict[str, list[Sample]]
"""The samples of a Madrid day by id of the series, in order of time."""


class Source(Protocol):
    def day(self, day: date) -> Day | None:
        """The whole day, whatever the clock says; None if there is no such day."""
        ...


@dataclass(frozen=True)
class SyntheticDays:
    """Plausible peninsular demand from `start` on: the same date always has the same values."""

    start: date = date(2021, 1, 1)

    def day(self, day: date) -> Day | None:
        return _synthetic(day) if day >= self.start else None


class RecordedDays:
    """Answers kept in a folder, one file per day: `YYYY-MM-DD.json` or `YYYY-MM-DD.json.gz`."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        self.paths = {
            date.fromisoformat(path.name[:10]): path
            for path in folder.glob("????-??-??.json*")
            if path.name[10:] in (".json", ".json.gz")
        }
        if not self.paths:
            raise ValueError(f"{folder} holds no recordings (YYYY-MM-DD.json or .json.gz)")

    def day(self, day: date) -> Day | None:
        return _recorded(self.paths[day], day) if day in self.paths else None


@lru_cache(maxsize=128)
def _recorded(path: Path, day: date) -> Day | None:
    """The samples of a recorded day; None if an error was recorded."""
    raw = path.read_bytes()
    answer = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    series: Day = {}
    for one in answer.get("included", []):
        samples = [
            Sample(datetime.fromisoformat(v["datetime"]), v["value"], v["percentage"])
            for v in one["attributes"]["values"]
        ]
        samples.sort(key=lambda sample: sample.at)
        series[one["id"]] = [sample for sample in samples if sample.at.date() == day]
    return series or None


# Demand relative to the day's level, hour by hour: low at night, peaks at noon and in the evening.
_SHAPE = (
    *(0.93, 0.88, 0.85, 0.84, 0.84, 0.86, 0.92, 1.00, 1.05, 1.07, 1.08, 1.09),
    *(1.09, 1.09, 1.07, 1.04, 1.03, 1.03, 1.05, 1.09, 1.13, 1.12, 1.06, 0.99),
)
_WEEKDAY = (0.99, 1.01, 1.01, 1.01, 1.00, 0.90, 0.85)


def _noise(day: date, channel: str, size: float) -> list[float]:
    """24 hourly deviations of at most `size`, reproducible for a day and a channel."""
    generator = random.Random(f"{channel} {day.toordinal()}")
    return [max(-size, min(size, generator.gauss(0, size / 2))) for _ in range(24)]


def _level(day: date) -> float:
    """A day's mean in MW: highest in January and July, lowest in April and October."""
    season = math.cos(4 * math.pi * (day.timetuple().tm_yday - 20) / 365.25)
    return 28_500 * (1 + 0.07 * season) * _WEEKDAY[day.weekday()]


def _hourly(day: date) -> list[float]:
    """24 values in MW. During its first 6 hours a day moves from the level of the day before."""
    before, level = _level(day - A_DAY), _level(day)
    noise = _noise(day, "demand", 0.02)
    return [
        (before + (level - before) * min(1, hour / 6)) * _SHAPE[hour] * (1 + noise[hour])
        for hour in range(24)
    ]


def _curve(day: date, hourly: Callable[[date], list[float]]) -> Callable[[float], float]:
    """A smooth line (Catmull-Rom) through the hourly values, for x from 0 to 24 hours.

    It uses values of both neighboring days, so that it is continuous at midnight.
    """
    knots = [hourly(day - A_DAY)[-1], *hourly(day), *hourly(day + A_DAY)[:2]]

    def at(x: float) -> float:
        hour = int(x)
        u = x - hour
        a, b, c, d = knots[hour : hour + 4]
        return b + u / 2 * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))

    return at


@lru_cache(maxsize=128)
def _synthetic(day: date) -> Day:
    start, end = start_of(day), end_of(day)
    demand = _curve(day, _hourly)
    forecast_error = _curve(day, lambda d: _noise(d, "forecast", 0.007))
    schedule_error = _curve(day, lambda d: _noise(d, "schedule", 0.014))
    series: Day = {REAL: [], SCHEDULE: [], FORECAST: []}
    instant = start
    while instant < end:
        x = 24 * ((instant - start) / (end - start))  # days of 23 and 25 hours are stretched
        mw = demand(x)
        values = {
            REAL: round(mw),
            SCHEDULE: round(mw * (1 + schedule_error(x))),
            FORECAST: round(mw * (1 + forecast_error(x))),
        }
        local = instant.astimezone(TIME_ZONE)
        at = local.replace(tzinfo=timezone(local.utcoffset() or timedelta()))
        for id_, value in values.items():
            series[id_].append(Sample(at, value, value / sum(values.values())))
        instant += timedelta(minutes=5 if instant >= FINER_SINCE else 10)
    return series
