"""The sensors on a real instance: through midnight, outages and downtime the ledger ends up right.

Which runs are planned for which ledger is tested in `unit/orchestration/test_plans.py`.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetMaterialization,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
)
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.event_log import SqlEventLogStorageTable
from dagster._core.test_utils import create_run_for_test
from sqlalchemy import Engine, event

from demand_assets.orchestration import ledger_reader, tags
from demand_assets.orchestration.dagster_internals.event_log import PooledSqliteEventLogStorage
from demand_assets.orchestration.keys import DEMAND_JOB
from demand_assets.orchestration.ledger_reader import MOST_FAILURES_READ
from demand_assets.orchestration.planning.ledger import State
from demand_assets_tests.support.clockwork import POINTS, Clockwork, clockwork
from demand_assets_tests.support.ledgers import HOURS, MINUTES, madrid, may, may_range

NOON = madrid("2023-05-20T12:00")


def ranges_of_past_days(system: Clockwork) -> list[tuple[str, str]]:
    """First and last day of each run that was requested for other days than today."""
    return [(first, last) for when, first, last, _ in system.runs if last < f"{when:%F}"]


# Today


def test_midnight_closes_the_day_and_opens_the_next(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T23:50")) as system:
        system.run_until(madrid("2023-05-11T01:10"), 20 * MINUTES)
        assert system.state("2023-05-10") == State.INGESTED
        assert system.project.stored()["RealDemand"].notna().sum() == 24 + 1
        assert system.fresh().passed
        assert all(result.passed for _, result in system.results[1:])


def test_an_hour_is_stored_within_six_minutes_of_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hour's last sample, of minute 55, appears four minutes after the hour.
    monkeypatch.setattr("demand_assets.simulator.server.REAL_DELAY", 9 * MINUTES)
    end = madrid("2023-05-10T13:00")
    with clockwork(tmp_path, end - 3 * MINUTES) as system:
        system.tick("current_day_sensor")
        assert system.ledger().stored[date(2023, 5, 10)].last_hour == end - 2 * HOURS
        while system.ledger().stored[date(2023, 5, 10)].last_hour != end - HOURS:
            system.clock.shift(MINUTES)
            system.tick("current_day_sensor")
        assert datetime.now(UTC) - end <= 6 * MINUTES
        assert len(system.runs) == 2
        assert system.project.stored()["RealDemand"].dropna().index[-1] == end - HOURS


def test_after_three_weeks_of_downtime_all_days_are_stored(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        system.tick()
        system.at(madrid("2023-05-31T12:00")).tick()
        _, stale = system.results[-1]
        assert not stale.passed
        assert "Sensor just started" in str(stale.description)
        system.clock.shift(MINUTES)
        system.tick("current_day_sensor")
        assert system.fresh().passed
        assert not system.ledger().days(State.OPEN, State.MISSING, State.FAILED)
        assert len(system.project.stored().loc[:"2023-05-30T21:00Z"]) == 21 * 24


def test_an_outage_turns_yellow_then_red_with_its_error_and_ends_green(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:06")) as system:
        system.tick("current_day_sensor")
        system.api.faults["*"] = "refused"
        while datetime.now(UTC) < madrid("2023-05-10T14:06"):
            system.clock.shift(15 * MINUTES)
            system.tick("current_day_sensor")
        colors = [(r.passed, r.severity.value) for _, r in system.results[1:]]
        assert [color for color, _ in itertools.groupby(colors)] == [
            (True, "WARN"),
            (False, "WARN"),
            (False, "ERROR"),
        ]
        assert "REData answered 400" in str(system.fresh().description)
        del system.api.faults["*"]
        system.clock.shift(10 * MINUTES)
        system.tick("current_day_sensor")
        system.tick("current_day_sensor")
        assert system.fresh().passed


def test_a_result_is_recorded_when_it_changes_and_once_without_a_cursor(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:06")) as system:
        system.tick("current_day_sensor")  # today is missing, then stored
        for _ in range(9):
            system.clock.shift(MINUTES)
            system.tick("current_day_sensor")
        assert [result.passed for _, result in system.results] == [False, True]
        system.clock.shift(MINUTES)
        system.tick("current_day_sensor")  # stored again
        system.tick("current_day_sensor")
        assert len(system.results) == 3
        system.cursors.clear()
        system.tick("current_day_sensor")
        system.tick("current_day_sensor")
        assert len(system.results) == 4


def test_old_days_make_today_neither_fresh_nor_stale(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:06")) as system:
        system.tick("current_day_sensor")
        system.clock.shift(3 * MINUTES)
        assert system.project.materialize("2022-01-01", "2022-01-03").success
        assert system.project.instance.get_latest_materialization_event(POINTS)
        system.tick("current_day_sensor")
        assert system.fresh().passed
        system.api.faults["2023-05-10"] = "refused"
        system.at(madrid("2023-05-10T14:30")).tick("current_day_sensor")
        assert system.project.materialize("2022-01-04", "2022-01-06").success
        system.clock.shift(MINUTES)
        system.tick("current_day_sensor")
        assert not system.fresh().passed


def test_a_run_that_waits_in_the_queue_is_not_requested_again(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        system.tick()
        system.at(madrid("2023-05-10T13:06"))
        run = system.queue_run("2023-05-10")
        system.at(madrid("2023-05-10T14:30"))
        requested = len(system.runs)
        system.tick()
        assert len(system.runs) == requested
        assert not system.fresh().passed
        assert str(system.fresh().description).endswith(
            f"Queue stuck: run {run.run_id[:8]} is queued since 13:06 Madrid time."
        )


def test_a_day_that_was_answered_short_is_requested_until_it_is_complete(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-11T00:31")) as system:
        system.api.faults["2023-05-10"] = "short"
        assert system.project.materialize("2023-05-10").success
        assert system.state("2023-05-10") == State.OPEN
        del system.api.faults["2023-05-10"]
        system.clock.shift(31 * MINUTES)
        system.tick("current_day_sensor")
        assert system.state("2023-05-10") == State.INGESTED


# Gaps and failed days


def test_days_of_a_backfill_are_left_to_it(tmp_path: Path) -> None:
    with clockwork(tmp_path, NOON) as system:
        assert system.project.materialize("2023-05-09").success
        backfill = system.launch_backfill("2023-05-10", "2023-05-18")
        system.tick()
        assert {run[1:3] for run in system.runs} == {
            ("2023-05-20", "2023-05-20"),
            ("2023-05-19", "2023-05-19"),
        }
        assert system.state("2023-05-12") == State.IN_PROGRESS
        ended = backfill.with_status(BulkActionStatus.CANCELED)
        system.project.instance.update_backfill(ended)
        system.tick()
        assert system.runs[-1][1:] == ("2023-05-10", "2023-05-18", True)


def test_today_stays_fresh_before_a_backfill_reaches_it(tmp_path: Path) -> None:
    with clockwork(tmp_path, NOON) as system:
        assert system.project.materialize("2023-05-17").success
        system.launch_backfill("2023-05-17", "2023-05-20")
        system.tick()
        assert [run[1] for run in system.runs] == ["2023-05-20"]


@pytest.mark.usefixtures("pauses")
def test_an_outage_is_waited_out_and_names_no_day_as_its_cause(tmp_path: Path) -> None:
    with clockwork(tmp_path, NOON) as system:
        assert system.project.materialize("2023-04-10").success
        system.tick("current_day_sensor")
        system.api.faults["*"] = "outage"
        for _ in range(4):
            system.tick("missing_days_sensor")
            system.clock.shift(2 * MINUTES)
        assert ranges_of_past_days(system) == [("2023-04-11", "2023-05-19")]
        (attempt,) = set(system.ledger().attempts.values())
        assert attempt.failed_days == set(attempt.days)
        system.api.faults.clear()
        system.at(madrid("2023-05-20T12:12")).tick("missing_days_sensor")
        assert system.runs[-1][1:] == ("2023-04-11", "2023-05-19", True)


@pytest.mark.usefixtures("pauses")
def test_a_store_that_is_away_is_waited_out_and_its_days_stay_together(tmp_path: Path) -> None:
    with clockwork(tmp_path, NOON) as system:
        assert system.project.materialize("2023-05-15").success
        system.tick("current_day_sensor")
        database = tmp_path / "data" / "demand.duckdb"
        database.rename(tmp_path / "elsewhere")
        database.mkdir()
        for _ in range(7):
            system.tick("missing_days_sensor")
            system.clock.shift(2 * MINUTES)
        assert ranges_of_past_days(system) == [("2023-05-16", "2023-05-19")] * 2
        database.rmdir()
        (tmp_path / "elsewhere").rename(database)
        system.at(madrid("2023-05-20T12:40")).tick("missing_days_sensor")
        assert system.runs[-1][1:] == ("2023-05-16", "2023-05-19", True)


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(("fault", "reason"), [("no-data", "no data"), ("error-504", "504")])
def test_a_day_that_fails_is_separated_and_requested_with_pauses(
    tmp_path: Path, fault: str, reason: str
) -> None:
    with clockwork(tmp_path, NOON) as system:
        system.api.faults["2023-05-08"] = fault
        assert system.project.materialize("2023-04-30").success
        system.tick("current_day_sensor")
        for _ in range(4):
            system.tick("missing_days_sensor")
            system.clock.shift(MINUTES)
        ledger = system.ledger()
        assert ledger.days(State.FAILED) == may(8)
        assert not ledger.days(State.MISSING, State.OPEN)
        assert "2023-05-08" in ledger.attempts[date(2023, 5, 8)].error
        assert reason in ledger.attempts[date(2023, 5, 8)].error
        for _ in range(4):
            system.clock.shift(10 * MINUTES)
            system.tick("missing_days_sensor")
        times = [when for when, first, last, _ in system.runs if first == last == "2023-05-08"]
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert pauses == [13 * MINUTES, 20 * MINUTES]
        system.api.faults.clear()
        system.clock.shift(HOURS)
        system.tick("missing_days_sensor")
        assert system.state("2023-05-08") == State.INGESTED


def test_a_run_that_lost_its_events_is_repeated(tmp_path: Path) -> None:
    with clockwork(tmp_path, NOON) as system:
        result = system.project.materialize("2023-05-15", "2023-05-17")
        storage = system.project.instance.event_log_storage
        assert isinstance(storage, PooledSqliteEventLogStorage)
        # As a power cut may leave it: the last transaction of one database is gone.
        lost = SqlEventLogStorageTable.c
        with storage.index_connection() as connection:
            connection.execute(
                SqlEventLogStorageTable.delete().where(
                    lost.run_id == result.run_id,
                    lost.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value,
                )
            )
        system.clock.shift(10 * MINUTES)
        system.tick("missing_days_sensor")
        assert ranges_of_past_days(system) == [
            ("2023-05-15", "2023-05-16"),
            ("2023-05-17", "2023-05-17"),
        ]


# The reader of the ledger


def test_the_settings_decide_the_first_day_and_when_a_day_has_settled(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-20T00:40")) as system:
        assert system.project.materialize("2023-05-18", "2023-05-19").success
        system.project.settings = replace(
            system.project.settings, start_date=date(2023, 5, 19), settle=45 * MINUTES
        )
        ledger = system.ledger()
        assert ledger.days(*State) == may(19)
        assert ledger.days(State.OPEN) == may(19)


def test_failures_before_the_first_partition_are_left_out(tmp_path: Path) -> None:
    with clockwork(tmp_path, NOON) as system:
        system.api.faults["*"] = "no-data"
        assert not system.project.materialize("2023-05-17", "2023-05-18").success
        assert set(system.ledger().attempts) == {*may(17, 18)}
        system.project.settings = replace(system.project.settings, start_date=date(2023, 5, 18))
        assert set(system.ledger().attempts) == {*may(18)}


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> None:
    """Let something happen while the ledger is read, after the materializations."""
    read = ledger_reader.newest_attempts

    def read_later(*args: Any) -> Any:
        happens()
        return read(*args)

    monkeypatch.setattr(ledger_reader, "newest_attempts", read_later)


def test_a_run_that_starts_while_the_ledger_is_read_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with clockwork(tmp_path, NOON) as system:
        meanwhile(monkeypatch, lambda: system.queue_run("2023-05-19"))
        assert system.state("2023-05-19") == State.IN_PROGRESS


def test_a_run_that_ends_while_the_ledger_is_read_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with clockwork(tmp_path, NOON) as system:
        run = system.queue_run("2023-05-19")
        meanwhile(monkeypatch, lambda: system.project.instance.report_run_canceled(run))
        assert system.state("2023-05-19") == State.IN_PROGRESS


def fail_run(instance: DagsterInstance, day: date) -> None:
    """A run of a day that failed without further events."""
    run = create_run_for_test(
        instance,
        job_name=DEMAND_JOB,
        tags={tags.PARTITION: str(day)},
        status=DagsterRunStatus.FAILURE,
    )
    planned = DagsterEvent.build_asset_materialization_planned_event(
        DEMAND_JOB,
        POINTS.to_python_identifier(),
        AssetMaterializationPlannedData(POINTS, partition=str(day)),
    )
    instance.report_dagster_event(planned, run.run_id)


def count_queries(of: Callable[[], Any]) -> int:
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        of()
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    return counted


def test_a_tick_takes_as_many_queries_for_a_month_as_for_a_year(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        system.tick()

        def store(first: date, days: int) -> None:
            for n in range(days):
                materialized = AssetMaterialization(POINTS, partition=str(first + timedelta(n)))
                system.project.instance.report_runless_asset_event(materialized)

        store(date(2023, 4, 10), 30)
        month = count_queries(system.tick)
        store(date(2022, 4, 10), 365)
        assert count_queries(system.tick) <= month
        assert len(system.ledger().days(State.INGESTED)) == 395


def test_the_queries_are_bounded_however_many_runs_have_failed(tmp_path: Path) -> None:
    with clockwork(tmp_path, NOON) as system:
        for day in may_range(1, MOST_FAILURES_READ + 1):
            system.clock.shift(timedelta(seconds=1))
            fail_run(system.project.instance, day)
        queries = count_queries(system.ledger)
        system.clock.shift(timedelta(seconds=1))
        for n in range(1, 21):
            fail_run(system.project.instance, date(2023, 4, n))
        assert count_queries(system.ledger) == queries
        ledger = system.ledger()
        assert len(ledger.attempts) == MOST_FAILURES_READ + 21
        # Of the newest runs the events are read; of older ones all days count as the cause.
        read = [a for a in ledger.attempts.values() if not a.failed_days]
        assert len(read) == MOST_FAILURES_READ
        assert {a.days[0].month for a in read} == {4}
        unread = [a for a in ledger.attempts.values() if a.failed_days]
        assert all(a.failed_days == set(a.days) for a in unread)
        assert all(a.error == f"see run {a.run_id[:8]}" for a in unread)
