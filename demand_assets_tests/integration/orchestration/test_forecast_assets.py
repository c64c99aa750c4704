"""The forecast in the system: made at noon from what was known then, labelled, and scored."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetMaterialization,
    ExecuteInProcessResult,
    SensorResult,
    build_sensor_context,
)
from dagster._core.execution.plan.objects import UserFailureData

from demand_assets.demand.days import day_hours
from demand_assets.forecast import TRAINED_MODEL, WEEKLY_NAIVE, score, weekly_naive
from demand_assets.grid import FORECAST, REAL, TIME_ZONE
from demand_assets.orchestration.assets.forecast import MonthsModel
from demand_assets.orchestration.forecast_sensor import due_model
from demand_assets.orchestration.keys import FORECAST_JOB, MODEL_JOB, SCORE_JOB
from demand_assets.orchestration.ledger_reader import newest_materializations
from demand_assets.orchestration.metadata import FAILED_DAYS
from demand_assets.orchestration.planning.ledger import Ledger, State, Stored
from demand_assets.settings import Settings
from demand_assets_tests.support.clockwork import Clockwork, clockwork
from demand_assets_tests.support.project import failure_text

MODEL = "ForecastModel"
NOON = datetime(2023, 5, 24, 12, 6, tzinfo=TIME_ZONE)
TODAY, TOMORROW = NOON.date(), NOON.date() + timedelta(days=1)


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Clockwork]:
    """At noon, with the six weeks before in the store."""
    with clockwork(tmp_path, NOON) as works:
        assert works.project.materialize("2023-04-10", "2023-05-24").success
        yield works


def run(works: Clockwork, job: str, key: str) -> ExecuteInProcessResult:
    return works.project.definitions.resolve_job_def(job).execute_in_process(
        partition_key=key, instance=works.project.instance, raise_on_error=False
    )


def ask(works: Clockwork) -> SensorResult:
    """What the sensor asks for, which is not done."""
    project = works.project
    with build_sensor_context(
        instance=project.instance, definitions=project.definitions
    ) as context:
        result = project.definitions.resolve_sensor_def("forecast_sensor")(context)
    assert isinstance(result, SensorResult)
    return result


def failure_of(result: ExecuteInProcessResult) -> UserFailureData:
    """What the failure tells beside its cause."""
    (failed,) = [e for e in result.all_events if e.is_step_failure]
    told = failed.step_failure_data.user_failure_data
    assert told
    return told


def told(works: Clockwork, asset: str, day: date) -> dict[str, object]:
    """The metadata of a day."""
    records = newest_materializations(works.project.instance, AssetKey(asset), [day])
    metadata = records[day].asset_materialization
    assert metadata
    return {name: value.value for name, value in metadata.metadata.items()}


def hours(works: Clockwork, day: date, column: str = MODEL) -> pd.Series:
    return works.project.stored().reindex(day_hours(day))[column]


def test_with_little_history_the_forecast_is_the_week_before_and_says_so(works: Clockwork) -> None:
    works.tick("forecast_sensor")
    assert [first for _, first, _, success in works.runs if success] == [str(TODAY), str(TOMORROW)]
    expected = weekly_naive(works.project.stored(), TOMORROW)
    pd.testing.assert_series_equal(
        hours(works, TOMORROW), expected, check_names=False, check_freq=False
    )
    figures = told(works, "demand_forecast", TOMORROW)
    assert (figures["made_by"], figures["hours"]) == (WEEKLY_NAIVE, 24)
    assert "no model" in str(figures["why"])
    assert figures["made_from"] == "what was known at 2023-05-24 10:00 UTC"
    refused = run(works, MODEL_JOB, "2023-05-01")
    assert "needs demand of 180 days, and 20 are known" in failure_text(refused)
    # Whoever is early learns from what is known by now.
    early = failure_of(run(works, MODEL_JOB, "2023-06-01")).description
    assert "44 are known before 2023-05-24 12:06, Madrid time" in str(early)
    # Nothing is asked for twice.
    asked = ask(works)
    assert not asked.run_requests and asked.skip_reason
    assert "needs 180 days before it, and 20 are stored" in str(asked.skip_reason.skip_message)


def test_of_a_range_that_cannot_all_be_forecast_the_rest_is_named(works: Clockwork) -> None:
    tags = {
        "dagster/asset_partition_range_start": "2023-04-15",
        "dagster/asset_partition_range_end": "2023-04-20",
    }
    result = works.project.definitions.resolve_job_def(FORECAST_JOB).execute_in_process(
        tags=tags, instance=works.project.instance, raise_on_error=False
    )
    text = failure_text(result)
    assert "2 of 6 days cannot be forecast.\n2023-04-15: " in text
    assert "launch without these days: 2023-04-17 to 2023-04-20." in text
    blamed = failure_of(result).metadata[FAILED_DAYS].value
    assert blamed == ["2023-04-15", "2023-04-16"]


def test_before_noon_and_without_its_data_nothing_is_forecast(tmp_path: Path) -> None:
    with clockwork(tmp_path, NOON.replace(hour=11, minute=50)) as works:
        assert works.project.materialize("2023-05-10", "2023-05-23").success
        works.tick("current_day_sensor")
        works.tick("forecast_sensor")
        assert [run[1] for run in works.runs] == [str(TODAY)] * 2  # its data, and its forecast
        works.at(NOON).tick("forecast_sensor")  # today's last hour before noon is not yet in
        assert len(works.runs) == 2
        works.tick("current_day_sensor", "forecast_sensor")
        assert [run[1] for run in works.runs[2:]] == [str(TODAY), str(TOMORROW)]


def test_a_forecast_is_made_again_when_what_it_was_made_from_changes(works: Clockwork) -> None:
    works.tick("forecast_sensor")
    before = told(works, "demand_forecast", TOMORROW)["basis"]
    # The afternoon changes nothing.
    works.at(NOON + timedelta(hours=5)).tick()
    works.tick("forecast_sensor")
    assert [first for _, first, _, _ in works.runs].count(str(TOMORROW)) == 1
    # The operator takes back hours of a day of last week.
    works.api.faults["2023-05-18"] = "short"
    assert works.project.materialize("2023-05-18").success
    works.tick("forecast_sensor")
    assert [first for _, first, _, _ in works.runs].count(str(TOMORROW)) == 2
    assert told(works, "demand_forecast", TOMORROW)["basis"] != before


def test_a_forecast_that_failed_is_asked_for_again_after_a_while(works: Clockwork) -> None:
    database = works.project.folder / "demand.duckdb"
    database.rename(database.with_suffix(".away"))
    works.tick("forecast_sensor")
    assert [success for *_, success in works.runs] == [False, False]
    database.with_suffix(".away").replace(database)
    works.tick("forecast_sensor")
    assert len(works.runs) == 2
    works.at(NOON + timedelta(minutes=11)).tick("forecast_sensor")
    assert [success for *_, success in works.runs[2:]] == [True, True]


def test_a_day_has_its_model_its_forecast_and_its_score(tmp_path: Path) -> None:
    """Through a month's end and a change of the clock; and nothing later leaks into a forecast."""
    with clockwork(tmp_path, datetime(2023, 3, 25, 12, 6, tzinfo=TIME_ZONE)) as works:
        day = date(2023, 3, 26)
        assert works.project.materialize("2022-08-01", "2023-03-25").success
        works.tick("forecast_sensor")
        asked = ["2023-03-01", "2023-03-25", "2023-03-26"]
        assert [first for _, first, _, _ in works.runs] == asked
        works.tick("forecast_sensor")
        assert len(works.runs) == 3
        made = hours(works, day)
        assert made.notna().sum() == len(made) == 23
        figures = told(works, "demand_forecast", day)
        assert (figures["made_by"], figures["model"]) == (TRAINED_MODEL, "2023-03-01")
        page = (works.project.folder / "demand_dashboard" / "index.html").read_text()
        (line,) = re.findall(r'"ForecastModel":\[(.*?)\]', page)
        shown = [float(mw) for mw in line.split(",")[-23:]]
        assert shown == pytest.approx(made.tolist(), abs=0.01)

        works.at(datetime(2023, 3, 27, 1, 0, tzinfo=TIME_ZONE))
        works.run_until(datetime(2023, 3, 27, 1, 5, tzinfo=TIME_ZONE), timedelta(minutes=1))
        assert works.state(str(day)) == State.INGESTED
        works.tick("forecast_sensor")
        stored = works.project.stored().reindex(day_hours(day))
        judged = told(works, "demand_forecast_score", day)
        for name, column in (("model", MODEL), ("operator", FORECAST)):
            expected = score(stored[column], stored[REAL])
            assert judged[f"{name}_mape_percent"] == pytest.approx(expected.mape_percent)
            assert judged[f"{name}_bias_mw"] == pytest.approx(expected.bias_mw)
        assert judged["naive_mape_percent"]

        # Made again with all that came since, by the model of its month: the same values.
        works.at(datetime(2023, 4, 10, 1, 0, tzinfo=TIME_ZONE))
        assert works.project.materialize("2023-03-26", "2023-04-09").success
        assert run(works, MODEL_JOB, "2023-03-01").success
        assert run(works, MODEL_JOB, "2023-04-01").success
        assert run(works, FORECAST_JOB, str(day)).success
        pd.testing.assert_series_equal(hours(works, day), made)
        assert told(works, "demand_forecast", day)["model"] == "2023-03-01"

        # A model made too early, lost or damaged is asked for again; the one before stands in.
        works.clock.shift(timedelta(minutes=10))
        assert not [r for r in ask(works).run_requests or [] if r.job_name == MODEL_JOB]
        april, march = (
            works.project.folder / "demand_forecast_model" / month / "model.json"
            for month in ("2023-04-01", "2023-03-01")
        )
        whole = april.read_text()
        early = whole.replace('"2023-03-31T12:00+02:00"', '"2023-03-30T12:00+02:00"')
        for content in (early, None, "{"):
            april.unlink() if content is None else april.write_text(content)
            (again,) = [r for r in ask(works).run_requests or [] if r.job_name == MODEL_JOB]
            assert again.partition_key == "2023-04-01"
        # But not each minute, should training never give one that can be read.
        works.clock.shift(timedelta(minutes=-1))
        assert not [r for r in ask(works).run_requests or [] if r.job_name == MODEL_JOB]
        works.clock.shift(timedelta(minutes=1))
        assert run(works, FORECAST_JOB, "2023-04-09").success
        figures = told(works, "demand_forecast", date(2023, 4, 9))
        assert (figures["made_by"], figures["model"]) == (TRAINED_MODEL, "2023-03-01")

        # Without one, or with one for another time of day, it is the week before.
        later = replace(
            works.project, settings=replace(works.project.settings, forecast_at=time(9))
        )
        for project, reason in ((later, "asked at 09:00"), (works.project, "asked at 12:00")):
            works.project = project
            assert run(works, FORECAST_JOB, str(day)).success
            figures = told(works, "demand_forecast", day)
            assert figures["made_by"] == WEEKLY_NAIVE and reason in str(figures["why"])
            march.write_text("{")


def ledger_of(days: int, *, late: int = 0, under_way: date | None = None) -> Ledger:
    """At noon, with as many days before the month stored the day before; some an hour ago."""
    first = date(2023, 4, 30) - timedelta(days=days)
    stored = {
        first + timedelta(days=n): Stored(
            NOON - timedelta(hours=1 if n < late else 24), 24, 24, None
        )
        for n in range(days)
    }
    runs = {under_way: ("a backfill", NOON)} if under_way else {}
    return Ledger(NOON, timedelta(), stored, {}, runs)


def test_a_month_has_its_model_made_once_its_days_have_come() -> None:
    def due(ledger: Ledger, model: MonthsModel | None = None) -> date | str:
        return due_model(ledger, {TOMORROW: model} if model else {}, Settings())

    may = date(2023, 5, 1)
    made_at = NOON - timedelta(hours=2)
    model = MonthsModel(may, made_at, 1, None)  # type: ignore[arg-type]
    older = replace(model, month=date(2023, 4, 1))
    old_days = ledger_of(200)
    assert due(old_days) == due(old_days, older) == may
    assert "needs 180 days before it, and 179 are stored" in str(due(ledger_of(179)))
    # An hour ago a quarter more days came, or not quite.
    assert due(ledger_of(250, late=49), model) == "The model of 2023-05 is there."
    assert due(ledger_of(250, late=50), model) == may
    # While days are on their way it waits, if they are days that it would learn from.
    for day, answer in ((date(2021, 1, 1), "waits for 1 days"), (TODAY, str(may))):
        assert answer in str(due(ledger_of(250, late=50, under_way=day), model))
    # A gap that nobody fills does not hold it back.
    days = {day: told for day, told in ledger_of(400).stored.items() if day.month != 12}
    assert due(replace(old_days, stored=days)) == may


def write_model(works: Clockwork, expression: str) -> None:
    """As if the model had forecast this, of all that is measured."""
    table = "influx_demand_points"
    with duckdb.connect(str(works.project.folder / "demand.duckdb")) as base:
        base.execute(f'alter table {table} add column if not exists "ForecastModel" double')
        base.execute(f'update {table} set "ForecastModel" = {expression}')


def test_the_check_warns_when_the_model_loses_to_the_week_before(works: Clockwork) -> None:
    def verdict(day: str) -> AssetCheckEvaluation:
        (told,) = run(works, SCORE_JOB, day).get_asset_check_evaluations()
        return told

    assert "0 hours were forecast" in str(verdict("2023-05-23").description)
    write_model(works, '"RealDemand" * 1.001')
    good = verdict("2023-05-23")
    assert good.passed and good.metadata["hours"].value == 14 * 24
    write_model(works, '"RealDemand" * 1.2')
    bad = verdict("2023-05-23")
    assert not bad.passed and bad.severity.value == "WARN"
    assert bad.metadata["model_mape_percent"].value == pytest.approx(20)
    # It judges by a week at least.
    lately = "time >= timestamptz '2023-05-20 00:00+02'"
    write_model(works, f'case when {lately} then "RealDemand" * 1.2 end')
    short = verdict("2023-05-23")
    assert short.passed and "96 hours were forecast" in str(short.description)
    write_model(works, '"RealDemand" * 1.2')
    # It judges the present, whichever day is scored.
    assert not verdict("2023-04-20").passed
    assert "naive_mape_percent" in told(works, "demand_forecast_score", date(2023, 4, 20))


def test_what_the_week_before_stood_in_for_is_not_scored_as_the_model(works: Clockwork) -> None:
    assert run(works, FORECAST_JOB, "2023-05-23").success
    assert told(works, "demand_forecast", date(2023, 5, 23))["made_by"] == WEEKLY_NAIVE
    assert run(works, SCORE_JOB, "2023-05-23").success
    figures = told(works, "demand_forecast_score", date(2023, 5, 23))
    assert "naive_mape_percent" in figures and "model_mape_percent" not in figures


def test_closed_days_are_scored_once_each(works: Clockwork) -> None:
    for day in ("2023-05-22", "2023-05-23"):
        assert run(works, FORECAST_JOB, day).success
    for _ in range(3):
        works.tick("forecast_sensor")
    scored = [first for _, first, last, _ in works.runs if first < str(TODAY)]
    assert sorted(scored) == ["2023-05-22", "2023-05-23"]


def test_a_model_that_comes_later_makes_the_forecasts_again(tmp_path: Path) -> None:
    """On the first day of use, when history is loaded after the first forecasts."""
    with clockwork(tmp_path, NOON) as works:
        assert works.project.materialize("2023-05-01", "2023-05-24").success
        works.tick("forecast_sensor")
        assert told(works, "demand_forecast", TOMORROW)["made_by"] == WEEKLY_NAIVE
        assert works.project.materialize("2022-10-15", "2023-04-30").success
        works.at(NOON + timedelta(minutes=20))
        works.tick("forecast_sensor")
        works.tick("forecast_sensor")
        for day in (TODAY, TOMORROW):
            assert told(works, "demand_forecast", day)["made_by"] == TRAINED_MODEL
        many = len(works.runs)
        works.tick("forecast_sensor")
        assert len(works.runs) == many


def test_an_event_reported_by_hand_stops_nothing(works: Clockwork) -> None:
    told = AssetMaterialization("demand_forecast", partition=str(TOMORROW))
    works.project.instance.report_runless_asset_event(told)
    works.tick("forecast_sensor")
    assert hours(works, TOMORROW).notna().all()


def test_the_ledger_takes_no_notice_of_forecasts(works: Clockwork) -> None:
    before = works.ledger()
    works.tick("forecast_sensor")
    works.queue_run(str(TODAY), FORECAST_JOB)
    works.queue_run("2023-05-01", MODEL_JOB)
    after = works.ledger()
    assert (after.stored, after.attempts, after.under_way) == (before.stored, {}, {})
    works.queue_run(str(TODAY))
    assert works.ledger().under_way.keys() == {TODAY}
