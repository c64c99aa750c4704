"""Days and hours: which hours a Madrid day has, and frames cut into days."""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from functools import lru_cache

import pandas as pd

from demand_assets.grid import TIME_ZONE, end_of, start_of


def days_between(first: date, last: date) -> list[date]:
    """All days from first to last, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def contiguous_ranges(days: Iterable[date], longest: int) -> Iterator[list[date]]:
    """Days grouped into ranges without gaps, of at most ``longest`` days each."""
    days_in_range: list[date] = []
    for day in sorted(days):
        follows = days_in_range and day - days_in_range[-1] == timedelta(days=1)
        if days_in_range and (not follows or len(days_in_range) == longest):
            yield days_in_range
            days_in_range = []
        days_in_range.append(day)
    if days_in_range:
        yield days_in_range


def day_hours(day: date) -> pd.DatetimeIndex:
    """The starts of the 23, 24 or 25 hours of a Madrid day, in UTC."""
    return _day_hours(day).copy(deep=True)


@lru_cache(maxsize=512)
def _day_hours(day: date) -> pd.DatetimeIndex:
    # Used nine times for each day, and slow to construct.
    hours = pd.date_range(start_of(day), end_of(day), freq="h", inclusive="left", name="time")
    return hours.as_unit("ns")


def utc_index(hours: pd.Series | pd.DataFrame) -> pd.DatetimeIndex:
    """The time index of a frame or series."""
    return pd.DatetimeIndex(hours.index)


def frames_by_day(frame: pd.DataFrame, keys: Iterable[str]) -> dict[str, pd.DataFrame]:
    """The rows of each Madrid day (``YYYY-MM-DD``); a day may have none."""
    day_of_row = utc_index(frame).tz_convert(TIME_ZONE.key).strftime("%Y-%m-%d")
    days = {str(key): rows for key, rows in frame.groupby(day_of_row)}
    return {key: days.get(key, frame.iloc[:0]) for key in keys}
