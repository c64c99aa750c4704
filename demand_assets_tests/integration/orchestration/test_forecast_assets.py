"""The forecast's assets and sensor: made at noon from what is known then, described, and scored."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

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
from demand_assets.grid import FORECAST, MODEL, REAL, TIME_ZONE
from demand_assets.orchestration.keys import FORECAST_JOB, MODEL_JOB, SCORE_JOB
from demand_assets.orchestration.ledger_reader import newest_materializations
from demand_assets.orchestration.metadata import FAILED_DAYS, metadata_of
from demand_assets.orchestration.planning.ledger import State
from demand_assets.simulator.days import Day, Source
from demand_assets_tests.support.clockwork import Clockwork, clockwork
from demand_assets_tests.support.project import failure_text

NOON = datetime(2023, 5, 24, 12, 6, tzinfo=TIME_ZONE)
TODAY, TOMORROW = NOON.date(), NOON.date() + timedelta(days=1)


@pytest.fixture(autouse=True)
def fewer_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are trained in a fifth of the time."""
    monkeypatch.setattr("demand_assets.forecast.model.TREES", 100)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Clockwork]:
    """At noon, with the six weeks before stored."""
    with clockwork(tmp_path, NOON) as system:
        assert system.project.materialize("2023-04-10", "2023-05-24").success
        yield system


def run(system: Clockwork, job: str, key: str) -> ExecuteInProcessResult:
    return system.project.definitions.resolve_job_def(job).execute_in_process(
        partition_key=key, instance=system.project.instance, raise_on_error=False
    )


def evaluate(system: Clockwork) -> SensorResult:
    """The result of the sensor; the runs that it requests are not executed."""
    project = system.project
    with build_sensor_context(
        instance=project.instance,
        definitions=project.definitions,
        resources={"settings": project.settings},
    ) as context:
        result = project.definitions.resolve_sensor_def("forecast_sensor")(context)
    assert isinstance(result, SensorResult)
    return result


def model_requests(system: Clockwork) -> list[str | None]:
    """The months whose models the sensor requests."""
    requests = evaluate(system).run_requests or []
    return [r.partition_key for r in requests if r.job_name == MODEL_JOB]


def failure_of(result: ExecuteInProcessResult) -> UserFailureData:
    """Description and metadata of the only failure."""
    (failed,) = [e for e in result.all_events if e.is_step_failure]
    failure = failed.step_failure_data.user_failure_data
    assert failure
    return failure


def metadata(system: Clockwork, asset: str, day: date) -> dict[str, Any]:
    """The metadata of the newest materialization of a day."""
    return metadata_of(
        newest_materializations(system.project.instance, AssetKey(asset), [day])[day]
    )


@dataclass(frozen=True)
class Revised:
    """Days of another source, of which one hour was revised: 60 MW more at 10 local time."""

    source: Source
    revised: date

    def day(self, day: date) -> Day | None:
        samples = self.source.day(day)
        if samples is None or day != self.revised:
            return samples
        real = [replace(s, value=(s.value or 0) + 60 * (s.at.hour == 10)) for s in samples["1293"]]
        return {**samples, "1293": real}


def hours(system: Clockwork, day: date, column: str = MODEL) -> pd.Series:
    return system.project.stored().reindex(day_hours(day))[column]


def test_with_little_history_the_forecast_is_that_of_the_week_before(system: Clockwork) -> None:
    system.tick("forecast_sensor")
    assert [first for _, first, _, success in system.runs if success] == [str(TODAY), str(TOMORROW)]
    expected = weekly_naive(system.project.stored(), TOMORROW)
    pd.testing.assert_series_equal(
        hours(system, TOMORROW), expected, check_names=False, check_freq=False
    )
    figures = metadata(system, "demand_forecast", TOMORROW)
    assert (figures["made_by"], figures["hours"]) == (WEEKLY_NAIVE, 24)
    assert "no model" in str(figures["why"])
    assert figures["made_from"] == "what was known at 2023-05-24 10:00 UTC"
    refused = run(system, MODEL_JOB, "2023-05-01")
    assert "needs demand of 180 days, and 20 are known" in failure_text(refused)
    # A month to come is trained on what is known now.
    early = failure_of(run(system, MODEL_JOB, "2023-06-01")).description
    assert "44 are known before 2023-05-24 12:06, Madrid time" in str(early)
    # Nothing is requested twice.
    result = evaluate(system)
    assert not result.run_requests and result.skip_reason
    assert "needs 180 days before it, and 20 are stored" in str(result.skip_reason.skip_message)


def test_the_forecast_does_without_hours_that_a_check_has_called_unusual(
    system: Clockwork,
) -> None:
    week_before, two_weeks_before = (TOMORROW - timedelta(days=n) for n in (7, 14))
    right = hours(system, week_before, REAL)
    system.api.faults[str(week_before)] = "wild"
    assert system.project.materialize(str(week_before)).success
    wild = hours(system, week_before, REAL)
    assert wild.iloc[5] > right.iloc[5] + 1_000  # the store has the operator's values
    assert run(system, FORECAST_JOB, str(TOMORROW)).success
    forecast = hours(system, TOMORROW).to_numpy()
    assert forecast[5] == hours(system, two_weeks_before, REAL).iloc[5]
    assert forecast[:5].tolist() == right.iloc[:5].tolist()


def test_a_range_that_fails_names_its_failed_days_and_the_others(system: Clockwork) -> None:
    tags = {
        "dagster/asset_partition_range_start": "2023-04-15",
        "dagster/asset_partition_range_end": "2023-04-20",
    }
    result = system.project.definitions.resolve_job_def(FORECAST_JOB).execute_in_process(
        tags=tags, instance=system.project.instance, raise_on_error=False
    )
    text = failure_text(result)
    assert "2 of 6 days cannot be forecast.\n2023-04-15: " in text
    assert "launch without these days: 2023-04-17 to 2023-04-20." in text
    failed_days = failure_of(result).metadata[FAILED_DAYS].value
    assert failed_days == ["2023-04-15", "2023-04-16"]


def test_nothing_is_forecast_before_noon_or_before_the_morning_is_stored(tmp_path: Path) -> None:
    with clockwork(tmp_path, NOON.replace(hour=11, minute=50)) as system:
        assert system.project.materialize("2023-05-10", "2023-05-23").success
        system.tick("current_day_sensor")
        system.tick("forecast_sensor")
        assert [run[1] for run in system.runs] == [str(TODAY)] * 2  # its demand, and its forecast
        system.at(NOON).tick("forecast_sensor")  # the last hour before noon is not stored yet
        assert len(system.runs) == 2
        system.tick("current_day_sensor", "forecast_sensor")
        assert [run[1] for run in system.runs[2:]] == [str(TODAY), str(TOMORROW)]


def test_an_afternoon_does_not_change_the_forecast(system: Clockwork) -> None:
    system.tick("forecast_sensor")
    system.at(NOON + timedelta(hours=5)).tick()
    system.tick("forecast_sensor")
    assert [first for _, first, _, _ in system.runs].count(str(TOMORROW)) == 1


@pytest.mark.parametrize("day", [TODAY, date(2023, 5, 18)], ids=["morning", "last week"])
def test_a_revised_hour_makes_the_forecast_again(system: Clockwork, day: date) -> None:
    system.tick("forecast_sensor")
    before = metadata(system, "demand_forecast", TOMORROW)["fingerprint"]
    system.api.source = Revised(system.api.source, day)
    assert system.project.materialize(str(day)).success
    system.tick("forecast_sensor")
    assert [first for _, first, _, _ in system.runs].count(str(TOMORROW)) == 2
    assert metadata(system, "demand_forecast", TOMORROW)["fingerprint"] != before
    # It is made again once.
    assert not evaluate(system).run_requests


def test_a_failed_forecast_is_requested_again_with_growing_pauses(system: Clockwork) -> None:
    database = system.project.folder / "demand.duckdb"
    database.rename(database.with_suffix(".away"))
    for minutes in range(0, 160, 10):
        system.at(NOON + timedelta(minutes=minutes)).tick("forecast_sensor")
    runs = [(at - NOON, ok) for at, first, _, ok in system.runs if first == str(TOMORROW)]
    assert runs == [(timedelta(minutes=m), False) for m in (0, 10, 30, 70, 150)]
    database.with_suffix(".away").replace(database)
    system.at(NOON + timedelta(minutes=150 + 160)).tick("forecast_sensor")
    assert [success for *_, success in system.runs[-2:]] == [True, True]


def test_a_day_has_its_model_its_forecast_and_its_score(tmp_path: Path) -> None:
    """Over a month's end and a clock change; no later demand leaks into a forecast."""
    with clockwork(tmp_path, datetime(2023, 3, 25, 12, 6, tzinfo=TIME_ZONE)) as system:
        day = date(2023, 3, 26)
        assert system.project.materialize("2022-08-01", "2023-03-25").success
        system.tick("forecast_sensor")
        requested = ["2023-03-01", "2023-03-25", "2023-03-26"]
        assert [first for _, first, _, _ in system.runs] == requested
        system.tick("forecast_sensor")
        assert len(system.runs) == 3
        made = hours(system, day)
        assert made.notna().sum() == len(made) == 23
        figures = metadata(system, "demand_forecast", day)
        assert (figures["made_by"], figures["model"]) == (TRAINED_MODEL, "2023-03-01")
        page = (system.project.folder / "demand_dashboard" / "index.html").read_text()
        (line,) = re.findall(r'"ForecastModel":\[(.*?)\]', page)
        shown = [float(mw) for mw in line.split(",")[-23:]]
        assert shown == pytest.approx(made.tolist(), abs=0.01)

        system.at(datetime(2023, 3, 27, 1, 0, tzinfo=TIME_ZONE))
        system.run_until(datetime(2023, 3, 27, 1, 5, tzinfo=TIME_ZONE), timedelta(minutes=1))
        assert system.state(str(day)) == State.INGESTED
        system.tick("forecast_sensor")
        stored = system.project.stored().reindex(day_hours(day))
        scores = metadata(system, "demand_forecast_score", day)
        for name, column in (("model", MODEL), ("operator", FORECAST)):
            expected = score(stored[column], stored[REAL])
            assert scores[f"{name}_mape_percent"] == pytest.approx(expected.mape_percent)
            assert scores[f"{name}_bias_mw"] == pytest.approx(expected.bias_mw)
        assert scores["naive_mape_percent"]

        # A forecast made again later, by the model of its month, has the same values.
        system.at(datetime(2023, 4, 10, 1, 0, tzinfo=TIME_ZONE))
        assert system.project.materialize("2023-03-26", "2023-04-09").success
        assert run(system, MODEL_JOB, "2023-03-01").success
        assert run(system, MODEL_JOB, "2023-04-01").success
        assert run(system, FORECAST_JOB, str(day)).success
        pd.testing.assert_series_equal(hours(system, day), made)
        assert metadata(system, "demand_forecast", day)["model"] == "2023-03-01"

        # A model trained too early, lost or damaged is requested again, after a pause; until then
        # the one of the month before is used.
        system.clock.shift(timedelta(minutes=10))
        assert not model_requests(system)
        april, march = (
            system.project.folder / "demand_forecast_model" / month / "model.json"
            for month in ("2023-04-01", "2023-03-01")
        )
        intact = april.read_text()
        early = intact.replace('"2023-03-31T12:00+02:00"', '"2023-03-30T12:00+02:00"')
        for content in (early, None, "{"):
            april.unlink() if content is None else april.write_text(content)
            assert model_requests(system) == ["2023-04-01"]
        system.clock.shift(timedelta(minutes=-1))
        assert not model_requests(system)
        system.clock.shift(timedelta(minutes=1))
        assert run(system, FORECAST_JOB, "2023-04-09").success
        figures = metadata(system, "demand_forecast", date(2023, 4, 9))
        assert (figures["made_by"], figures["model"]) == (TRAINED_MODEL, "2023-03-01")

        # Without a model, or with one for another time of day, it is that of the week before.
        later = replace(
            system.project, settings=replace(system.project.settings, forecast_at=time(9))
        )
        for project, reason in ((later, "used at 09:00"), (system.project, "used at 12:00")):
            system.project = project
            assert run(system, FORECAST_JOB, str(day)).success
            figures = metadata(system, "demand_forecast", day)
            assert figures["made_by"] == WEEKLY_NAIVE and reason in str(figures["why"])
            march.write_text("{")


def write_model(system: Clockwork, expression: str) -> None:
    """Replace all forecasts of the model by an SQL expression."""
    table = "influx_demand_points"
    with duckdb.connect(str(system.project.folder / "demand.duckdb")) as base:
        base.execute(f'alter table {table} add column if not exists "ForecastModel" double')
        base.execute(f'update {table} set "ForecastModel" = {expression}')


def test_the_check_warns_when_the_model_is_worse_than_the_week_before(system: Clockwork) -> None:
    def check(day: str) -> AssetCheckEvaluation:
        (evaluation,) = run(system, SCORE_JOB, day).get_asset_check_evaluations()
        return evaluation

    assert "0 hours were forecast" in str(check("2023-05-23").description)
    write_model(system, '"RealDemand" * 1.001')
    good = check("2023-05-23")
    assert good.passed and good.metadata["hours"].value == 14 * 24
    write_model(system, '"RealDemand" * 1.2')
    bad = check("2023-05-23")
    assert not bad.passed and bad.severity.value == "WARN"
    assert bad.metadata["model_mape_percent"].value == pytest.approx(20)
    # It needs a week of forecasts.
    lately = "time >= timestamptz '2023-05-20 00:00+02'"
    write_model(system, f'case when {lately} then "RealDemand" * 1.2 end')
    short = check("2023-05-23")
    assert short.passed and "96 hours were forecast" in str(short.description)
    write_model(system, '"RealDemand" * 1.2')
    # It is about the days before today, whichever day is scored.
    assert not check("2023-04-20").passed
    assert "naive_mape_percent" in metadata(system, "demand_forecast_score", date(2023, 4, 20))


def test_a_weekly_naive_forecast_is_not_scored_as_the_model(system: Clockwork) -> None:
    assert run(system, FORECAST_JOB, "2023-05-23").success
    assert metadata(system, "demand_forecast", date(2023, 5, 23))["made_by"] == WEEKLY_NAIVE
    assert run(system, SCORE_JOB, "2023-05-23").success
    figures = metadata(system, "demand_forecast_score", date(2023, 5, 23))
    assert "naive_mape_percent" in figures and "model_mape_percent" not in figures


def test_closed_days_are_scored_once_each(system: Clockwork) -> None:
    for day in ("2023-05-22", "2023-05-23"):
        assert run(system, FORECAST_JOB, day).success
    for _ in range(3):
        system.tick("forecast_sensor")
    scored = [first for _, first, last, _ in system.runs if first < str(TODAY)]
    assert sorted(scored) == ["2023-05-22", "2023-05-23"]


def test_forecasts_are_made_again_once_there_is_a_model(tmp_path: Path) -> None:
    """As on the first day of use, when history is loaded after the first forecasts."""
    with clockwork(tmp_path, NOON) as system:
        assert system.project.materialize("2023-05-01", "2023-05-24").success
        system.tick("forecast_sensor")
        assert metadata(system, "demand_forecast", TOMORROW)["made_by"] == WEEKLY_NAIVE
        assert system.project.materialize("2022-10-15", "2023-04-30").success
        system.at(NOON + timedelta(minutes=20))
        system.tick("forecast_sensor")
        system.tick("forecast_sensor")
        for day in (TODAY, TOMORROW):
            assert metadata(system, "demand_forecast", day)["made_by"] == TRAINED_MODEL
        assert not evaluate(system).run_requests


def test_a_materialization_without_metadata_does_not_stop_the_sensor(system: Clockwork) -> None:
    reported = AssetMaterialization("demand_forecast", partition=str(TOMORROW))
    system.project.instance.report_runless_asset_event(reported)
    system.tick("forecast_sensor")
    assert hours(system, TOMORROW).notna().all()


def test_runs_of_the_forecast_are_not_in_the_ledger(system: Clockwork) -> None:
    before = system.ledger()
    system.tick("forecast_sensor")
    system.queue_run(str(TODAY), FORECAST_JOB)
    system.queue_run("2023-05-01", MODEL_JOB)
    after = system.ledger()
    assert (after.stored, after.attempts, after.under_way) == (before.stored, {}, {})
    system.queue_run(str(TODAY))
    assert system.ledger().under_way.keys() == {TODAY}
