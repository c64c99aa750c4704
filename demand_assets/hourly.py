"""From the operator's answer for a day to its hourly frame, and the figures that describe it.

Pure pandas. A frame has a UTC ``DatetimeIndex`` named ``time`` (start of the hour) and the float64
columns ``RealDemand`` and ``ForecastDemand``, both in MW.
"""

import hashlib
import itertools
import math
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from demand_assets.redata import (
    FORECAST_DEMAND,
    MADRID,
    REAL_DEMAND,
    Answer,
    REDataError,
    check_shape,
    sample_time,
)

REAL = "RealDemand"
FORECAST = "ForecastDemand"
SERIES = {REAL: REAL_DEMAND, FORECAST: FORECAST_DEMAND}
"""Column of the frame → id of the API's series. A new indicator is one more entry."""

Samples = dict[str, pd.Series | None]
"""A day's samples by column, in MW over UTC time; None where the API left the series out. A null
is a NaN: its slot exists, its value does not."""

FINEST_SPACING = 5
"""Minutes between samples since 2022-05-23; before, there were 10."""
LEAST_MW, MOST_MW = 5_000, 60_000
"""Peninsular Spain's record is 45,450 MW (December 2007); in the blackout of April 2025 some 10,000
were left. What lies far outside is no demand but a broken meter or a placeholder."""


class ImplausibleDemandError(REDataError):
    """A value that cannot be the demand of peninsular Spain."""

    advice = "Nothing of it went to the database; materialize the day again once it is revised."


class NoRealDemandError(REDataError):
    """The day's answer holds no measured demand where there must be some."""

    advice = "Nothing of it went to the database; materialize the day again later."


def read_day(answer: Answer, day: date) -> Samples:
    """The samples of the series kept.

    Raises:
        MalformedAnswerError: the answer has another shape, or a sample no number or no time.
    """
    check_shape(answer, day)
    return {column: read_samples(answer, series) for column, series in SERIES.items()}


def hourly_frame(samples: Samples, day: date, *, now: datetime) -> pd.DataFrame:
    """The hourly means of one day.

    ``RealDemand`` is kept for hours that are over: those with a sample in their last slot, or
    followed by any later sample. ``ForecastDemand`` is kept for the whole day. Hours in which
    neither is known are left out.

    Args:
        samples: what the API said of the day.
        day: the Madrid day, of 23, 24 or 25 hours.
        now: the present, aware; a day that is past must have measured demand.

    Raises:
        NoRealDemandError: no measured series, or none of its hours known on a day that is past.
    """
    if samples[REAL] is None:
        raise NoRealDemandError("the answer has no series of measured demand", day)
    frame = pd.DataFrame(
        {
            column: pd.Series(dtype="float64") if values is None else _hourly_means(values)
            for column, values in samples.items()
        },
        index=day_hours(day),
    )
    frame.loc[frame.index >= _end_of_measured_hours(samples), REAL] = math.nan
    if frame[REAL].isna().all() and day < now.astimezone(MADRID).date():
        raise NoRealDemandError("the day is past, and none of its hours has measured demand", day)
    frame = frame.dropna(how="all")
    frame.index.freq = None  # type: ignore[attr-defined]  # equal to the frame read back from a store
    return frame


def check_plausible(samples: Samples, day: date) -> None:
    """Make sure that every sample kept could be demand.

    Raises:
        ImplausibleDemandError: some lie outside of ``LEAST_MW`` … ``MOST_MW``.
    """
    for column, values in samples.items():
        if values is None:
            continue
        odd = values[(values < LEAST_MW) | (values > MOST_MW)]
        if len(odd):
            when = _utc(odd)[0].tz_convert(MADRID.key)
            raise ImplausibleDemandError(
                f"{len(odd)} samples of {column} cannot be demand,"
                f" such as {odd.iloc[0]:g} MW at {when:%H:%M}",
                day,
            )


def missing_samples(samples: Samples, day: date, *, now: datetime) -> pd.DatetimeIndex:
    """When measured demand is unknown in hours that are over: the UTC instants of the samples.

    An hour has as many slots as its finest spacing says. On a day that is past all hours are over;
    today those up to the newest one measured.
    """
    hours = day_hours(day)
    if day >= now.astimezone(MADRID).date():
        hours = hours[hours < _end_of_measured_hours(samples)]
    real = samples[REAL]
    known = set() if real is None else set(_minutes(real.dropna()))
    spacing = _spacing(samples)
    missing = [
        minute
        for hour in _minutes(hours)
        for minute in range(hour, hour + 60, spacing.get(hour, FINEST_SPACING))
        if minute not in known
    ]
    return pd.DatetimeIndex(np.array(missing, dtype="datetime64[m]"), tz="UTC").as_unit("ns")


def day_hours(day: date) -> pd.DatetimeIndex:
    """The 23, 24 or 25 hours of a Madrid day, as UTC starts."""
    return _day_hours(day).copy(deep=True)


@lru_cache(maxsize=512)
def _day_hours(day: date) -> pd.DatetimeIndex:
    # Asked for nine times a day, and slow to make.
    midnight = pd.Timestamp(day, tz=MADRID.key)
    next_midnight = pd.Timestamp(day + timedelta(days=1), tz=MADRID.key)
    return pd.date_range(
        midnight.tz_convert("UTC"),
        next_midnight.tz_convert("UTC"),
        freq="h",
        inclusive="left",
        name="time",
    )


def day_of_hours(frame: pd.DataFrame) -> pd.Index:
    """The Madrid day (``YYYY-MM-DD``) of each row of a frame."""
    index = frame.index
    assert isinstance(index, pd.DatetimeIndex)
    return index.tz_convert(MADRID.key).strftime("%Y-%m-%d")


def frames_by_day(frame: pd.DataFrame, keys: Iterable[str]) -> dict[str, pd.DataFrame]:
    """The hours of each of the days, some of which may have none."""
    days = dict(iter(frame.groupby(day_of_hours(frame))))
    return {key: days.get(key, frame.iloc[:0]) for key in keys}


def read_samples(answer: Answer, series_id: str) -> pd.Series | None:
    """One series' samples in MW over UTC time, sorted; None where the series is missing.

    A null stays as NaN: its slot exists, its value does not. Of two values at one instant the
    last wins.
    """
    series = next((s for s in answer["included"] if str(s["id"]) == series_id), None)
    if series is None:
        return None
    values = series["attributes"]["values"]
    times = pd.to_datetime([sample_time(sample) for sample in values], utc=True)
    samples = pd.Series([s.get("value") for s in values], index=times, dtype="float64")
    known = samples.notna().to_numpy()
    slots = pd.concat([samples[~known], samples[known]])
    return slots[~slots.index.duplicated(keep="last")].sort_index()


def _utc(samples: pd.Series) -> pd.DatetimeIndex:
    assert isinstance(samples.index, pd.DatetimeIndex)
    return samples.index


def _hourly_means(samples: pd.Series) -> pd.Series:
    known = samples.dropna()
    return known.groupby(_utc(known).floor("h")).mean()


def _spacing(samples: Samples) -> dict[int, int]:
    """Minutes from one slot to the next, by the start of the hour in minutes since 1970.

    The forecast has every slot of the day, so it tells those of an hour still running or of one
    in which measured samples are missing.
    """
    slots = {
        minute for values in samples.values() if values is not None for minute in _minutes(values)
    }
    spacing: dict[int, int] = {}
    for slot, following in itertools.pairwise(sorted(slots)):
        hour = slot - slot % 60
        if following < hour + 60:
            nearest = min(following - slot, spacing.get(hour, 60))
            spacing[hour] = max(nearest, FINEST_SPACING)
    return spacing


def _end_of_measured_hours(samples: Samples) -> pd.Timestamp:
    """The end of the last hour that is over, told by the last measured sample."""
    real = samples[REAL]
    known = [] if real is None else _minutes(real.dropna())
    last = known[-1] if known else 0
    hour = last - last % 60
    over = last >= hour + 60 - _spacing(samples).get(hour, FINEST_SPACING)
    return pd.Timestamp(hour + 60 * over, unit="m", tz="UTC")


def _minutes(instants: pd.Series | pd.DatetimeIndex) -> list[int]:
    """Instants, or those of a series, as minutes since 1970."""
    index = instants if isinstance(instants, pd.DatetimeIndex) else _utc(instants)
    return index.to_numpy("datetime64[m]").astype("int64").tolist()


def digest(demand_mw: pd.Series) -> str:
    """A word that stands for hours and their values, whatever is unknown left out."""
    known = demand_mw.dropna()
    told = hashlib.sha256(_utc(known).to_numpy("datetime64[s]").tobytes())
    told.update(known.to_numpy("float64").tobytes())
    return told.hexdigest()[:16]


def describe_answer(answer: Answer) -> dict[str, Any]:
    """What a day's answer holds: samples, their resolution in minutes, the last one, last-update.

    Keys whose value is unknown are left out.
    """
    real = read_samples(answer, REAL_DEMAND)
    known = pd.Series(dtype="float64") if real is None else real.dropna()
    described: dict[str, Any] = {"samples": len(known)}
    if len(known) > 1:
        spacings = pd.Series(_utc(known)).diff().dropna() // pd.Timedelta(minutes=1)
        most_frequent = spacings.astype(int).value_counts().index[:2]
        described["resolution"] = " and ".join(f"{m} min" for m in sorted(most_frequent))
    if len(known):
        described["last_sample"] = _utc(known)[-1].tz_convert(MADRID.key)
    match answer.get("data"):
        case {"attributes": {"last-update": update}} if update:
            described["last_update"] = str(update)
    return described


def describe_frame(frame: pd.DataFrame, day: date) -> dict[str, Any]:
    """The figures of a day: its hours, its demand in MW, and how good the forecast was.

    Bias is the mean of forecast minus real in MW; MAPE is the mean absolute percentage error, over
    the hours in which both are known. Keys whose value is unknown are left out.
    """
    real, forecast = frame[REAL].dropna(), frame[FORECAST].dropna()
    described: dict[str, Any] = {"hours": len(real), "hours_expected": len(day_hours(day))}
    if len(real):
        described |= {
            "peak_mw": float(real.max()),
            "peak_at": real.idxmax().tz_convert(MADRID.key),  # type: ignore[union-attr]
            "mean_real_mw": float(real.mean()),
            "last_hour": _utc(real)[-1].tz_convert(MADRID.key),
        }
    if len(forecast):
        described["mean_forecast_mw"] = float(forecast.mean())
    error = (frame[FORECAST] - frame[REAL]).dropna()
    if len(error):
        described["forecast_bias_mw"] = float(error.mean())
        mape = float((error.abs() / real[error.index]).mean() * 100)
        if math.isfinite(mape):  # an hour of zeros has no percentage
            described["forecast_mape_percent"] = mape
    return described
