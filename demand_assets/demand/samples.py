"""Samples of a day: values of the operator every 5, 10 or 60 minutes, and the slots between them.

A slot is an instant at which a sample is due. What a client received becomes `Samples` here; what
is computed from them belongs in `hourly`, `quality` and `figures`.
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand_assets.demand.days import day_hours
from demand_assets.grid import REAL, SERIES, local_date

IntArray = npt.NDArray[np.int64]

Samples = dict[str, pd.Series | None]
"""Samples of a day by column, MW over UTC time; None if the API left the series out. A NaN is a
slot without a value. An instant is there several times if its values contradict each other."""

FINEST_SPACING = 5
"""Minutes between samples since 2022-05-23; before that there were 10."""
CLOCK_TOLERANCE = timedelta(minutes=5)
SPACINGS = np.array([5, 10, 15, 20, 30, 60])
REGULAR = 0.75
"""Share of equal distances between samples from which on a series has a spacing of its own."""
SAMPLES_OF_A_RULE = 12
"""A spacing is taken from at least so many samples."""


def to_samples(values: Iterable[tuple[datetime, float | None]] | None) -> pd.Series | None:
    """One series in MW over UTC time, sorted; None if there is no series.

    A null becomes NaN, unless its instant has a value as well. Of equal values at one instant one
    is kept; different values are all kept, in the order of the answer.

    Args:
        values: aware instants and their values, in the order of the answer.
    """
    if values is None:
        return None
    instants, numbers = zip(*values, strict=True) if (values := list(values)) else ((), ())
    index = pd.to_datetime(list(instants), utc=True)
    samples = pd.Series(list(numbers), index=index, dtype="float64")
    if not index.is_unique:
        known = samples.notna().to_numpy()
        superfluous = ~known & index.isin(index[known])
        both = pd.DataFrame({"at": index, "value": samples.to_numpy()})
        samples = samples[~(both.duplicated(keep="last").to_numpy() | superfluous)]
    return samples.sort_index(kind="stable")


def known_samples(samples: pd.Series | None) -> pd.Series:
    """The known values of a series, one at each instant: the last one received."""
    if samples is None:
        return pd.Series(dtype="float64", index=pd.DatetimeIndex([], tz="UTC"))
    known = samples.dropna() if samples.hasnans else samples
    return known if known.index.is_unique else known[~known.index.duplicated(keep="last")]


def contradicted_instants(samples: pd.Series | None) -> pd.DatetimeIndex:
    """The instants at which a series has several values; none on 1,266 recorded days."""
    if samples is None or samples.index.is_unique:
        return pd.DatetimeIndex([], tz="UTC")
    return pd.DatetimeIndex(samples.index[samples.index.duplicated()].unique())


def samples_until(samples: Samples, now: datetime) -> Samples:
    """The samples without measured ones that are later than the present.

    Five minutes are tolerated, as clocks differ.
    """
    latest = pd.Timestamp(now) + CLOCK_TOLERANCE
    kept = dict(samples)
    for series in SERIES:
        values = samples[series.column]
        if series.measured and values is not None and len(values) and values.index[-1] > latest:
            kept[series.column] = values[values.index <= latest]
    return kept


def missing_samples(samples: Samples, day: date, *, now: datetime) -> pd.DatetimeIndex:
    """The UTC instants of slots without measured demand, in hours that are over.

    An hour has as many slots as its spacing requires; a sample that is stamped late is in the slot
    before. On a past day all hours are over, today those up to the newest measured one.
    """
    hours = day_hours(day)
    if day >= local_date(now):
        over = min(end_of_measured_hours(samples), pd.Timestamp(now))
        hours = hours[hours + pd.Timedelta(hours=1) <= over]
    spacing, usual = _spacing(samples, REAL)
    filled: set[int] = set()
    for minute in _minutes(known_samples(samples[REAL]).index):
        hour = minute - minute % 60
        filled.add(minute - minute % spacing.get(hour, usual))
    missing = [
        slot
        for hour in _minutes(hours)
        for slot in range(hour, hour + 60, spacing.get(hour, usual))
        if slot not in filled
    ]
    return pd.DatetimeIndex(np.array(missing, dtype="datetime64[m]"), tz="UTC").as_unit("ns")


def late_samples(samples: Samples, column: str = REAL) -> pd.Series:
    """Minutes by which known samples are stamped after the start of their slots, where they are."""
    known = known_samples(samples[column])
    seconds = known.index.to_numpy("datetime64[s]").astype("int64")
    if not (seconds % (60 * FINEST_SPACING)).any():
        return known[:0]
    spacing, usual = _spacing(samples, column)
    slots = np.array([spacing.get(minute - minute % 60, usual) for minute in _minutes(known.index)])
    late = pd.Series(seconds % (60 * slots) / 60, known.index)
    return late[late > 0]


def end_of_measured_hours(samples: Samples, column: str = REAL) -> pd.Timestamp:
    """The end of the newest hour of a measured series that is over by its samples.

    An hour is over once its last slot has a sample, or any later sample exists.
    """
    known = _minutes(known_samples(samples[column]).index)
    last = known[-1] if known else 0
    hour = last - last % 60
    spacing, usual = _spacing(samples, column)
    over = last >= hour + 60 - spacing.get(hour, usual)
    return pd.Timestamp(hour + 60 * over, unit="m", tz="UTC")


def _minutes(instants: pd.Index) -> list[int]:
    """Instants as minutes since 1970."""
    minutes: list[int] = instants.to_numpy("datetime64[m]").astype("int64").tolist()
    return minutes


def _spacing(samples: Samples, column: str) -> tuple[dict[int, int], int]:
    """Minutes from one slot of a series to the next, by the start of the hour in minutes since
    1970, and those of the hours that are not named.

    A series with a regular spacing keeps it. Otherwise the other series tell as well, as forecasts
    have every slot of the day: they reveal the slots of an hour that is not over, and of an hour in
    which measured samples are missing. An hour of one slot has the day's most frequent spacing.
    """
    own = _distances(samples[column])
    regular = _regular_spacing(own[1])
    spacing = _spacing_by_hour(*own)
    if regular:
        return {hour: min(minutes, regular) for hour, minutes in spacing.items()}, regular
    every = [_distances(values) for values in samples.values()]
    for distances in every:
        for hour, minutes in _spacing_by_hour(*distances).items():
            spacing[hour] = min(minutes, spacing.get(hour, minutes))
    frequent = _most_frequent(np.concatenate([distance for _, distance in every]))
    return spacing, frequent or FINEST_SPACING


def _distances(samples: pd.Series | None) -> tuple[IntArray, IntArray]:
    """The slots of a series, but for the last, and the minutes to the slot that follows."""
    slots = np.unique([] if samples is None else samples.index.to_numpy("datetime64[m]"))
    minutes = slots.astype("int64")
    return minutes[:-1], np.diff(minutes)


def _regular_spacing(distances: IntArray) -> int | None:
    frequent = _most_frequent(distances)
    if frequent is None or len(distances) < SAMPLES_OF_A_RULE:
        return None
    return frequent if (_nearest_spacing(distances) == frequent).mean() >= REGULAR else None


def _most_frequent(distances: IntArray) -> int | None:
    if not len(distances):
        return None
    values, counts = np.unique(_nearest_spacing(distances), return_counts=True)
    return int(values[counts.argmax()])


def _nearest_spacing(distances: npt.NDArray[Any]) -> IntArray:
    """Distances as the spacings of samples, which divide an hour: stamps may be minutes late."""
    nearest: IntArray = SPACINGS[np.abs(np.subtract.outer(distances, SPACINGS)).argmin(axis=1)]
    return nearest


def _spacing_by_hour(slots: IntArray, distances: IntArray) -> dict[int, int]:
    """The mean distance of the slots of each hour that has several."""
    hours = slots - slots % 60
    within = slots + distances < hours + 60
    if not within.any():
        return {}
    hours, distances = hours[within], distances[within]
    starts = np.flatnonzero(np.diff(hours, prepend=-1))
    counts = np.diff(starts, append=len(hours))
    means = np.add.reduceat(distances, starts) / counts
    return dict(zip(hours[starts].tolist(), _nearest_spacing(means).tolist(), strict=True))
