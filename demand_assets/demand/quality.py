"""Rules of quality: what is wrong with a day, how bad it is, and in which words.

Each rule returns a `Finding`. Which asset a rule belongs to, and how Dagster records its result,
is decided in `orchestration/checks.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd

from demand_assets.demand.days import day_hours
from demand_assets.demand.errors import ImplausibleDemandError
from demand_assets.demand.samples import FINEST_SPACING, Samples
from demand_assets.grid import FORECAST, REAL, SERIES, TIME_ZONE, end_of

HOURS_ARE_EXPECTED_WITHIN = timedelta(days=1)
"""How long after a day's end missing hours are yellow, as the sensor still requests them."""
SHOWN_GAPS = 6


@dataclass(frozen=True)
class Finding:
    """The result of one rule. Not passed is yellow, and red if a person has to act."""

    passed: bool
    text: str
    red: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)


def check_hours(
    frame: pd.DataFrame,
    missing: pd.DatetimeIndex,
    day: date,
    now: datetime,
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
        earlier_hours: how many measured hours of the frame the newest answer lacks.
        is_final: no other answer is expected, so that missing hours need no action.
    """
    hours, expected = int(frame[REAL].count()), len(day_hours(day))
    text = f"{hours} of {expected} hours" + ("." if now >= end_of(day) else " so far.")
    if len(missing):
        text += f" {len(missing)} samples are missing: {_describe_gaps(missing)}."
    measured = pd.DatetimeIndex(frame.index[frame[REAL].notna()])
    hours_missing = missing.floor("h").difference(measured)
    if earlier_hours:
        text += f" {earlier_hours} of them are of an earlier answer, as the newest one lacks them."
    late = not hours_missing.empty and now > end_of(day) + HOURS_ARE_EXPECTED_WITHIN
    if late and is_final:
        text += " The operator keeps answering the same: the day is closed short."
    return Finding(
        passed=missing.empty,
        text=text,
        red=late and not is_final,
        figures={"hours": hours, "hours_expected": expected, "samples_missing": len(missing)},
    )


def check_plausible(samples: Samples, day: date) -> Finding:
    """Whether every sample lies in the plausible range of its series.

    Raises:
        ImplausibleDemandError: some do not.
    """
    for series in SERIES:
        values = samples[series.column]
        if values is None:
            continue
        outside = values[(values < series.lowest) | (values > series.highest)]
        if len(outside):
            first = pd.DatetimeIndex(outside.index)[0].tz_convert(TIME_ZONE.key)
            raise ImplausibleDemandError(
                f"{len(outside)} samples of {series.column} cannot be demand, such as"
                f" {outside.iloc[0]:g} {series.unit} at {first:%H:%M}; plausible is"
                f" {series.lowest:,} to {series.highest:,} {series.unit}",
                day,
            )
    return Finding(True, "All samples are in the plausible range of their series.")


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


def _describe_gaps(missing: pd.DatetimeIndex) -> str:
    """Instants as ranges on Madrid's clock, such as `02:05-02:25 (5), 13:40`."""
    is_new_gap = missing.to_series().diff() > pd.Timedelta(minutes=2 * FINEST_SPACING)
    local = missing.tz_convert(TIME_ZONE.key).to_series()
    gaps = []
    for _, gap in local.groupby(is_new_gap.cumsum().to_numpy()):
        first, last = gap.iloc[0], gap.iloc[-1]
        end = f"-{last:%H:%M} ({len(gap)})" if len(gap) > 1 else ""
        gaps.append(f"{first:%H:%M}{end}")
    return ", ".join(gaps[:SHOWN_GAPS]) + (" …" if len(gaps) > SHOWN_GAPS else "")
