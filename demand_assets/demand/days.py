"""Days and hours: which hours a Madrid day has, and frames cut into days."""

from collections.abc import Collection, Iterable, Iterator
from datetime import date, timedelta
from functools import lru_cache
from itertools import groupby

import pandas as pd

from demand_assets.grid import TIME_ZONE, end_of, start_of


def days_between(first: date, last: date) -> list[date]:
    """All days from first to last, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def contiguous_ranges(days: Iterable[date], longest: int) -> Iterator[list[date]]:
    """Days grouped into ranges without gaps, of at most ``longest`` days each."""
    # Neighbouring days have the same distance from their place in the order.
    rows = groupby(enumerate(sorted(days)), lambda pair: pair[1] - timedelta(days=pair[0]))
    for _, row in rows:
        contiguous = [day for _, day in row]
        for start in range(0, len(contiguous), longest):
            yield contiguous[start : start + longest]


def describe_days(days: Collection[date], most: int = 5) -> str:
    """Days in words, such as ``2023-05-01 to 2023-05-03, 2023-06-01``; ranges after the first
    ``most`` are counted only."""
    ranges = list(contiguous_ranges(days, max(len(days), 1)))
    shown = [f"{r[0]} to {r[-1]}" if len(r) > 1 else f"{r[0]}" for r in ranges[:most]]
    more = sum(len(r) for r in ranges[most:])
    return ", ".join(shown) + (f" and {more} more" if more else "")


@lru_cache(maxsize=512)  # used nine times for each day, and slow to construct
def day_hours(day: date) -> pd.DatetimeIndex:
    """The starts of the 23, 24 or 25 hours of a Madrid day, in UTC; all callers share the index."""
    hours = pd.date_range(start_of(day), end_of(day), freq="h", inclusive="left", name="time")
    # Without a frequency, as in the frames that are read back from a store.
    return pd.DatetimeIndex(hours.as_unit("ns"), freq=None)  # type: ignore[arg-type]


def utc_index(hours: pd.Series | pd.DataFrame) -> pd.DatetimeIndex:
    """The time index of a frame or series."""
    return pd.DatetimeIndex(hours.index)


def frames_by_day(frame: pd.DataFrame, keys: Iterable[str]) -> dict[str, pd.DataFrame]:
    """The rows of each Madrid day (``YYYY-MM-DD``); a day may have none."""
    day_of_row = utc_index(frame).tz_convert(TIME_ZONE.key).strftime("%Y-%m-%d")
    days = {str(key): rows for key, rows in frame.groupby(day_of_row)}
    return {key: days.get(key, frame.iloc[:0]) for key in keys}
