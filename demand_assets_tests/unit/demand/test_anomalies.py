"""Well-formed answers that are wrong are never stored and green; right ones are not refused."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_assets.demand import anomalies
from demand_assets.demand.days import day_hours, utc_index
from demand_assets.demand.errors import ImplausibleDemandError
from demand_assets.demand.hourly import hourly_frame
from demand_assets.demand.quality import check_forecast, check_hours, review, screen
from demand_assets.demand.samples import Samples, missing_samples, to_samples
from demand_assets.grid import FORECAST, REAL, REAL_DEMAND, TIME_ZONE
from demand_assets.redata import read_samples
from demand_assets.simulator import Fault, Simulator
from demand_assets_tests.conftest import LONG_AFTER, recorded_answer

TEN_MINUTES, FIVE_MINUTES = date(2022, 2, 9), date(2023, 2, 15)
DAYS = pytest.mark.parametrize("day", [TEN_MINUTES, FIVE_MINUTES], ids=str)
CLOCK_CHANGES = [date(2022, 3, 27), date(2022, 10, 30)]
MAY_10 = date(2023, 5, 10)
properties = settings(max_examples=60, deadline=None, derandomize=True)


@dataclass
class Judged:
    """A day as the checks show it."""

    color: str
    text: str
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)
    unusual: list[str] = field(default_factory=list)
    frozen_since: datetime | None = None


def judge(samples: Samples, day: date, now: datetime = LONG_AFTER) -> Judged:
    try:
        screened = screen(samples, day, now)
    except ImplausibleDemandError as error:
        return Judged("red", str(error))
    frame = hourly_frame(screened.samples, day, now=now)
    reviewed = review(samples, screened.samples, frame, day, now)
    missing = missing_samples(samples, day, now=now)
    findings = [
        check_hours(frame, missing, day, now, screened.left_out),
        screened.finding,
        check_forecast(frame, day),
        reviewed.finding,
    ]
    failed = [finding for finding in findings if not finding.passed]
    unusual = list(reviewed.unusual_hours.tz_convert(TIME_ZONE.key).strftime("%H:%M"))
    color, text = "yellow" if failed else "green", " ".join(finding.text for finding in failed)
    return Judged(color, text, frame, unusual, reviewed.frozen_since)


def samples_of(day: date, fault: str = "", now: datetime = LONG_AFTER) -> Samples:
    """The samples of a synthetic day, with a fault of the simulator."""
    api = Simulator(clock=lambda: now, faults={"*": fault} if fault else {})
    span = f"start_date={day}T00:00&end_date={day}T23:59&time_trunc=hour"
    target = f"/en/datos/demanda/demanda-tiempo-real?{span}"
    return read_samples(json.loads(api.answer(target).body), day)


def series(samples: Samples, column: str = REAL) -> pd.Series:
    values = samples[column]
    assert values is not None
    return values


def between(values: pd.Series, day: date, first: str, last: str) -> np.ndarray:
    """Which samples are in a stretch of Madrid's clock, both ends included."""
    start, end = (
        datetime.combine(day, time.fromisoformat(clock), TIME_ZONE) for clock in (first, last)
    )
    index = pd.DatetimeIndex(values.index)
    return np.asarray((index >= pd.Timestamp(start)) & (index <= pd.Timestamp(end)))


# Right values


def test_recorded_days_are_green(recordings: Path) -> None:
    days = sorted(date.fromisoformat(p.name[:10]) for p in recordings.glob("202[123]-*.json.gz"))
    for day in {*days[::9], *CLOCK_CHANGES, date(2022, 5, 23), date(2023, 3, 26)} & {*days}:
        judged = judge(read_samples(recorded_answer(recordings, day), day), day)
        assert (judged.color, judged.text) == ("green", "")


@pytest.mark.parametrize("day", [TEN_MINUTES, FIVE_MINUTES, *CLOCK_CHANGES, date(2022, 5, 23)])
def test_synthetic_days_are_green_at_any_time(day: date) -> None:
    assert judge(samples_of(day), day).color == "green"
    for minutes in range(5, 24 * 60, 97):
        now = datetime.combine(day, time(), TIME_ZONE) + timedelta(minutes=minutes)
        assert judge(samples_of(day, now=now), day, now).color == "green"


def blackout(samples: Samples, day: date, lowest: float, hours: float = 5) -> Samples:
    """-40 % in one step at 12:30, down to the lowest value in half an hour, and slowly back."""
    real = series(samples).copy()
    after = between(real, day, "12:30", "23:59")
    minutes = np.arange(after.sum()) * (24 - 12.5) * 60 / after.sum()
    v, dice = real.to_numpy()[after], np.random.default_rng(1)
    down = np.interp(minutes, [0, 30], [0.6 * v[0], lowest]) + dice.normal(0, 40, len(v))
    back = np.clip((minutes - 60 * hours) / (20 * 60), 0, 1)
    real[after] = (down + (v - down) * back).round()
    return {**samples, REAL: real}


@DAYS
@pytest.mark.parametrize("lowest", [8_000, 10_000, 14_000])
def test_a_blackout_is_stored_and_yellow(day: date, lowest: float) -> None:
    dark = blackout(samples_of(day), day, lowest)
    judged = judge(dark, day)
    assert judged.color == "yellow"
    assert len(judged.frame[REAL].dropna()) == 24
    assert "12:30" in judged.text
    assert judged.unusual[:5] == ["12:00", "13:00", "14:00", "15:00", "16:00"]
    for hour in (12, 13, 16, 20):
        now = datetime.combine(day, time(hour, 55), TIME_ZONE)
        known = series(dark)[between(series(dark), day, "00:00", f"{hour}:50")]
        assert judge({**dark, REAL: known}, day, now).color == "yellow"


def test_the_night_after_a_blackout_is_not_refused() -> None:
    samples = samples_of(FIVE_MINUTES)
    night = series(samples)[between(series(samples), FIVE_MINUTES, "00:00", "03:00")]
    falling = night * np.linspace(0.3, 0.6, len(night))
    now = datetime.combine(FIVE_MINUTES, time(3, 5), TIME_ZONE)
    for forecast in (samples[FORECAST], None):
        judged = judge({REAL: falling.round(), FORECAST: forecast}, FIVE_MINUTES, now)
        assert judged.color == "yellow"
        assert len(judged.frame[REAL].dropna()) == 3


def test_without_a_forecast_no_unit_is_decided() -> None:
    samples = samples_of(FIVE_MINUTES) | {FORECAST: None}
    assert judge(samples, FIVE_MINUTES).text == "0 of 24 hours have a forecast."
    quarter = judge({**samples, REAL: series(samples) / 4}, FIVE_MINUTES)
    assert quarter.color == "yellow"
    assert "no ForecastDemand to compare with" in quarter.text


# Other units and values that cannot be demand


@DAYS
@pytest.mark.parametrize(
    ("divisor", "named"),
    [
        (4, "divided by 4 (energy of 15 minutes in MWh)"),
        (6, "divided by 6 (energy of 10 minutes in MWh)"),
        (12, "divided by 12 (energy of 5 minutes in MWh)"),
        (1000, "divided by 1000 (GW)"),
        (1 / 1000, "multiplied by 1000 (kW)"),
        (1 / 4, "multiplied by 4"),
    ],
)
def test_another_unit_is_refused_and_named(day: date, divisor: float, named: str) -> None:
    samples = samples_of(day)
    real, forecast = series(samples), series(samples, FORECAST)
    for scaled in ({REAL: real / divisor}, {REAL: real / divisor, FORECAST: forecast / divisor}):
        judged = judge({**samples, **scaled}, day)
        assert judged.color == "red"
        assert named in judged.text
        assert str(day) in judged.text
    judged = judge({**samples, FORECAST: forecast / divisor}, day)
    assert judged.color == "yellow"
    assert named in judged.text
    assert judged.frame[FORECAST].isna().all()
    assert judged.frame[REAL].notna().all()


@properties
@given(
    first=st.integers(0, 20),
    hours=st.integers(1, 24),
    minute=st.sampled_from([0, 20, 40]),
    divisor=st.sampled_from([4, 6, 12, 1000]),
    column=st.sampled_from([REAL, FORECAST]),
)
def test_another_unit_in_a_part_of_the_day_is_never_stored(
    first: int, hours: int, minute: int, divisor: float, column: str
) -> None:
    samples = samples_of(MAY_10)
    values = series(samples, column).copy()
    start = datetime.combine(MAY_10, time(first, minute), TIME_ZONE)
    wrong = (values.index >= start) & (values.index < start + timedelta(hours=hours))
    values[wrong] /= divisor
    judged = judge({**samples, column: values}, MAY_10)
    if column == REAL and wrong.mean() > 0.25:
        assert judged.color == "red"
        return
    assert judged.color == "yellow"
    assert f"divided by {divisor}" in judged.text
    right = judge(samples, MAY_10).frame[column]
    stored = judged.frame[column].dropna()
    pd.testing.assert_series_equal(stored, right[stored.index])
    assert len(stored) == 24 - utc_index(values[wrong]).floor("h").nunique()


@DAYS
@pytest.mark.parametrize("wrong", [0, -5, 4_999, 60_001, 99_999])
def test_an_implausible_sample_leaves_out_its_hour(day: date, wrong: float) -> None:
    for column in (REAL, FORECAST):
        samples = samples_of(day)
        place = len(series(samples, column)) // 2
        series(samples, column).iloc[place] = wrong
        judged = judge(samples, day)
        assert judged.color == "yellow"
        assert f"1 samples of {column} cannot be demand" in judged.text
        assert "Left out: 12:00" in judged.text
        assert judged.frame[column].isna().tolist() == [hour == 12 for hour in range(24)]


@pytest.mark.parametrize("spread", [1, 3])
def test_more_than_a_quarter_of_implausible_samples_is_refused(spread: int) -> None:
    for count, color in ((72, "yellow"), (73, "red")):
        samples = samples_of(FIVE_MINUTES)
        series(samples).iloc[: count * spread : spread] = 0
        judged = judge(samples, FIVE_MINUTES)
        assert judged.color == color
        assert f"{count} samples of RealDemand cannot be demand" in judged.text


# Remarkable samples


@DAYS
@pytest.mark.parametrize(("first", "last"), [("08:10", "11:25"), ("23:00", "23:59")])
def test_a_frozen_feed_is_named(day: date, first: str, last: str) -> None:
    samples = samples_of(day)
    frozen = between(series(samples), day, first, last)
    series(samples)[frozen] = series(samples)[frozen].iloc[0]
    judged = judge(samples, day)
    assert judged.color == "yellow"
    assert f"in {frozen.sum()} samples running: {first}-" in judged.text
    assert judged.unusual == [f"{hour:02}:00" for hour in range(int(first[:2]), int(last[:2]) + 1)]
    assert (judged.frozen_since is not None) == (last == "23:59")


@properties
@given(st.lists(st.tuples(st.integers(20_000, 20_003), st.integers(1, 9)), max_size=9))
def test_stretches_of_six_equal_values_are_found(stretches: list[tuple[int, int]]) -> None:
    values = pd.Series([float(value) for value, count in stretches for _ in range(count)])
    found = anomalies.frozen_stretches(values, REAL_DEMAND.most_equal)
    assert all(stop - start > 5 and values[start:stop].nunique() == 1 for start, stop in found)
    in_stretch = {place for start, stop in found for place in range(start, stop)}
    for start in range(len(values) - 5):
        equal = values[start : start + 6].nunique() == 1
        assert not equal or {*range(start, start + 6)} <= in_stretch


@properties
@given(
    day=st.sampled_from([TEN_MINUTES, FIVE_MINUTES]),
    where=st.floats(0, 1, exclude_max=True),
    count=st.integers(1, 3),
    value=st.sampled_from([6_000, 15_000, 44_000, 54_000]),
    column=st.sampled_from([REAL, FORECAST]),
)
def test_wild_samples_are_named(
    day: date, where: float, count: int, value: float, column: str
) -> None:
    samples = samples_of(day)
    values = series(samples, column)
    first = int(where * (len(values) - count))
    values.iloc[first : first + count] = value
    judged = judge(samples, day)
    assert judged.color == "yellow"
    assert f"{count} samples of {column} stand out" in judged.text
    clocks = utc_index(values)[first : first + count].tz_convert(TIME_ZONE.key)
    assert f"{value:,} MW at {clocks[0]:%H:%M}" in judged.text
    if column == REAL:
        assert {*clocks.strftime("%H:00")} <= {*judged.unusual}
    assert judged.frame[column].notna().all()


def test_different_values_at_one_instant_are_named() -> None:
    samples = samples_of(FIVE_MINUTES)
    real = series(samples)
    twice = [(at, value - 900) for at, value in real.items()][60:72]
    samples[REAL] = to_samples([*twice, *real.items(), *list(real.items())[:9]])  # type: ignore[list-item]
    judged = judge(samples, FIVE_MINUTES)
    assert "RealDemand has different values at 12 instants" in judged.text
    assert "05:00-05:55 (12)" in judged.text
    assert "Clocks change" not in judged.text
    assert judged.unusual == ["05:00"]
    pd.testing.assert_frame_equal(judged.frame, judge(samples_of(FIVE_MINUTES), FIVE_MINUTES).frame)


@pytest.mark.parametrize("day", CLOCK_CHANGES, ids=str)
def test_on_the_day_of_a_clock_change_offsets_may_be_wrong(day: date) -> None:
    samples = samples_of(day)
    real = series(samples)
    hour = day_hours(day)[2]
    moved = real[(real.index >= hour) & (real.index < hour + pd.Timedelta(hours=1))]
    others = real.drop(moved.index)
    shifted = zip(utc_index(moved) - pd.Timedelta(hours=1), moved, strict=True)
    samples[REAL] = to_samples([*others.items(), *shifted])  # type: ignore[list-item]
    judged = judge(samples, day)
    assert judged.color == "yellow"
    assert f"different values at {len(moved)} instants" in judged.text
    assert "Clocks change on this day: the offsets" in judged.text


@pytest.mark.parametrize("hours", [1, 24])
def test_measured_values_of_hours_to_come_are_named(hours: int) -> None:
    now = datetime.combine(MAY_10, time(10, 12), TIME_ZONE)
    samples = samples_of(MAY_10, "ahead", now)
    samples[REAL] = series(samples)[: now + timedelta(hours=hours)]
    judged = judge(samples, MAY_10, now)
    assert judged.color == "yellow"
    assert "measured samples are later than the present and not used: 10:20-" in judged.text
    assert len(judged.frame[REAL].dropna()) == 10
    assert judged.unusual == []


def test_a_copy_of_the_forecast_is_named() -> None:
    samples = samples_of(MAY_10)
    copied = between(series(samples), MAY_10, "10:15", "12:40")
    series(samples)[copied] = series(samples, FORECAST)[copied]
    judged = judge(samples, MAY_10)
    assert judged.color == "yellow"
    assert f"{copied.sum()} samples of RealDemand equal ForecastDemand: 10:15-12:40" in judged.text
    assert judged.unusual == ["10:00", "11:00", "12:00"]


def test_late_stamps_are_named_and_nothing_is_missing() -> None:
    judged = judge(samples_of(FIVE_MINUTES, "late"), FIVE_MINUTES)
    assert judged.text == (
        "2023-02-15: 288 measured samples are stamped 3 minutes late;"
        " each counts for the slot in which it is."
    )
    assert judged.unusual == []


@pytest.mark.parametrize("change", [0.8, 1.25])
def test_hours_that_are_far_from_the_forecast_are_named(change: float) -> None:
    samples = samples_of(FIVE_MINUTES)
    real = series(samples)
    samples[REAL] = real * np.interp(range(288), [100, 140, 180, 220], [1, change, change, 1])
    judged = judge(samples, FIVE_MINUTES)
    assert "RealDemand differs from ForecastDemand by up to" in judged.text
    assert {"12:00", "13:00", "14:00"} <= {*judged.unusual}


WRONG_BUT_WELL_FORMED: dict[Fault, Callable[[Judged], bool]] = {
    Fault.ENERGY: lambda judged: judged.color == "red",
    Fault.ENERGY_OF_ALL: lambda judged: judged.color == "red",
    Fault.HOURLY: lambda judged: judged.color == "green",
    Fault.FROZEN: lambda judged: judged.unusual[:6] == [f"{h:02}:00" for h in range(6, 12)],
    Fault.WILD: lambda judged: judged.unusual == ["05:00"],
    Fault.CONTRADICTORY: lambda judged: "03:00" in judged.unusual,
    Fault.BAD_SCHEDULE: lambda judged: judged.color == "green",
    Fault.FORECAST_OUTLIER: lambda judged: judged.frame[FORECAST].count() == 23,
    Fault.FORECAST_NULLS: lambda judged: judged.frame[REAL].count() == 24,
    Fault.OUTLIER: lambda judged: judged.frame[REAL].count() == 23,
    Fault.HALVES: lambda judged: judged.color == "green",
    Fault.LATE: lambda judged: judged.frame[REAL].count() == 24,
    Fault.BLACKOUT: lambda judged: judged.frame[REAL].min() < 12_000 and judged.color == "yellow",
    Fault.DUPLICATES: lambda judged: judged.color == "yellow" and judged.frame[REAL].count() == 24,
}


@pytest.mark.parametrize(("fault", "expected"), WRONG_BUT_WELL_FORMED.items())
@DAYS
def test_each_fault_of_the_simulator_is_judged(
    day: date, fault: Fault, expected: Callable[[Judged], bool]
) -> None:
    assert expected(judge(samples_of(day, fault), day))


def test_nothing_is_said_about_a_day_without_samples() -> None:
    now = datetime.combine(MAY_10, time(0, 1), TIME_ZONE)
    empty = pd.Series([math.nan], day_hours(MAY_10)[:1])
    nothing: list[Samples] = [
        {REAL: empty, FORECAST: None},
        {REAL: empty[:0], FORECAST: empty[:0]},
    ]
    for samples in nothing:
        assert judge(samples, MAY_10, now).text == "0 of 24 hours have a forecast."
