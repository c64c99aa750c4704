"""Where the answers come from: days made up by a formula, or days recorded from the API."""

import gzip
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

MADRID = ZoneInfo("Europe/Madrid")
REAL, SCHEDULE, FORECAST = "1293", "545", "544"
A_DAY = timedelta(days=1)

# From this instant on the operator publishes every 5 minutes instead of every 10.
FINER_SINCE = datetime(2022, 5, 23, 21, tzinfo=MADRID).astimezone(UTC)


@dataclass(slots=True)
class Sample:
    """One published value.

    `at` carries Madrid's offset as a fixed one, so that comparing two samples compares instants,
    and `stamp` is the same as it is published; `value` is in MW; `share` is the value's part,
    0 to 1, of the three series' sum; `text` is the sample as JSON, written once because answers
    are put together from it.
    """

    at: datetime
    stamp: str
    value: float | None
    share: float
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        value = self.value if isinstance(self.value, int) else json.dumps(self.value)
        self.text = f'{{"value":{value},"percentage":{self.share},"datetime":"{self.stamp}"}}'


Day = dict[str, list[Sample]]
"""Series id to its samples in order of time, for one day of Madrid's calendar."""


class Source(Protocol):
    def day(self, day: date) -> Day | None:
        """The whole of a day, whatever the clock says; None where there is nothing."""
        ...


@dataclass(frozen=True)
class SyntheticDays:
    """Plausible peninsular demand from `start` on: the same date always has the same values."""

    start: date = date(2021, 1, 1)

    def day(self, day: date) -> Day | None:
        return _synthetic(day) if day >= self.start else None


class RecordedDays:
    """Answers kept in a folder, one file a day: `YYYY-MM-DD.json` or `YYYY-MM-DD.json.gz`."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        self.paths: dict[date, Path] = {}
        for path in sorted(folder.glob("????-??-??.json*")):
            if path.name[10:] in (".json", ".json.gz"):
                self.paths[date.fromisoformat(path.name[:10])] = path
        if not self.paths:
            raise ValueError(f"{folder} holds no recordings (YYYY-MM-DD.json or .json.gz)")

    def day(self, day: date) -> Day | None:
        return _recorded(self.paths[day], day) if day in self.paths else None


def midnight(day: date) -> datetime:
    """The instant at which a day of Madrid begins, in UTC."""
    return datetime.combine(day, time(), MADRID).astimezone(UTC)


@lru_cache(maxsize=128)
def _recorded(path: Path, day: date) -> Day | None:
    """A recording's samples of its own day; None for a recorded error."""
    raw = path.read_bytes()
    answer = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    series: Day = {}
    for one in answer.get("included", []):
        samples = [
            Sample(
                datetime.fromisoformat(stamp := v["datetime"]), stamp, v["value"], v["percentage"]
            )
            for v in one["attributes"]["values"]
        ]
        samples.sort(key=lambda sample: sample.at)
        series[one["id"]] = [sample for sample in samples if sample.at.date() == day]
    return series or None


# Demand over a day relative to its level, hour by hour: night valley, noon hump, evening hump.
_SHAPE = (
    *(0.93, 0.88, 0.85, 0.84, 0.84, 0.86, 0.92, 1.00, 1.05, 1.07, 1.08, 1.09),
    *(1.09, 1.09, 1.07, 1.04, 1.03, 1.03, 1.05, 1.09, 1.13, 1.12, 1.06, 0.99),
)
_WEEKDAY = (0.99, 1.01, 1.01, 1.01, 1.00, 0.90, 0.85)


def _ripple(day: date, channel: str, size: float) -> list[float]:
    """24 hourly deviations, reproducible for a day and a channel, none above `size`."""
    dice = random.Random(f"{channel} {day.toordinal()}")
    return [max(-size, min(size, dice.gauss(0, size / 2))) for _ in range(24)]


def _level(day: date) -> float:
    """A day's mean, MW: highest in January and July, lowest in April and October."""
    season = math.cos(4 * math.pi * (day.timetuple().tm_yday - 20) / 365.25)
    return 28_500 * (1 + 0.07 * season) * _WEEKDAY[day.weekday()]


def _hourly(day: date) -> list[float]:
    """24 values, MW. A day takes over from the one before by and by, during its first 6 hours."""
    before, level = _level(day - A_DAY), _level(day)
    ripple = _ripple(day, "demand", 0.02)
    return [
        (before + (level - before) * min(1, hour / 6)) * _SHAPE[hour] * (1 + ripple[hour])
        for hour in range(24)
    ]


def _curve(day: date, hourly: Callable[[date], list[float]]) -> Callable[[float], float]:
    """A smooth line (Catmull-Rom) through the hourly values, for x from 0 to 24 hours.

    It reaches into the neighbouring days, so that it meets theirs at midnight.
    """
    knots = [hourly(day - A_DAY)[-1], *hourly(day), *hourly(day + A_DAY)[:2]]

    def at(x: float) -> float:
        hour = int(x)
        u = x - hour
        a, b, c, d = knots[hour : hour + 4]
        return b + u / 2 * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))

    return at


def _instants(day: date) -> Iterator[datetime]:
    """The times at which a day has samples, in UTC."""
    at, end = midnight(day), midnight(day + A_DAY)
    while at < end:
        yield at
        at += timedelta(minutes=5 if at >= FINER_SINCE else 10)


@lru_cache(maxsize=128)
def _synthetic(day: date) -> Day:
    start = midnight(day)
    length = midnight(day + A_DAY) - start
    demand = _curve(day, _hourly)
    forecast_error = _curve(day, lambda d: _ripple(d, "forecast", 0.007))
    schedule_error = _curve(day, lambda d: _ripple(d, "schedule", 0.014))
    series: Day = {REAL: [], SCHEDULE: [], FORECAST: []}
    for instant in _instants(day):
        x = 24 * ((instant - start) / length)  # days of 23 and 25 hours are stretched to fit
        mw = demand(x)
        values = {
            REAL: round(mw),
            SCHEDULE: round(mw * (1 + schedule_error(x))),
            FORECAST: round(mw * (1 + forecast_error(x))),
        }
        total = sum(values.values())
        offset = instant.astimezone(MADRID).utcoffset()
        assert offset is not None
        at = instant.astimezone(timezone(offset))
        stamp = at.isoformat(timespec="milliseconds")
        for id_, value in values.items():
            series[id_].append(Sample(at, stamp, value, value / total))
    return series
