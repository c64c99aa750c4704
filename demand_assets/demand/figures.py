"""The figures of a day, for metadata, and the fingerprint of its hours."""

import hashlib
import math
from collections.abc import Iterable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from demand_assets.demand.days import day_hours, utc_index
from demand_assets.demand.samples import known_samples
from demand_assets.grid import FORECAST, REAL, SERIES, TIME_ZONE, end_of, start_of


def fingerprint(hours: pd.Series) -> str:
    """A short text that changes if and only if the known hours or their values change."""
    known = hours.dropna()
    content = hashlib.sha256(utc_index(known).to_numpy("datetime64[s]").tobytes())
    content.update(known.to_numpy("float64").tobytes())
    return content.hexdigest()[:16]


def hours_fingerprints(frame: pd.DataFrame, days: Iterable[date]) -> dict[date, str]:
    """For each day a short text that changes if and only if its hours change, in any column.

    Columns without a known hour do not count, so that a new series leaves the text of older days.

    Args:
        frame: hours by UTC start, sorted, one float column per field.
        days: Madrid days; one without hours has the text of an empty day.
    """
    columns = []
    for name in sorted(frame.columns):
        known = frame[name].dropna()
        columns.append(
            (name.encode(), utc_index(known).to_numpy("datetime64[s]"), known.to_numpy())
        )
    fingerprints = {}
    for day in days:
        bounds = [int(moment.timestamp()) for moment in (start_of(day), end_of(day))]
        content = hashlib.sha256()
        for encoded, times, values in columns:
            first, last = np.searchsorted(times, np.array(bounds, "datetime64[s]"))
            if first < last:
                content.update(encoded + times[first:last].tobytes() + values[first:last].tobytes())
        fingerprints[day] = content.hexdigest()[:16]
    return fingerprints


def describe_samples(real: pd.Series | None) -> dict[str, Any]:
    """The number of measured samples, their spacing in minutes, and the time of the last one.

    Keys whose value is unknown are left out.
    """
    known = known_samples(real)
    described: dict[str, Any] = {"samples": len(known)}
    if len(known) > 1:
        spacings = pd.Series(utc_index(known)).diff().dropna() // pd.Timedelta(minutes=1)
        most_frequent = spacings.astype(int).value_counts().index[:2]
        described["resolution"] = " and ".join(f"{m} min" for m in sorted(most_frequent))
    if len(known):
        described["last_sample"] = utc_index(known)[-1].tz_convert(TIME_ZONE.key)
    return described


def describe_frame(frame: pd.DataFrame, day: date) -> dict[str, Any]:
    """The hours of a day, its demand in MW, and the errors of the operator's forecast.

    Bias is the mean of forecast minus measured demand in MW; MAPE is the mean absolute percentage
    error, over the hours in which both are known. Keys whose value is unknown are left out.
    """
    real = frame[REAL].dropna()
    described: dict[str, Any] = {"hours": len(real), "hours_expected": len(day_hours(day))}
    if len(real):
        described |= {
            "peak_mw": float(real.max()),
            "peak_at": utc_index(real)[int(real.argmax())].tz_convert(TIME_ZONE.key),
            "last_hour": utc_index(real)[-1].tz_convert(TIME_ZONE.key),
        }
    for series in SERIES:
        if frame[series.column].notna().any():
            described[f"mean_{series.name}_mw"] = float(frame[series.column].mean())
    error = (frame[FORECAST] - frame[REAL]).dropna()
    if len(error):
        described["forecast_bias_mw"] = float(error.mean())
        mape = float((error.abs() / real[error.index]).mean() * 100)
        if math.isfinite(mape):  # an hour of zeros has no percentage
            described["forecast_mape_percent"] = mape
    return described
