"""From the samples of a day to its hourly frame.

A frame has a UTC ``DatetimeIndex`` named ``time`` (start of the hour) and one float64 column in MW
for each entry of ``grid.SERIES``.
"""

import math
from datetime import date, datetime

import numpy as np
import pandas as pd

from demand_assets.demand.days import day_hours
from demand_assets.demand.errors import NoRealDemandError
from demand_assets.demand.samples import Samples, end_of_measured_hours, known_samples
from demand_assets.grid import SERIES, local_date


def hourly_frame(samples: Samples, day: date, *, now: datetime) -> pd.DataFrame:
    """The hourly means of one day.

    A measured series is kept for hours that are over by the samples, with one in their last slot or
    any later one, and by the clock. Other series are kept for the whole day. Hours in which nothing
    is known are left out.

    Args:
        samples: what the API has of the day.
        day: the Madrid day, of 23, 24 or 25 hours.
        now: the present, aware; a past day must have hours of each required series.

    Raises:
        NoRealDemandError: a required series is absent, or has no hour on a past day.
    """
    frame = pd.DataFrame(
        {series.column: _hourly_means(samples[series.column]) for series in SERIES},
        index=day_hours(day),
    )
    for series in SERIES:
        demand = f"{series.title.lower()} demand"
        if series.required and samples[series.column] is None:
            raise NoRealDemandError(f"the answer has no series of {demand}", day)
        if series.measured:
            now_hour = pd.Timestamp(now).tz_convert("UTC").floor("h")
            end = min(end_of_measured_hours(samples, series.column), now_hour)
            frame.loc[frame.index >= end, series.column] = math.nan
        if series.required and frame[series.column].isna().all() and day < local_date(now):
            raise NoRealDemandError(f"the day is past, and none of its hours has {demand}", day)
    return frame.dropna(how="all")


def with_earlier_hours(frame: pd.DataFrame, earlier: pd.DataFrame | None) -> pd.DataFrame:
    """The frame of the newest answer, and the values that only the frame before it has.

    An answer may know less than an earlier one, as caches of the API can be hours behind. A store
    keeps such values, because points are never deleted.
    """
    if earlier is None or earlier.empty:
        return frame
    return frame.combine_first(earlier.reindex(columns=frame.columns)).astype("float64")


def _hourly_means(samples: pd.Series | None) -> pd.Series:
    known = known_samples(samples)
    hours = known.index.to_numpy("datetime64[h]")
    starts = np.flatnonzero(np.diff(hours, prepend=np.datetime64("NaT")))
    if not len(starts):
        return pd.Series(dtype="float64")
    counts = np.diff(starts, append=len(hours))
    means = np.add.reduceat(known.to_numpy(), starts) / counts
    return pd.Series(means, pd.DatetimeIndex(hours[starts].astype("datetime64[ns]"), tz="UTC"))
