"""Through midnights, clock changes, outages and weeks of downtime the ledger ends up true."""

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from dagster import AssetCheckSeverity, AssetMaterialization, DagsterEventType
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.event_log import SqlEventLogStorageTable
from sqlalchemy import Engine, event

from demand_assets.grid import TIME_ZONE
from demand_assets.orchestration.dagster_internals.event_log import PooledSqliteEventLogStorage
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.orchestration.planning.ledger import Attempt, Ledger, State, Stored
from demand_assets.orchestration.planning.plans import Plan, plan_missing_days, plan_open_days
from demand_assets_tests.support.clockwork import POINTS, clockwork

MINUTES = timedelta(minutes=1)


def madrid(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=TIME_ZONE)


def test_a_midnight_closes_the_day_and_opens_the_next(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T23:50")) as system:
        system.run_until(madrid("2023-05-11T01:10"), 5 * MINUTES)
        assert system.state("2023-05-10") == State.INGESTED
        assert system.project.stored()["RealDemand"].notna().sum() == 24 + 1
        assert system.fresh().passed
        assert all(verdict.passed for _, verdict in system.verdicts[1:])


@pytest.mark.parametrize(
    ("day", "hours"), [("2023-03-26", 23), ("2023-10-29", 25), ("2024-02-29", 24)]
)
def test_odd_days_are_refreshed_and_closed(tmp_path: Path, day: str, hours: int) -> None:
    with clockwork(tmp_path, madrid(f"{day}T01:00")) as system:
        system.run_until(madrid(f"{day}T04:00"), 30 * MINUTES)
        assert system.fresh().passed
        system.run_until(madrid(f"{day}T23:30"), 360 * MINUTES)
        system.at(madrid(f"{day}T23:59") + 45 * MINUTES).tick()
        assert system.state(day) == State.INGESTED
        start = madrid(f"{day}T00:00")
        stored = system.project.stored()["RealDemand"].loc[str(start) :].dropna()
        assert len(stored) == hours


def test_stopped_for_three_weeks_it_catches_up(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        system.tick()
        system.at(madrid("2023-05-31T12:00"))
        system.tick()
        _, stale = system.verdicts[-1]
        assert not stale.passed
        assert "Sensor just started" in str(stale.description)
        system.run_until(madrid("2023-05-31T12:05"), MINUTES)
        assert system.fresh().passed
        assert not system.ledger().days(State.OPEN, State.MISSING, State.FAILED)
        assert len(system.project.stored().loc[:"2023-05-30T21:00Z"]) == 21 * 24


def test_a_day_that_a_person_stored_too_early_is_closed(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T15:00")) as system:
        assert system.project.materialize("2023-05-10").success
        system.at(madrid("2023-05-17T15:00"))
        assert system.state("2023-05-10") == State.OPEN
        system.tick()
        assert system.state("2023-05-10") == State.INGESTED


def test_a_backfills_days_are_left_to_it(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-20T12:00")) as system:
        assert system.project.materialize("2023-05-09").success
        backfill = system.launch_backfill("2023-05-10", "2023-05-18")
        system.tick()
        asked = {(first, last) for _, first, last, _ in system.runs}
        assert asked == {("2023-05-20", "2023-05-20"), ("2023-05-19", "2023-05-19")}
        assert system.state("2023-05-12") == State.IN_PROGRESS
        ended = backfill.with_status(BulkActionStatus.CANCELED)
        system.project.instance.update_backfill(ended)
        system.tick()
        assert system.runs[-1][1:] == ("2023-05-10", "2023-05-18", True)


def test_a_backfill_that_has_not_come_to_today_does_not_keep_it_from_being_fresh(
    tmp_path: Path,
) -> None:
    with clockwork(tmp_path, madrid("2023-05-20T12:00")) as system:
        assert system.project.materialize("2023-05-17").success
        system.launch_backfill("2023-05-17", "2023-05-20")
        system.tick()
        assert [run[1] for run in system.runs] == ["2023-05-20"]


def test_an_outage_is_waited_out_and_not_taken_for_poisoned_days(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-20T12:00")) as system:
        assert system.project.materialize("2023-05-01").success
        system.api.faults["*"] = "outage"
        system.run_until(madrid("2023-05-20T12:08"), 2 * MINUTES)
        ranges = [run[1:3] for run in system.runs if run[1] != "2023-05-20"]
        assert ranges == [("2023-05-02", "2023-05-19")]
        del system.api.faults["*"]
        system.at(madrid("2023-05-20T12:12")).tick()
        assert system.runs[-1][1:] == ("2023-05-02", "2023-05-19", True)


@pytest.mark.usefixtures("pauses")
def test_a_store_that_is_away_is_waited_out_and_its_days_stay_together(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-20T12:00")) as system:
        assert system.project.materialize("2023-05-01").success
        database = tmp_path / "data" / "demand.duckdb"
        database.rename(tmp_path / "elsewhere")
        database.mkdir()
        system.run_until(madrid("2023-05-20T12:12"), 2 * MINUTES)
        ranges = [run[1:3] for run in system.runs if run[1] != "2023-05-20"]
        assert ranges == [("2023-05-02", "2023-05-19")] * 2
        database.rmdir()
        (tmp_path / "elsewhere").rename(database)
        system.at(madrid("2023-05-20T12:40")).tick()
        assert system.runs[-1][1:] == ("2023-05-02", "2023-05-19", True)


def test_what_went_to_another_store_is_missing_in_this_one(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-20T12:00")) as system:
        assert system.project.materialize("2023-05-02", "2023-05-19").success
        elsewhere = replace(system.project.settings, influxdb_url="http://ana:secret@influx:8086")
        ledger = read_ledger(system.project.instance, elsewhere, datetime.now(UTC))
        assert ledger.days(State.MISSING) == [date(2023, 5, n) for n in range(2, 20)]
        assert spans(plan_missing_days(ledger, 10 * MINUTES, 92)) == [("2023-05-02", "2023-05-19")]
        assert elsewhere.store.address == "InfluxDB http://influx:8086, bucket capstone7"
        assert not system.ledger().days(State.MISSING)


def test_a_run_that_succeeded_and_lost_its_events_is_made_again(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-20T12:00")) as system:
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
        system.run_until(madrid("2023-05-20T12:30"), 10 * MINUTES)
        asked = {run[1:] for run in system.runs if run[1] != "2023-05-20"}
        assert asked >= {("2023-05-15", "2023-05-16", True), ("2023-05-17", "2023-05-17", True)}


def test_history_that_a_person_asked_for_in_vain_is_asked_for_again(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-20T12:00")) as system:
        system.api.faults["2022-01-04"] = "no-data"
        system.tick()
        assert not system.project.materialize("2022-01-01", "2022-01-08").success
        system.clock.shift(MINUTES)
        system.tick("missing_days_sensor")
        assert [run[1:] for run in system.runs[1:]] == [
            ("2022-01-01", "2022-01-03", True),
            ("2022-01-05", "2022-01-08", True),
            ("2022-01-04", "2022-01-04", False),
        ]


def test_days_before_the_first_partition_are_nobodys_business(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        assert system.project.materialize("2023-05-10").success
        system.project = replace(
            system.project, settings=replace(system.project.settings, start_date=date(2023, 5, 14))
        )
        system.at(madrid("2023-05-16T12:00"))
        system.tick()
        system.tick()
        assert [run[1:3] for run in system.runs] == [("2023-05-16", "2023-05-16")]


def test_the_verdict_is_recorded_when_it_says_something_new(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:06")) as system:
        system.tick("current_day_sensor")
        system.api.faults["*"] = "refused"
        system.run_until(madrid("2023-05-10T15:00"), MINUTES)
        outcomes = [(v.passed, v.severity.value) for _, v in system.verdicts[1:]]
        assert [key for key, _ in itertools.groupby(outcomes)] == [
            (True, "WARN"),
            (False, "WARN"),
            (False, "ERROR"),
        ]
        assert len(outcomes) < 60
        fails = next(when for when, v in system.verdicts[1:] if v.severity.value == "ERROR")
        assert fails == madrid("2023-05-10T14:01")


def test_a_run_that_waits_in_the_queue_is_waited_for_and_named(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        system.tick()
        system.at(madrid("2023-05-10T13:06"))
        run = system.queue_run("2023-05-10")
        system.at(madrid("2023-05-10T14:30"))
        asked = len(system.runs)
        system.tick()
        assert len(system.runs) == asked
        assert not system.fresh().passed
        assert str(system.fresh().description).endswith(
            f"Queue stuck: run {run.run_id[:8]} is queued since 13:06 Madrid time."
        )


def test_today_goes_ahead_of_a_backfill_in_the_queue_and_a_gap_behind_it(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        assert system.project.materialize("2023-05-05").success
        assert system.project.materialize("2023-05-09").success
        system.tick()
        first, gap = (system.priority(key) for key in ("2023-05-10", "2023-05-06"))
        assert first > 0 > gap  # a backfill's runs have none, which counts as 0


def test_a_tick_takes_as_many_queries_for_a_month_as_for_a_year(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        system.tick()

        def queries() -> int:
            counted = 0

            def count(*_: object) -> None:
                nonlocal counted
                counted += 1

            event.listen(Engine, "before_cursor_execute", count)
            try:
                system.tick()
            finally:
                event.remove(Engine, "before_cursor_execute", count)
            return counted

        def store(first: date, days: int) -> None:
            for n in range(days):
                told = AssetMaterialization(POINTS, partition=str(first + timedelta(days=n)))
                system.project.instance.report_runless_asset_event(told)

        store(date(2023, 4, 10), 30)
        month = queries()
        store(date(2022, 4, 10), 365)
        assert queries() <= month
        assert len(system.ledger().days(State.INGESTED)) == 395


def test_an_outage_warns_then_fails_names_its_cause_and_heals(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T10:06")) as system:
        system.tick()
        system.clock.shift(MINUTES)
        system.api.faults["*"] = "refused"
        system.run_until(madrid("2023-05-10T12:30"), 10 * MINUTES)
        # The first tick came before there was anything to judge.
        severities = [v.severity for _, v in system.verdicts[1:] if not v.passed]
        assert severities[0] == AssetCheckSeverity.WARN
        assert severities[-1] == AssetCheckSeverity.ERROR
        assert "REData answered 400" in str(system.fresh().description)
        del system.api.faults["*"]
        system.run_until(madrid("2023-05-10T12:52"), 10 * MINUTES)
        system.tick()
        assert system.fresh().passed


def test_a_poisoned_day_in_a_gap_is_left_alone_and_asked_ever_more_rarely(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-01T12:00")) as system:
        system.api.faults["2023-05-08"] = "no-data"
        assert system.project.materialize("2023-04-30").success
        system.at(madrid("2023-05-21T12:00"))
        system.run_until(madrid("2023-05-21T12:04"), MINUTES)
        ledger = system.ledger()
        assert ledger.days(State.FAILED) == [datetime(2023, 5, 8).date()]  # noqa: DTZ001
        assert not ledger.days(State.MISSING, State.OPEN)
        attempt = next(iter(ledger.attempts.values()))
        assert "2023-05-08" in attempt.error
        assert "no data" in attempt.error
        system.run_until(madrid("2023-05-21T15:00"), 10 * MINUTES)
        asked = [when for when, first, last, _ in system.runs if first == last == "2023-05-08"]
        pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
        assert len(pauses) >= 3
        assert pauses == sorted(pauses)
        assert pauses[-1] > 2 * pauses[0]
        del system.api.faults["2023-05-08"]
        system.at(madrid("2023-05-23T12:00")).tick()
        assert system.state("2023-05-08") == State.INGESTED


def test_an_old_backfill_does_not_make_today_fresh(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        system.api.faults["2023-05-10"] = "refused"
        system.tick("current_day_sensor")
        assert system.project.materialize("2022-01-01", "2022-01-31").success
        system.clock.shift(10 * MINUTES)
        system.tick("current_day_sensor")
        assert not system.fresh().passed


def test_a_day_answered_short_is_asked_ever_more_rarely_until_it_is_whole(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        system.tick()
        system.api.faults["2023-05-10"] = "short"
        system.at(madrid("2023-05-11T00:31"))
        system.run_until(madrid("2023-05-11T09:00"), 30 * MINUTES)
        assert system.state("2023-05-10") == State.OPEN
        asked = [when for when, first, _, _ in system.runs if first == "2023-05-10"][1:]
        assert 3 <= len(asked) <= 6
        del system.api.faults["2023-05-10"]
        system.at(madrid("2023-05-12T00:31")).tick()
        assert system.state("2023-05-10") == State.INGESTED


@pytest.mark.parametrize("fault", ["zeros", "negative", "huge", "nan"])
def test_values_that_cannot_be_demand_never_reach_the_database(tmp_path: Path, fault: str) -> None:
    with clockwork(tmp_path, madrid("2023-05-10T12:00")) as system:
        system.api.faults["2023-05-08"] = fault
        assert not system.project.materialize("2023-05-08").success
        assert "demand.duckdb" not in system.project.files()


def attempt(number: int, days: list[date], blamed: set[date]) -> Attempt:
    """A run that has just failed."""
    ended = madrid("2023-05-20T12:00")
    return Attempt("a-run", ended, number, tuple(days), frozenset(blamed), "it broke")


def spans(plan: Plan) -> list[tuple[str | None, str | None]]:
    keys = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return [
        (r.partition_key, r.partition_key)
        if r.partition_key
        else (r.tags.get(keys[0]), r.tags.get(keys[1]))
        for r in plan.requests
    ]


def planned(failed: Attempt, pause: timedelta) -> Plan:
    """What is asked for some time after a failure in days that were otherwise all stored."""
    stored = Stored(madrid("2023-05-31T12:00"), 24, 24, None)
    ledger = Ledger(
        now=failed.ended + pause,
        settle=30 * MINUTES,
        stored=dict.fromkeys([date(2023, 5, n) for n in range(1, 31)], stored),
        attempts=dict.fromkeys(failed.days, failed),
    )
    return plan_missing_days(ledger, 10 * MINUTES, 92)


def test_a_failure_that_names_no_day_is_taken_up_in_halves() -> None:
    days = [date(2023, 5, n) for n in range(2, 7)]
    assert spans(planned(attempt(0, days, set()), 9 * MINUTES)) == []
    assert spans(planned(attempt(0, days, set()), 10 * MINUTES)) == [
        ("2023-05-02", "2023-05-04"),
        ("2023-05-05", "2023-05-06"),
    ]


def test_a_range_that_failed_as_a_whole_goes_again_as_a_whole() -> None:
    days = [date(2023, 5, n) for n in range(2, 7)]
    assert spans(planned(attempt(1, days, set(days)), 20 * MINUTES)) == [
        ("2023-05-02", "2023-05-06")
    ]


def test_named_days_go_alone_unless_they_are_many_in_a_row() -> None:
    days = [date(2023, 5, n) for n in range(2, 20)]
    named = {days[2], *days[7:14]}
    assert spans(planned(attempt(0, days, named), timedelta())) == [
        ("2023-05-02", "2023-05-03"),
        ("2023-05-05", "2023-05-08"),
        ("2023-05-16", "2023-05-19"),
        ("2023-05-04", "2023-05-04"),
        ("2023-05-09", "2023-05-15"),
    ]


def test_a_day_of_years_ago_that_was_answered_short_is_asked_for_again_within_a_day() -> None:
    stored = Stored(madrid("2023-05-20T12:00"), 14, 24, None)
    for later, asked in ((23, []), (24, ["2021-06-01"])):
        ledger = Ledger(
            now=stored.at + timedelta(hours=later),
            settle=30 * MINUTES,
            stored={date(2021, 6, 1): stored, date(2023, 5, 20): stored, date(2023, 5, 21): stored},
            attempts={},
        )
        requests = plan_open_days(ledger, 10 * MINUTES).requests
        assert [r.partition_key for r in requests if r.partition_key == "2021-06-01"] == asked


@pytest.mark.parametrize("number", [8, 40, 4000])
def test_a_day_is_tried_at_least_once_a_day_however_often_it_failed(number: int) -> None:
    failed = attempt(number, [date(2023, 5, 3)], {date(2023, 5, 3)})
    assert spans(planned(failed, 23 * 60 * MINUTES)) == []
    assert spans(planned(failed, 24 * 60 * MINUTES)) == [("2023-05-03", "2023-05-03")]
