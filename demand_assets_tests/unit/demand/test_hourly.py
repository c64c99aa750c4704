"""Hourly frames, their figures and their missing samples: recorded, synthetic and broken days."""

import json
import math
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_assets.demand.days import day_hours, frames_by_day
from demand_assets.demand.errors import DayError, NoRealDemandError
from demand_assets.demand.figures import describe_frame, describe_samples
from demand_assets.demand.hourly import hourly_frame
from demand_assets.demand.samples import late_samples, missing_samples
from demand_assets.grid import COLUMNS, FORECAST, FORECAST_DEMAND, REAL, REAL_DEMAND, TIME_ZONE
from demand_assets.redata import Answer, MalformedAnswerError, last_update, read_samples
from demand_assets.simulator import Simulator
from demand_assets_tests.conftest import LONG_AFTER, recorded_answer
from demand_assets_tests.support.truth import HOURS_OF_DAY, PRINTED, as_printed

REAL_ID, FORECAST_ID = str(REAL_DEMAND.api_id), str(FORECAST_DEMAND.api_id)
HOUR = timedelta(hours=1)
FINER_SINCE = datetime(2022, 5, 23, 19, tzinfo=UTC)
"""From here on samples come every 5 minutes, before every 10."""
TEN_MINUTES, FIVE_MINUTES = date(2022, 2, 9), date(2023, 2, 19)
"""A day of each resolution."""
ODD_DAYS = [date(2022, 3, 27), date(2022, 5, 23), date(2022, 10, 30), date(2023, 3, 26)]

AnswerOf = Callable[[date], Answer]
properties = settings(max_examples=70, deadline=None, derandomize=True)


def synthetic_answer(day: date, *, lang: str = "en", clock: datetime = LONG_AFTER) -> Answer:
    span = f"start_date={day}T00:00&end_date={day}T23:59&time_trunc=hour"
    target = f"/{lang}/datos/demanda/demanda-tiempo-real?{span}"
    return json.loads(Simulator(clock=lambda: clock).answer(target).body)


@pytest.fixture(params=["synthetic", pytest.param("recorded", marks=pytest.mark.recorded)])
def answer_of(request: pytest.FixtureRequest) -> AnswerOf:
    if request.param == "synthetic":
        return synthetic_answer
    recordings: Path = request.getfixturevalue("recordings")
    return lambda day: recorded_answer(recordings, day)


def frame_of(answer: Answer, day: date, now: datetime = LONG_AFTER) -> pd.DataFrame:
    return hourly_frame(read_samples(answer, day), day, now=now)


def values_of(answer: Answer, series_id: str = REAL_ID) -> list[Any]:
    return next(s for s in answer["included"] if s["id"] == series_id)["attributes"]["values"]


def without(answer: Answer, series_id: str) -> Answer:
    return {**answer, "included": [s for s in answer["included"] if s["id"] != series_id]}


def cut(answer: Answer, day: date, clock: str) -> Answer:
    """The answer as it was at a time of the day's morning, noon or night."""
    last = datetime.combine(day, time.fromisoformat(clock), TIME_ZONE)
    answer = deepcopy(answer)
    values = values_of(answer)
    values[:] = [v for v in values if datetime.fromisoformat(v["datetime"]) <= last]
    return answer


def evening(day: date) -> datetime:
    """A present at which the day is not past, and all but its last hour are over."""
    return datetime.combine(day, time(23, 30), TIME_ZONE)


def local_hours(column: pd.Series) -> list[str]:
    index = column.dropna().index
    assert isinstance(index, pd.DatetimeIndex)
    return list(index.tz_convert(TIME_ZONE.key).strftime("%H:%M"))


# The rules implemented again, in plain Python


def hours_of(day: date) -> list[datetime]:
    start, end = (
        datetime.combine(day + timedelta(days=n), time(), TIME_ZONE).astimezone(UTC) for n in (0, 1)
    )
    return [start + n * HOUR for n in range((end - start) // HOUR)]


def published_every(hour: datetime) -> timedelta:
    return timedelta(minutes=5 if hour >= FINER_SINCE else 10)


def reference(
    answer: Answer,
    day: date,
    spacing: Callable[[datetime], timedelta] = published_every,
    now: datetime = LONG_AFTER,
) -> dict[datetime, tuple[float, float]]:
    """Hour to real and forecast, NaN where unknown."""
    known: dict[str, dict[datetime, float]] = {REAL_ID: {}, FORECAST_ID: {}}
    for series in answer["included"]:
        for sample in series["attributes"]["values"]:
            if sample["value"] is not None and series["id"] in known:
                at = datetime.fromisoformat(sample["datetime"]).astimezone(UTC)
                known[series["id"]][at] = sample["value"]

    def mean(series_id: str, hour: datetime) -> float:
        values = [mw for at, mw in known[series_id].items() if hour <= at < hour + HOUR]
        return fmean(values) if values else math.nan

    means = {}
    for hour in hours_of(day):
        over = any(at >= hour + HOUR - spacing(hour) for at in known[REAL_ID])
        real = mean(REAL_ID, hour) if over and hour + HOUR <= now else math.nan
        forecast = mean(FORECAST_ID, hour)
        if not math.isnan(real) or not math.isnan(forecast):
            means[hour] = real, forecast
    return means


def assert_as_reference(frame: pd.DataFrame, means: dict[datetime, tuple[float, float]]) -> None:
    assert list(frame.index) == list(means)
    for row, expected in zip(frame.to_numpy().tolist(), means.values(), strict=True):
        assert row == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


def assert_promises(frame: pd.DataFrame, day: date) -> None:
    assert list(frame.columns) == COLUMNS == [REAL, FORECAST]
    assert list(frame.dtypes) == ["float64", "float64"]
    assert frame.index.dtype == "datetime64[ns, UTC]"
    assert frame.index.name == "time"
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique
    assert set(frame.index) <= set(hours_of(day))
    assert not frame.isna().all(axis=1).any()


def test_recorded_days_follow_the_rules(recordings: Path) -> None:
    days = sorted(date.fromisoformat(p.name[:10]) for p in recordings.glob("*.json.gz"))
    for day in [*days[::15], *ODD_DAYS]:
        answer = recorded_answer(recordings, day)
        frame = frame_of(answer, day)
        assert_promises(frame, day)
        assert_as_reference(frame, reference(answer, day))


@pytest.mark.parametrize("day", [TEN_MINUTES, FIVE_MINUTES, *ODD_DAYS], ids=str)
def test_synthetic_days_follow_the_rules(day: date) -> None:
    answer = synthetic_answer(day)
    frame = frame_of(answer, day)
    assert_promises(frame, day)
    assert_as_reference(frame, reference(answer, day))


# Real days


@pytest.mark.parametrize("day", PRINTED, ids=str)
def test_hours_equal_those_of_the_notebook(recordings: Path, day: date) -> None:
    frame = frame_of(recorded_answer(recordings, day), day)
    assert as_printed(frame)[:10] == PRINTED[day]


@pytest.mark.parametrize(("day", "hours"), HOURS_OF_DAY)
def test_day_has_23_24_or_25_hours(answer_of: AnswerOf, day: str, hours: int) -> None:
    frame = frame_of(answer_of(date.fromisoformat(day)), date.fromisoformat(day))
    assert len(frame) == hours
    assert not frame.isna().any(axis=None)
    assert list(frame.index) == list(day_hours(date.fromisoformat(day)))
    assert len(frames_by_day(frame, [day])[day]) == hours


def test_recording_made_before_the_day_ended_has_21_hours(recordings: Path) -> None:
    frame = frame_of(recorded_answer(recordings, date(2024, 6, 16)), date(2024, 6, 16))
    assert local_hours(frame[REAL]) == [f"{hour:02}:00" for hour in range(21)]


def test_past_day_without_a_measured_hour_is_an_error(answer_of: AnswerOf) -> None:
    day = date(2024, 6, 17) if answer_of is not synthetic_answer else FIVE_MINUTES
    answer = cut(answer_of(day), day, "00:25")
    with pytest.raises(NoRealDemandError, match=f"^{day}: .*past.*materialize the day again"):
        frame_of(answer, day)
    today = frame_of(answer, day, now=evening(day))
    assert today[REAL].isna().all()
    assert len(today[FORECAST].dropna()) == 24


# Any answer


def test_titles_and_order_do_not_matter(answer_of: AnswerOf) -> None:
    day = date(2022, 5, 23)
    answer = answer_of(day)
    shuffled = deepcopy(answer)
    dice = random.Random(1)
    dice.shuffle(shuffled["included"])
    for series in shuffled["included"]:
        series["attributes"]["title"] = series["type"] = "?"
        dice.shuffle(series["attributes"]["values"])
    pd.testing.assert_frame_equal(frame_of(shuffled, day), frame_of(answer, day))


def test_spanish_and_english_answers_give_the_same_frame() -> None:
    english, spanish = (synthetic_answer(FIVE_MINUTES, lang=lang) for lang in ("en", "es"))
    assert english != spanish
    pd.testing.assert_frame_equal(frame_of(english, FIVE_MINUTES), frame_of(spanish, FIVE_MINUTES))


def test_null_is_not_a_sample(answer_of: AnswerOf) -> None:
    answer = answer_of(FIVE_MINUTES)
    spoiled, shorter = deepcopy(answer), deepcopy(answer)
    for sample in values_of(spoiled)[2::3]:
        sample["value"] = None
    del values_of(shorter)[2::3]
    # Every third of the day is the last slot of each hour: hour 23 stays unknown.
    assert local_hours(frame_of(spoiled, FIVE_MINUTES)[REAL])[-1] == "22:00"
    pd.testing.assert_frame_equal(frame_of(spoiled, FIVE_MINUTES), frame_of(shorter, FIVE_MINUTES))


@pytest.mark.parametrize("last", [2, None])
def test_last_of_two_samples_at_one_instant_is_kept(
    answer_of: AnswerOf, last: float | None
) -> None:
    day = TEN_MINUTES
    answer = answer_of(day)
    twice = deepcopy(answer)
    values = values_of(twice)
    values[:] = [{**v, "value": 1} for v in values] + [{**v, "value": last} for v in values]
    real = frame_of(twice, day)[REAL]
    assert set(real) == {last or 1}  # a null is no sample, so it wins over nothing
    assert len(real) == 24


@pytest.mark.parametrize("last", ["11:10", "23:55"])
def test_hours_that_are_not_over_are_not_measured(answer_of: AnswerOf, last: str) -> None:
    now = datetime.combine(FIVE_MINUTES, time(10, 12), TIME_ZONE)
    frame = frame_of(cut(answer_of(FIVE_MINUTES), FIVE_MINUTES, last), FIVE_MINUTES, now)
    assert local_hours(frame[REAL]) == [f"{hour:02}:00" for hour in range(10)]
    assert len(frame) == 24


@pytest.mark.parametrize("minutes", [15, 30, 60])
@pytest.mark.parametrize("series_ids", [[REAL_ID], [REAL_ID, "545", FORECAST_ID]])
@pytest.mark.parametrize("day", [TEN_MINUTES, FIVE_MINUTES, date(2022, 10, 30)], ids=str)
def test_day_with_fewer_samples_per_hour_is_complete(
    answer_of: AnswerOf, day: date, series_ids: list[str], minutes: int
) -> None:
    answer = deepcopy(answer_of(day))
    for series_id in series_ids:
        values = values_of(answer, series_id)
        values[:] = [v for v in values if int(v["datetime"][14:16]) % minutes == 0]
    assert len(frame_of(answer, day)[REAL].dropna()) == len(day_hours(day))
    assert missing_of(answer, day) == []


def test_hour_with_one_sample_among_others_lacks_the_rest(answer_of: AnswerOf) -> None:
    answer = answer_of(FIVE_MINUTES)
    for series in answer["included"]:
        values = series["attributes"]["values"]
        values[:] = [v for v in values if v["datetime"][11:13] != "10" or "T10:00" in v["datetime"]]
    assert missing_of(answer, FIVE_MINUTES) == [f"10:{minute:02}" for minute in range(5, 60, 5)]
    assert len(frame_of(answer, FIVE_MINUTES)) == 24


@pytest.mark.parametrize("day", [TEN_MINUTES, FIVE_MINUTES, *ODD_DAYS], ids=str)
@pytest.mark.parametrize("seconds", [(1, 59), (60, 60), (60, 240), (0, 240), (240, 240)])
def test_late_stamps_are_counted_by_slots(
    answer_of: AnswerOf, day: date, seconds: tuple[int, int]
) -> None:
    answer = answer_of(day)
    late, dice = deepcopy(answer), random.Random(1)
    for sample in values_of(late):
        at = datetime.fromisoformat(sample["datetime"])
        sample["datetime"] = (at + timedelta(seconds=dice.randint(*seconds))).isoformat()
    assert missing_of(late, day) == []
    pd.testing.assert_frame_equal(frame_of(late, day), frame_of(answer, day))
    assert late_samples(read_samples(answer, day)).empty
    assert late_samples(read_samples(late, day)).max() <= seconds[1] / 60


@pytest.mark.parametrize("has_forecast", [True, False])
@pytest.mark.parametrize(
    ("day", "clock", "last_hour"),
    [
        (FIVE_MINUTES, "14:07", 13),
        (FIVE_MINUTES, "14:50", 13),
        (FIVE_MINUTES, "14:55", 14),
        (FIVE_MINUTES, "15:00", 14),
        (FIVE_MINUTES, "23:50", 22),
        (TEN_MINUTES, "14:07", 13),
        (TEN_MINUTES, "14:40", 13),
        (TEN_MINUTES, "14:50", 14),
        (date(2022, 5, 23), "20:50", 20),
        (date(2022, 5, 23), "21:50", 20),
    ],
)
def test_today_has_the_hours_that_are_over(
    answer_of: AnswerOf, day: date, clock: str, last_hour: int, has_forecast: bool
) -> None:
    answer = cut(answer_of(day), day, clock)
    if not has_forecast:
        answer = without(answer, FORECAST_ID)
    frame = frame_of(answer, day, now=evening(day))
    assert local_hours(frame[REAL]) == [f"{hour:02}:00" for hour in range(last_hour + 1)]
    assert len(frame[FORECAST].dropna()) == (24 if has_forecast else 0)
    assert_promises(frame, day)


@pytest.mark.parametrize(
    ("last_known", "last_hour"), [("14:45", 13), ("14:50", 13), ("14:55", 14), ("13:50", 12)]
)
def test_hour_is_not_over_while_its_last_slots_are_null(
    answer_of: AnswerOf, last_known: str, last_hour: int
) -> None:
    answer = cut(answer_of(FIVE_MINUTES), FIVE_MINUTES, "15:30")
    for sample in values_of(answer):
        if sample["datetime"][11:16] > last_known:
            sample["value"] = None
    frame = frame_of(answer, FIVE_MINUTES, now=evening(FIVE_MINUTES))
    assert local_hours(frame[REAL])[-1] == f"{last_hour:02}:00"


def test_hour_is_over_once_a_later_sample_is_known() -> None:
    answer = cut(synthetic_answer(FIVE_MINUTES), FIVE_MINUTES, "15:00")
    values_of(answer)[-2]["value"] = None
    frame = frame_of(answer, FIVE_MINUTES, now=evening(FIVE_MINUTES))
    assert local_hours(frame[REAL])[-1] == "14:00"


def test_lone_sample_ends_its_hour_in_the_last_five_minutes_only() -> None:
    answer = without(cut(synthetic_answer(FIVE_MINUTES), FIVE_MINUTES, "14:55"), FORECAST_ID)
    values = values_of(answer)
    for last, hours in ((values[-2], 14), (values[-1], 15)):
        values_of(answer)[:] = [v for v in values if v["datetime"][11:13] != "14"] + [last]
        frame = frame_of(answer, FIVE_MINUTES, now=evening(FIVE_MINUTES))
        assert len(frame) == hours


def test_series_id_may_be_a_number() -> None:
    answer = synthetic_answer(FIVE_MINUTES)
    expected = frame_of(answer, FIVE_MINUTES)
    for series in answer["included"]:
        series["id"] = int(series["id"])
    pd.testing.assert_frame_equal(frame_of(answer, FIVE_MINUTES), expected)


@pytest.mark.parametrize("now", [evening(FIVE_MINUTES), LONG_AFTER], ids=["today", "past"])
def test_missing_required_series_is_an_error(now: datetime) -> None:
    with pytest.raises(NoRealDemandError, match=r"2023-02-19: .*no series of measured demand"):
        frame_of(without(synthetic_answer(FIVE_MINUTES), REAL_ID), FIVE_MINUTES, now)


def test_day_is_past_after_midnight_in_madrid() -> None:
    answer = synthetic_answer(FIVE_MINUTES)
    values_of(answer).clear()
    late, midnight = (
        datetime(2023, 2, 19, 22, 59, tzinfo=UTC),
        datetime(2023, 2, 19, 23, tzinfo=UTC),
    )
    assert len(frame_of(answer, FIVE_MINUTES, now=late)) == 24
    with pytest.raises(NoRealDemandError):
        frame_of(answer, FIVE_MINUTES, now=midnight)


def test_answer_without_samples_gives_an_empty_frame_today() -> None:
    answer = synthetic_answer(FIVE_MINUTES)
    for series in answer["included"]:
        series["attributes"]["values"] = []
    frame = frame_of(answer, FIVE_MINUTES, now=evening(FIVE_MINUTES))
    assert frame.empty
    assert_promises(frame, FIVE_MINUTES)


def test_missing_forecast_is_nan_in_every_hour() -> None:
    answer = synthetic_answer(FIVE_MINUTES)
    frame = frame_of(without(answer, FORECAST_ID), FIVE_MINUTES)
    assert frame[FORECAST].isna().all()
    pd.testing.assert_series_equal(frame[REAL], frame_of(answer, FIVE_MINUTES)[REAL])
    assert_promises(frame, FIVE_MINUTES)


def test_hours_without_any_value_are_left_out() -> None:
    answer = synthetic_answer(FIVE_MINUTES)
    for series in answer["included"]:
        values = series["attributes"]["values"]
        values[:] = [v for v in values if v["datetime"][11:13] not in ("03", "04")]
    frame = frame_of(answer, FIVE_MINUTES)
    hours = [f"{hour:02}:00" for hour in range(24) if hour not in (3, 4)]
    assert local_hours(frame[REAL]) == local_hours(frame[FORECAST]) == hours
    assert_promises(frame, FIVE_MINUTES)


# Wild answers

DAY = date(2022, 10, 30)
"""25 hours, of which two are called 02:00."""


def stamps(spacing: int) -> st.SearchStrategy[str]:
    """Instants of the day's grid, and a few beyond its ends, in whatever offset."""
    minutes = st.integers(-3, 25 * 60 // spacing + 2).map(lambda n: timedelta(minutes=n * spacing))
    offsets = st.integers(-14 * 4, 14 * 4).map(lambda n: timezone(timedelta(minutes=15 * n)))
    return st.builds(
        lambda after, offset: (hours_of(DAY)[0] + after).astimezone(offset).isoformat(),
        minutes,
        st.sampled_from([timezone(HOUR), timezone(2 * HOUR)]) | offsets,
    )


@st.composite
def answers(draw: st.DrawFn, spacing: int = 5) -> Answer:
    """Answers of the right shape: gaps, nulls, doubles, in any order, and a whole forecast."""
    sample = st.fixed_dictionaries(
        {
            "value": st.none() | st.integers(0, 50_000) | st.floats(-1e6, 1e6),
            "datetime": stamps(spacing),
        }
    )
    grid = [hours_of(DAY)[0] + timedelta(minutes=n) for n in range(0, 25 * 60, spacing)]
    forecast = draw(st.permutations([{"value": 5, "datetime": at.isoformat()} for at in grid]))
    samples = {
        REAL_ID: draw(st.lists(sample, max_size=40)),
        "545": [],
        FORECAST_ID: [*forecast, *draw(st.lists(sample, max_size=5))],
    }
    ids = draw(st.permutations(list(samples)))
    return {
        "data": {"attributes": {"last-update": "2022-10-31T00:04:00.000+01:00"}},
        "included": [{"id": id_, "attributes": {"values": samples[id_]}} for id_ in ids],
    }


@properties
@given(spacing=st.sampled_from([5, 10]), data=st.data())
def test_any_samples_give_the_hours_that_the_rules_say(spacing: int, data: st.DataObject) -> None:
    answer = data.draw(answers(spacing))
    means = reference(answer, DAY, lambda _: timedelta(minutes=spacing))
    if all(math.isnan(real) for real, _ in means.values()):
        with pytest.raises(NoRealDemandError):
            frame_of(answer, DAY)
    now = evening(DAY)
    frame = frame_of(answer, DAY, now=now)
    assert_promises(frame, DAY)
    assert_as_reference(
        frame, reference(answer, DAY, lambda _: timedelta(minutes=spacing), now=now)
    )


wild = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**400, -(10**400), 1e308, math.inf, math.nan, "24309", REAL_ID])
    | st.sampled_from(["2022-10-30T12:00", "2022-10-30T25:00:00+01:00", "2022-W43-7T12:00+01:00"])
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1677-01-01T00Z"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "included", "id", "attributes", "values", "value", "datetime"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document, as the container and the key or number in it."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


@st.composite
def spoiled_answers(draw: st.DrawFn) -> Any:
    """Answers in which something is missing or something else."""
    answer = deepcopy(draw(answers()))
    # The forecast would take up nearly all the places.
    values_of(answer, FORECAST_ID)[3:] = []
    for _ in range(draw(st.integers(1, 3))):
        if not (all_places := list(places(answer))):
            break
        container, key = draw(st.sampled_from(all_places))
        if draw(st.booleans()):
            del container[key]
        else:
            container[key] = draw(wild)
    return answer


@settings(properties, max_examples=200)
@given(answer=spoiled_answers() | wild, past=st.booleans())
def test_wild_answer_gives_a_valid_frame_or_a_typed_error(answer: Any, past: bool) -> None:
    try:
        frame = frame_of(answer, DAY, now=LONG_AFTER if past else evening(DAY))
    except DayError as error:
        assert str(error).startswith(f"{DAY}: ")
        assert str(error).isprintable()  # in one line, too
        assert len(str(error)) < 500
        return
    assert_promises(frame, DAY)
    for column, series_id in ((REAL, REAL_ID), (FORECAST, FORECAST_ID)):
        known = [
            sample["value"]
            for series in answer["included"]
            if str(series["id"]) == series_id
            for sample in series["attributes"]["values"] or []
            if sample.get("value") is not None
        ]
        for mean in frame[column].dropna():
            assert min(known) - 1e-6 <= mean <= max(known) + 1e-6
    assert describe_samples(read_samples(answer)[REAL])["samples"] >= 0
    assert set(last_update(answer)) <= {"last_update"}
    figures = describe_frame(frame, DAY)
    assert all(math.isfinite(value) for value in figures.values() if isinstance(value, float))


@pytest.mark.parametrize(
    "wrong", [True, "24309", "NaN", math.inf, -math.inf, math.nan, 10**400, 1e300, [], {}]
)
@pytest.mark.parametrize("series_id", [REAL_ID, FORECAST_ID])
def test_value_that_is_not_a_number_of_mw_is_an_error(series_id: str, wrong: Any) -> None:
    answer = synthetic_answer(FIVE_MINUTES)
    values_of(answer, series_id)[7]["value"] = wrong
    with pytest.raises(MalformedAnswerError, match=r"^2023-02-19: .* instead of MW"):
        frame_of(answer, FIVE_MINUTES)


@pytest.mark.parametrize(
    "wrong",
    [
        *("yesterday", "", None, 7, "2023-02-19T12:00", "2023-02-19T25:00:00+01:00"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
    ],
)
def test_invalid_time_is_an_error(wrong: Any) -> None:
    answer = synthetic_answer(FIVE_MINUTES)
    values_of(answer)[7]["datetime"] = wrong
    with pytest.raises(MalformedAnswerError, match=r"^2023-02-19: "):
        frame_of(answer, FIVE_MINUTES)


# Figures


@pytest.mark.parametrize(
    ("day", "samples", "resolution"),
    [
        (TEN_MINUTES, 144, "10 min"),
        (FIVE_MINUTES, 288, "5 min"),
        (date(2022, 5, 23), 162, "5 min and 10 min"),
        (date(2022, 10, 30), 300, "5 min"),
        (date(2022, 3, 27), 138, "10 min"),
    ],
)
def test_answer_is_described(answer_of: AnswerOf, day: date, samples: int, resolution: str) -> None:
    answer = answer_of(day)
    described = describe_samples(read_samples(answer)[REAL])
    last = datetime.combine(day, time(23, 60 - int(resolution.split()[0])), TIME_ZONE)
    assert last_update(answer)["last_update"]
    assert described == {"samples": samples, "resolution": resolution, "last_sample": last}


@pytest.mark.parametrize("data", [None, {}, {"attributes": {}}, {"attributes": None}])
def test_answer_without_samples_and_header_is_described(data: Any) -> None:
    answer = {"data": data, "included": []}
    assert describe_samples(read_samples(answer)[REAL]) == {"samples": 0}
    assert last_update(answer) == {}


def test_frame_is_described() -> None:
    frame = pd.DataFrame(
        {REAL: [100.0, 200.0, math.nan], FORECAST: [110.0, 190.0, 60.0]},
        index=day_hours(FIVE_MINUTES)[:3],
    )
    assert describe_frame(frame, FIVE_MINUTES) == {
        "hours": 2,
        "hours_expected": 24,
        "peak_mw": 200.0,
        "peak_at": datetime(2023, 2, 19, 1, tzinfo=TIME_ZONE),
        "last_hour": datetime(2023, 2, 19, 1, tzinfo=TIME_ZONE),
        "mean_real_mw": 150.0,
        "mean_forecast_mw": 120.0,
        "forecast_bias_mw": 0.0,
        "forecast_mape_percent": pytest.approx(7.5),
    }


def test_hours_of_zeros_have_no_percentage() -> None:
    frame = pd.DataFrame({REAL: [0.0], FORECAST: [1.0]}, index=day_hours(FIVE_MINUTES)[:1])
    assert "forecast_mape_percent" not in describe_frame(frame, FIVE_MINUTES)


def test_empty_frame_is_described() -> None:
    frame = pd.DataFrame({REAL: [], FORECAST: []}, index=day_hours(FIVE_MINUTES)[:0])
    assert describe_frame(frame, FIVE_MINUTES) == {"hours": 0, "hours_expected": 24}


def missing_of(answer: Answer, day: date, now: datetime = LONG_AFTER) -> list[str]:
    """When samples are missing, on Madrid's clock."""
    missing = missing_samples(read_samples(answer, day), day, now=now)
    return [f"{at:%H:%M}" for at in missing.tz_convert(TIME_ZONE.key)]


@pytest.mark.parametrize("day", [TEN_MINUTES, FIVE_MINUTES, *ODD_DAYS], ids=str)
def test_complete_day_has_no_missing_samples(answer_of: AnswerOf, day: date) -> None:
    assert missing_of(answer_of(day), day) == []


@pytest.mark.parametrize(("day", "step"), [(TEN_MINUTES, 10), (FIVE_MINUTES, 5)])
def test_missing_samples_are_located(answer_of: AnswerOf, day: date, step: int) -> None:
    answer = answer_of(day)
    values = values_of(answer)
    per_hour = 60 // step
    values[0]["value"] = None
    del values[5 * per_hour : 6 * per_hour]
    assert missing_of(answer, day) == ["00:00", *(f"05:{m:02}" for m in range(0, 60, step))]


def test_today_has_missing_samples_only_in_hours_that_are_over() -> None:
    now = datetime.combine(FIVE_MINUTES, time(14, 11), TIME_ZONE)
    answer = synthetic_answer(FIVE_MINUTES, clock=now)
    assert missing_of(answer, FIVE_MINUTES, now) == []
    del values_of(answer)[3]
    assert missing_of(answer, FIVE_MINUTES, now) == ["00:15"]
    assert len(missing_of(answer, FIVE_MINUTES, LONG_AFTER)) > 10 * 11


def test_all_samples_are_missing_without_a_measured_series() -> None:
    answer = without(synthetic_answer(FIVE_MINUTES), REAL_ID)
    assert len(missing_of(answer, FIVE_MINUTES)) == 288
    answer = without(answer, FORECAST_ID)
    assert len(missing_of(answer, FIVE_MINUTES)) == 288
