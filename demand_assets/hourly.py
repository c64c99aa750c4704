"""From the operator's answer for a day to its hourly frame, and the figures that describe it.

Pure pandas. A frame has a UTC ``DatetimeIndex`` named ``time`` (start of the hour) and the float64
columns ``RealDemand`` and ``ForecastDemand``, both in MW.
"""

import math
from datetime import date, datetime, timedelta
from typing import Any

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


LEAST_MW, MOST_MW = 10_000, 60_000
"""Peninsular Spain has drawn between 15,000 and 45,450 MW since 2007; what lies far outside is no
demand but a broken meter or a placeholder."""


class ImplausibleDemandError(REDataError):
    """A value that cannot be the demand of peninsular Spain."""

    advice = "Nothing of it went to the database; materialize the day again once it is revised."


class NoRealDemandError(REDataError):
    """The day's answer holds no measured demand where there must be some."""

    advice = "Nothing of it went to the database; materialize the day again later."


def hourly_frame(answer: Answer, day: date, *, now: datetime) -> pd.DataFrame:
    """The hourly means of one day.

    ``RealDemand`` is kept for hours that are over: those with a sample in their last slot, or
    followed by any later sample. ``ForecastDemand`` is kept for the whole day. Hours in which
    neither is known are left out.

    Args:
        answer: what the API said of the day.
        day: the Madrid day, of 23, 24 or 25 hours.
        now: the present, aware; a day that is past must have measured demand.

    Raises:
        MalformedAnswerError: the answer has another shape, or a sample no number or no time.
        NoRealDemandError: no measured series, or none of its hours known on a day that is past.
    """
    check_shape(answer, day)
    samples = {column: read_samples(answer, series) for column, series in SERIES.items()}
    real = samples[REAL]
    if real is None:
        raise NoRealDemandError("the answer has no series of measured demand", day)
    frame = pd.DataFrame(
        {
            column: pd.Series(dtype="float64") if values is None else _hourly_means(values)
            for column, values in samples.items()
        },
        index=day_hours(day),
    )
    frame.loc[frame.index >= _end_of_measured_hours(real, samples[FORECAST]), REAL] = math.nan
    if frame[REAL].isna().all() and day < now.astimezone(MADRID).date():
        raise NoRealDemandError("the day is past, and none of its hours has measured demand", day)
    frame = frame.dropna(how="all")
    frame.index.freq = None  # type: ignore[attr-defined]  # equal to the frame read back from a store
    return frame


def check_plausible(answer: Answer, day: date) -> None:
    """Make sure that every sample kept could be demand.

    Raises:
        ImplausibleDemandError: some lie outside of ``LEAST_MW`` … ``MOST_MW``.
    """
    for column, series in SERIES.items():
        samples = read_samples(answer, series)
        if samples is None:
            continue
        odd = samples[(samples < LEAST_MW) | (samples > MOST_MW)]
        if len(odd):
            when = _utc(odd)[0].tz_convert(MADRID.key)
            raise ImplausibleDemandError(
                f"{len(odd)} samples of {column} cannot be demand,"
                f" such as {odd.iloc[0]:g} MW at {when:%H:%M}",
                day,
            )


def day_hours(day: date) -> pd.DatetimeIndex:
    """The 23, 24 or 25 hours of a Madrid day, as UTC starts."""
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


def _end_of_measured_hours(real: pd.Series, forecast: pd.Series | None) -> pd.Timestamp:
    """The end of the last hour that is over, told by the last measured sample."""
    known = _utc(real.dropna())
    if known.empty:
        return pd.Timestamp.min.tz_localize("UTC")
    last = known[-1]
    hour = last.floor("h")
    next_hour = hour + pd.Timedelta(hours=1)
    # The forecast has every slot of the day, so it tells the slots of an hour still running.
    slots = _utc(real) if forecast is None else _utc(real).union(_utc(forecast))
    spacing = slots[(slots >= hour) & (slots < next_hour)].to_series().diff().min()
    last_slot = next_hour - (pd.Timedelta(minutes=5) if pd.isna(spacing) else spacing)
    return next_hour if last >= last_slot else hour


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
