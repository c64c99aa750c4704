"""Samples of a day: values of the operator every 5, 10 or 60 minutes, and the slots between them.

A slot is an instant at which a sample is due. What a client received becomes `Samples` here; what
is computed from them belongs in `hourly`, `quality` and `figures`.
"""

import itertools
from collections.abc import Iterable
from datetime import date, datetime

import numpy as np
import pandas as pd

from demand_assets.demand.days import day_hours
from demand_assets.grid import REAL, local_date

Samples = dict[str, pd.Series | None]
"""Samples of a day by column, MW over UTC time; None if the API left the series out. A NaN is a
slot without a value."""

FINEST_SPACING = 5
"""Minutes between samples since 2022-05-23; before that there were 10."""


def to_samples(values: Iterable[tuple[datetime, float | None]] | None) -> pd.Series | None:
    """One series in MW over UTC time, sorted, without duplicates; None if there is no series.

    A null becomes NaN. Of several values at one instant the last known one is kept.

    Args:
        values: aware instants and their values, in the order of the answer.
    """
    if values is None:
        return None
    instants, numbers = zip(*values, strict=True) if (values := list(values)) else ((), ())
    index = pd.to_datetime(list(instants), utc=True)
    samples = pd.Series(list(numbers), index=index, dtype="float64")
    known = samples.notna().to_numpy()
    slots = pd.concat([samples[~known], samples[known]])
    return slots[~slots.index.duplicated(keep="last")].sort_index()


def missing_samples(samples: Samples, day: date, *, now: datetime) -> pd.DatetimeIndex:
    """The UTC instants at which measured demand is unknown, in hours that are over.

    An hour has as many slots as its finest spacing requires. On a past day all hours are over,
    today those up to the newest measured one.
    """
    hours = day_hours(day)
    if day >= local_date(now):
        hours = hours[hours < end_of_measured_hours(samples)]
    real = samples[REAL]
    known = set() if real is None else set(_minutes(real.dropna().index))
    spacing = _spacing(samples)
    missing = [
        minute
        for hour in _minutes(hours)
        for minute in range(hour, hour + 60, spacing.get(hour, FINEST_SPACING))
        if minute not in known
    ]
    return pd.DatetimeIndex(np.array(missing, dtype="datetime64[m]"), tz="UTC").as_unit("ns")


def end_of_measured_hours(samples: Samples, column: str = REAL) -> pd.Timestamp:
    """The end of the newest hour of a measured series that is over.

    An hour is over once its last slot has a sample, or any later sample exists.
    """
    measured = samples[column]
    known = [] if measured is None else _minutes(measured.dropna().index)
    last = known[-1] if known else 0
    hour = last - last % 60
    over = last >= hour + 60 - _spacing(samples).get(hour, FINEST_SPACING)
    return pd.Timestamp(hour + 60 * over, unit="m", tz="UTC")


def _minutes(instants: pd.Index) -> list[int]:
    """Instants as minutes since 1970."""
    return [int(minute) for minute in instants.to_numpy("datetime64[m]").astype("int64")]


def _spacing(samples: Samples) -> dict[int, int]:
    """Minutes from one slot to the next, by the start of the hour in minutes since 1970.

    Forecasts have every slot of the day, so they reveal the slots of an hour that is not over, and
    of an hour in which measured samples are missing.
    """
    slots = {slot for s in samples.values() if s is not None for slot in _minutes(s.index)}
    spacing: dict[int, int] = {}
    for slot, following in itertools.pairwise(sorted(slots)):
        hour = slot - slot % 60
        if following < hour + 60:
            nearest = min(following - slot, spacing.get(hour, 60))
            spacing[hour] = max(nearest, FINEST_SPACING)
    return spacing
