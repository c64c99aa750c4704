"""Rules of quality: what is wrong with a day, how bad it is, and in which words.

Each rule returns a `Finding`. Which asset a rule belongs to, and how Dagster records its result,
is decided in `orchestration/checks.py`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from demand_assets.demand import anomalies
from demand_assets.demand.days import day_hours, utc_index
from demand_assets.demand.errors import ImplausibleDemandError
from demand_assets.demand.samples import (
    CLOCK_TOLERANCE,
    FINEST_SPACING,
    Samples,
    contradicted_instants,
    known_samples,
    late_samples,
    samples_until,
)
from demand_assets.grid import FORECAST, REAL, SERIES, TIME_ZONE, Series, end_of

HOURS_ARE_EXPECTED_WITHIN = timedelta(days=1)
"""How long after a day's end missing hours are yellow, as the sensor still requests them."""
MOST_IMPLAUSIBLE = 0.25
"""Share of a day's samples that can be implausible while the hours of the others are stored."""
SHOWN_GAPS = 6
NO_HOURS = pd.DatetimeIndex([], tz="UTC")


@dataclass(frozen=True)
class Finding:
    """The result of one rule. Not passed is yellow, and red if a person has to act."""

    passed: bool
    text: str
    red: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Screened:
    """The samples that can be averaged."""

    samples: Samples
    """NaN in the hours that are left out."""
    left_out: pd.DatetimeIndex
    """UTC hours of measured demand with an implausible sample."""
    finding: Finding


@dataclass(frozen=True)
class Remark:
    """What one rule says about samples that are stored."""

    text: str
    unusual: pd.DatetimeIndex = field(default_factory=lambda: NO_HOURS)
    """UTC instants of measured demand whose hours predict nothing."""


@dataclass(frozen=True)
class Review:
    """What is remarkable about samples that are stored."""

    finding: Finding
    unusual_hours: pd.DatetimeIndex
    """UTC hours of measured demand that predict nothing, such as those with a wild sample."""
    frozen_since: datetime | None
    """Since when measured demand has had the value of its last sample, if for too long."""


def screen(samples: Samples, day: date, now: datetime) -> Screened:
    """Leave out the hours in which a sample cannot be right, and samples later than the present.

    A sample cannot be right outside of the plausible range, or in another unit than MW. On recorded
    days no sample is.

    Raises:
        ImplausibleDemandError: more than a quarter of a required series is, in several hours.
    """
    screened = samples_until(samples, now)
    other_units = anomalies.in_other_units(screened)
    left_out, texts = NO_HOURS, []
    for series in SERIES:
        known = known_samples(screened[series.column])
        v = known.to_numpy()
        wrong = (v < series.lowest) | (v > series.highest)
        unit = other_units.get(series.column)
        if unit:
            wrong |= unit.where
        if not wrong.any():
            continue
        hours = utc_index(known).floor("h")
        wrong_hours = pd.DatetimeIndex(hours[wrong].unique())
        text = _describe_implausible(series, known, wrong, unit)
        if series.required and wrong.mean() > MOST_IMPLAUSIBLE and len(wrong_hours) > 1:
            raise ImplausibleDemandError(text, day)
        texts.append(f"{text}. Left out: {_ranges(wrong_hours, 60)}.")
        screened[series.column] = known.where(~hours.isin(wrong_hours))
        left_out = wrong_hours if series.column == REAL else left_out
    if texts:
        return Screened(screened, left_out, Finding(False, f"{day}: {' '.join(texts)}"))
    fine = Finding(True, "All samples are in the plausible range of their series.")
    return Screened(screened, left_out, fine)


def check_hours(
    frame: pd.DataFrame,
    missing: pd.DatetimeIndex,
    day: date,
    now: datetime,
    left_out: pd.DatetimeIndex = NO_HOURS,
    *,
    earlier_hours: int = 0,
    is_final: bool = False,
) -> Finding:
    """Whether all hours that are over are measured, and from all their samples.

    Args:
        frame: the day's hourly frame.
        missing: UTC instants of missing samples, see `samples.missing_samples`.
        day: the Madrid day.
        now: the present, aware.
        left_out: UTC hours that `screen` has left out.
        earlier_hours: how many measured hours of the frame the newest answer lacks.
        is_final: no other answer is expected, so that missing hours need no action.
    """
    hours, expected = int(frame[REAL].count()), len(day_hours(day))
    text = f"{hours} of {expected} hours" + ("." if now >= end_of(day) else " so far.")
    if len(missing):
        text += f" {len(missing)} samples are missing: {_describe_gaps(missing)}."
    if len(left_out):
        text += f" Left out as implausible: {_ranges(left_out, 60)}."
    measured = pd.DatetimeIndex(frame.index[frame[REAL].notna()])
    hours_missing = missing.floor("h").difference(measured)
    if earlier_hours:
        text += f" {earlier_hours} of them are of an earlier answer, as the newest one lacks them."
    late = not hours_missing.empty and now > end_of(day) + HOURS_ARE_EXPECTED_WITHIN
    if late and is_final:
        text += " The operator keeps answering the same: the day is closed short."
    return Finding(
        passed=missing.empty and left_out.empty,
        text=text,
        red=late and not is_final,
        figures={"hours": hours, "hours_expected": expected, "samples_missing": len(missing)},
    )


def review(
    samples: Samples, screened: Samples, frame: pd.DataFrame, day: date, now: datetime
) -> Review:
    """What is remarkable about the samples of a day, besides what `screen` leaves out.

    Args:
        samples: as received.
        screened: those that were averaged.
        frame: the day's hourly frame.
        day: the Madrid day.
        now: the present, aware.
    """
    known = {series: known_samples(screened[series.column]).dropna() for series in SERIES}
    remarks = [
        *(r for series, values in known.items() for r in _remarks_on_curve(series, values)),
        *_remarks_on_instants(samples, day, now),
        *_remarks_on_level(screened, frame),
    ]
    measured = utc_index(frame)[frame[REAL].notna().to_numpy()]
    unusual = {hour for remark in remarks for hour in remark.unusual.floor("h")}
    text = " ".join(f"{remark.text}." for remark in remarks)
    return Review(
        Finding(not remarks, f"{day}: {text}" if remarks else "No sample is remarkable."),
        unusual_hours=measured[measured.isin(unusual)] if unusual else NO_HOURS,
        frozen_since=_frozen_since(known),
    )


def _remarks_on_curve(series: Series, known: pd.Series) -> Iterator[Remark]:
    """Samples that do not change, and samples that change too much."""
    instants = utc_index(known)
    for start, stop in anomalies.frozen_stretches(known, series.most_equal)[:SHOWN_GAPS]:
        stretch = instants[start:stop]
        value = f"{known.iloc[start]:,.0f} {series.unit}"
        text = f"{series.column} has the same value, {value}, in {len(stretch)} samples running"
        yield _remark(series, f"{text}: {_clock(stretch[0])}-{_clock(stretch[-1])}", stretch)
    jumps = anomalies.jumps(known, series.largest_step)
    if not jumps.any():
        return
    wild = anomalies.wild_samples(known, series.largest_step)
    if wild.any():
        shown = ", ".join(
            f"{value:,.0f} {series.unit} at {_clock(instant)}"
            for instant, value in zip(instants[wild][:SHOWN_GAPS], known[wild], strict=False)
        )
        text = f"{int(wild.sum())} samples of {series.column} stand out from those around them"
        yield _remark(series, f"{text}: {shown}", instants[wild])
    steps = np.flatnonzero(jumps & ~wild & ~np.append(False, wild[:-1]))
    for step in steps[:SHOWN_GAPS]:
        change = known.iloc[step] / known.iloc[step - 1] - 1
        text = f"{series.column} changes by {change:+.0%} at {_clock(instants[step])}"
        yield _remark(series, text, instants[step - 1 : step + 1])


def _remarks_on_instants(samples: Samples, day: date, now: datetime) -> Iterator[Remark]:
    """Several values at one instant, samples of the future, and stamps between the slots."""
    for series in SERIES:
        twice = contradicted_instants(samples[series.column])
        if len(twice):
            text = f"{series.column} has different values at {len(twice)} instants"
            text += f", of which the last is used: {_describe_gaps(twice)}"
            if len(day_hours(day)) != 24:
                text += ". Clocks change on this day: the offsets of its stamps may be wrong"
            yield _remark(series, text, twice)
    measured = known_samples(samples[REAL]).index
    later = measured[measured > pd.Timestamp(now) + CLOCK_TOLERANCE]
    if len(later):
        text = f"{len(later)} measured samples are later than the present"
        yield Remark(f"{text} and not used: {_describe_gaps(pd.DatetimeIndex(later))}")
    late = late_samples(samples)
    if len(late):
        minutes = " to ".join(dict.fromkeys(f"{m:.2g}" for m in (late.min(), late.max())))
        text = f"{len(late)} measured samples are stamped {minutes} minutes late"
        yield Remark(f"{text}; each counts for the slot in which it is")


def _remarks_on_level(screened: Samples, frame: pd.DataFrame) -> Iterator[Remark]:
    """Measured demand that is its forecast, is far from it, or is not at its level."""
    real, forecast = known_samples(screened[REAL]), known_samples(screened[FORECAST])
    for copied in anomalies.copied_stretches(real, forecast)[:SHOWN_GAPS]:
        text = f"{len(copied)} samples of {REAL} equal {FORECAST}"
        yield Remark(f"{text}: {_clock(copied[0])}-{_clock(copied[-1])}", copied)
    apart = anomalies.differing_hours(frame)
    if len(apart):
        largest = math.exp(apart.iloc[int(apart.abs().argmax())]) - 1
        text = f"{REAL} differs from {FORECAST} by up to {largest:+.0%} in {len(apart)} hours"
        yield Remark(f"{text}: {_ranges(utc_index(apart), 60)}", utc_index(apart))
    if anomalies.has_unusual_level(screened):
        text = f"No sample of {REAL} is higher than {real.max():,.0f} MW"
        yield Remark(f"{text}, and there is no {FORECAST} to compare with")


def _remark(series: Series, text: str, instants: pd.DatetimeIndex) -> Remark:
    return Remark(text, instants if series.column == REAL else NO_HOURS)


def _frozen_since(known: Mapping[Series, pd.Series]) -> datetime | None:
    for series, values in known.items():
        stretches = anomalies.frozen_stretches(values, series.most_equal)
        if series.column == REAL and stretches and stretches[-1][1] == len(values):
            return utc_index(values)[stretches[-1][0]].to_pydatetime()
    return None


def check_forecast(frame: pd.DataFrame, day: date) -> Finding:
    """Whether the operator's forecast is known for every hour of the day."""
    hours, expected = int(frame[FORECAST].count()), len(day_hours(day))
    return Finding(
        passed=hours == expected,
        text=f"{hours} of {expected} hours have a forecast.",
        figures={"hours": hours, "hours_expected": expected},
    )


def check_stored(written: pd.DataFrame, stored: pd.DataFrame) -> Finding:
    """Whether the hours read back from the store are those that were written, value for value.

    Values that only the store has come from an earlier answer, as points are never deleted.
    """
    expected, found = written.stack().dropna(), stored.stack().dropna()
    missing = expected.index.difference(found.index)
    both = expected.index.intersection(found.index)
    different = both[expected[both].to_numpy() != found[both].to_numpy()]
    older = found.index.difference(expected.index)
    differences = "; ".join(
        f"{len(values)} {what}, such as {values[0][1]} of {values[0][0]:%F %R} UTC"
        for what, values in (
            ("missing", missing),
            ("different", different),
            ("of an earlier answer", older),
        )
        if len(values)
    )
    equal = f"{len(both) - len(different)} of {len(expected)} values are stored as written"
    return Finding(
        passed=not differences,
        text=f"{equal}; {differences}." if differences else f"{equal}.",
        red=len(missing) + len(different) > 0,
        figures={"values_written": len(expected), "values_found": len(found)},
    )


def _describe_implausible(
    series: Series, known: pd.Series, wrong: anomalies.BoolArray, unit: anomalies.OtherUnit | None
) -> str:
    first = int(wrong.argmax())
    text = (
        f"{int(wrong.sum())} samples of {series.column} cannot be demand, such as"
        f" {known.iloc[first]:g} {series.unit} at {_clock(utc_index(known)[first])}; plausible is"
        f" {series.lowest:,} to {series.highest:,} {series.unit}"
    )
    return f"{text}. They are {anomalies.name_of_unit(unit.log_factor)}" if unit else text


def _describe_gaps(instants: pd.DatetimeIndex) -> str:
    """Instants of slots as ranges on Madrid's clock, such as `02:05-02:25 (5), 13:40`."""
    return _ranges(instants, 2 * FINEST_SPACING)


def _ranges(instants: pd.DatetimeIndex, minutes: int) -> str:
    """Instants as ranges on Madrid's clock; further apart than some minutes they are two ranges."""
    is_new_range = instants.to_series().diff() > pd.Timedelta(minutes=minutes)
    ranges = []
    for _, part in instants.to_series().groupby(is_new_range.cumsum().to_numpy()):
        end = f"-{_clock(part.iloc[-1])} ({len(part)})" if len(part) > 1 else ""
        ranges.append(f"{_clock(part.iloc[0])}{end}")
    return ", ".join(ranges[:SHOWN_GAPS]) + (" …" if len(ranges) > SHOWN_GAPS else "")


def _clock(instant: pd.Timestamp) -> str:
    return f"{instant.tz_convert(TIME_ZONE.key):%H:%M}"
