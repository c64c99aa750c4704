"""The record follows the store: whatever happens to the points, they end as a clean load left them.

On the embedded database and on InfluxDB 2. Which days are requested is tested in
`unit/orchestration/test_plans.py`, the words of the result in `unit/orchestration/test_audit.py`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pytest

from demand_assets.grid import COLUMNS, MODEL, REAL
from demand_assets.orchestration import keys, ledger_reader
from demand_assets.orchestration.planning.ledger import State
from demand_assets.stores import Store
from demand_assets.stores.duckdb_store import DuckDBStore
from demand_assets.stores.influxdb import InfluxDBStore
from demand_assets_tests.support.clockwork import Clockwork, clockwork
from demand_assets_tests.support.ledgers import HOURS, MINUTES, madrid, may
from demand_assets_tests.support.project import Project
from demand_assets_tests.support.servers import InfluxDB2
from demand_assets_tests.support.stores import over, write_lines

NOON = madrid("2023-05-10T12:06")
FIRST, LAST = "2023-04-20", "2023-05-09"
HALF_AN_HOUR = timedelta(minutes=30)
AN_HOUR = datetime(2023, 5, 1, 10, tzinfo=UTC)


@dataclass
class System:
    """Twenty stored days, today, and their store."""

    works: Clockwork
    clean: pd.DataFrame
    """What the store held after a clean load."""
    damage: Callable[[str], None]
    """Does something to the store behind the system's back."""

    def read(self) -> pd.DataFrame:
        return store_of(self.works).read(COLUMNS)

    def audit(self) -> None:
        """Tick the audit until nothing is requested any more."""
        for _ in range(6):
            self.works.tick("store_audit_sensor")
            self.works.clock.shift(MINUTES)

    def results(self) -> list[Any]:
        return [r for _, r in self.works.results if r.check_name == "store_is_complete"]


def store_of(works: Clockwork) -> Store:
    settings = works.project.settings
    if not settings.influxdb_url:
        return DuckDBStore(settings.database)
    return bucket_of(works)


def bucket_of(works: Clockwork) -> InfluxDBStore:
    settings = works.project.settings
    assert settings.influxdb_url
    token = os.environ["INFLUXDB_V2_TOKEN"]
    org, bucket = settings.influxdb_org, settings.influxdb_bucket
    return over(settings.influxdb_url, org=org, bucket=bucket, token=token)


@contextmanager
def loaded(works: Clockwork, damage: Callable[[str], None]) -> Iterator[System]:
    assert works.project.materialize(FIRST, LAST).success
    works.tick("current_day_sensor", "store_audit_sensor")
    system = System(works, store_of(works).read(COLUMNS), damage)
    assert system.results()[-1].passed
    works.clock.shift(61 * MINUTES)
    yield system


@pytest.fixture
def on_duckdb(tmp_path: Path) -> Iterator[System]:
    with clockwork(tmp_path, NOON) as works:
        database = tmp_path / "data" / "demand.duckdb"

        def damage(kind: str) -> None:
            if kind == "all":
                database.unlink()
                return
            statement = {
                "month": "delete from influx_demand_points where time >= '2023-05-01 00:00Z'",
                "hour": f'update influx_demand_points set "{REAL}" = 12345 where time = ?',
                "field": f'update influx_demand_points set "{REAL}" = null',
            }[kind]
            with closing(duckdb.connect(str(database))) as base:
                base.execute(statement, [AN_HOUR] if "?" in statement else [])

        with loaded(works, damage) as system:
            yield system


@pytest.fixture
def on_influxdb(
    tmp_path: Path, influxdb2: InfluxDB2, monkeypatch: pytest.MonkeyPatch
) -> Iterator[System]:
    bucket = influxdb2.create_bucket()
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", influxdb2.token)
    with clockwork(tmp_path, NOON) as works:
        works.project = in_influxdb(works, influxdb2, bucket)
        store = over(influxdb2.url, org=influxdb2.org, bucket=bucket, token=influxdb2.token)

        def damage(kind: str) -> None:
            if kind == "hour":
                store.write(pd.DataFrame({REAL: [12345.0]}, index=pd.DatetimeIndex([AN_HOUR])))
                return
            with store.influxdb.get_client() as client:
                if kind == "all":
                    found = client.buckets_api().find_bucket_by_name(bucket)
                    client.buckets_api().delete_bucket(found)
                    client.buckets_api().create_bucket(bucket_name=bucket, org=influxdb2.org)
                    return
                start = "1970-01-01T00:00:00Z" if kind == "field" else "2023-05-01T00:00:00Z"
                # InfluxDB 2 cannot delete one field, so all of them are deleted.
                client.delete_api().delete(start, "2024-01-01T00:00:00Z", "", bucket)

        with loaded(works, damage) as system:
            yield system


def in_influxdb(works: Clockwork, server: InfluxDB2, bucket: str, **changes: Any) -> Project:
    """The same project over a bucket."""
    place = {"influxdb_url": server.url, "influxdb_org": server.org, "influxdb_bucket": bucket}
    settings = replace(works.project.settings, **{**place, **changes})
    return replace(works.project, settings=settings)


@pytest.fixture(params=["on_duckdb", "on_influxdb"])
def system(request: pytest.FixtureRequest) -> System:
    found: System = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("kind", ["all", "month", "hour", "field"])
def test_lost_points_are_written_again_from_the_frames(system: System, kind: str) -> None:
    requests = len(system.works.api.requests)
    system.damage(kind)
    assert not system.read().equals(system.clean)
    system.works.tick("store_audit_sensor")
    lost = system.results()[-1]
    assert not lost.passed and lost.severity.value == "WARN"
    assert "2023-05-" in lost.description and "from the frames on disk" in lost.description
    system.audit()
    pd.testing.assert_frame_equal(system.read(), system.clean)
    assert len(system.works.api.requests) == requests
    assert set(system.works.jobs[1:]) == {"restore_job"}
    assert system.results()[-1].passed
    assert not system.works.ledger().days(State.MISSING, State.OPEN, State.FAILED)


def test_days_whose_frame_is_gone_too_are_requested_again(on_duckdb: System) -> None:
    system, works = on_duckdb, on_duckdb.works
    frames = works.project.folder / "hourly_demand_frame"
    (frames / "2023-04-25.parquet").unlink()
    (frames / "2023-04-26.parquet").write_bytes(b"damaged")
    works.api.requests.clear()
    system.damage("all")
    system.audit()
    pd.testing.assert_frame_equal(system.read(), system.clean)
    assert works.api.requests == [(date(2023, 4, 25), date(2023, 4, 26))]


def test_a_short_day_that_a_person_accepts_is_restored_and_stays_accepted(
    on_duckdb: System,
) -> None:
    system, works = on_duckdb, on_duckdb.works
    works.api.faults["2023-05-09"] = "short"
    (works.project.folder / "hourly_demand_frame" / "2023-05-09.parquet").unlink()
    system.damage("all")
    assert works.project.materialize("2023-05-09").success
    assert works.state("2023-05-09") == State.OPEN
    works.clock.shift(MINUTES)
    reported = dg.AssetMaterialization(keys.INFLUX_DEMAND_POINTS, partition="2023-05-09")
    works.project.instance.report_runless_asset_event(reported)
    assert works.state("2023-05-09") == State.INGESTED
    works.clock.shift(MINUTES)
    system.damage("all")
    system.audit()
    assert len(system.read().loc["2023-05-09T00:00Z":"2023-05-09T11:00Z"]) == 12
    assert works.state("2023-05-09") == State.INGESTED
    assert system.results()[-1].passed


def test_hours_that_somebody_adds_are_named(on_duckdb: System) -> None:
    system = on_duckdb
    frame = pd.DataFrame({REAL: [99999.0]}, index=pd.DatetimeIndex([AN_HOUR + HALF_AN_HOUR]))
    store_of(system.works).write(frame)
    system.works.tick("store_audit_sensor")
    result = system.results()[-1]
    assert not result.passed and "not written here: 2023-05-01" in str(result.description)


def test_records_of_an_earlier_version_are_audited_without_their_frames(
    on_duckdb: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = on_duckdb
    read = ledger_reader._stored
    monkeypatch.setattr(
        ledger_reader, "_stored", lambda record: replace(read(record), hours_fingerprint=None)
    )
    frames = system.works.project.folder / "hourly_demand_frame"
    frames.rename(frames.with_name("away"))
    system.works.tick("store_audit_sensor")
    assert system.results()[-1].passed
    frames.with_name("away").rename(frames)
    system.damage("hour")
    system.works.clock.shift(61 * MINUTES)
    system.works.tick("store_audit_sensor")
    assert "2023-05-01" in str(system.results()[-1].description)


@pytest.mark.parametrize("fault", ["empty-series", "missing-series"])
def test_an_answer_without_measured_demand_keeps_that_of_before(
    on_duckdb: System, fault: str
) -> None:
    works = on_duckdb.works
    works.api.faults["2023-05-05"] = fault
    assert works.project.materialize("2023-05-05").success
    pd.testing.assert_frame_equal(on_duckdb.read(), on_duckdb.clean)
    assert works.state("2023-05-05") == State.INGESTED


def test_lost_forecasts_are_made_again(on_duckdb: System) -> None:
    works = on_duckdb.works
    works.at(madrid("2023-05-10T14:06")).tick("current_day_sensor", "forecast_sensor")
    made = store_of(works).read([MODEL]).dropna()
    assert len(made) >= 24
    on_duckdb.damage("all")
    works.clock.shift(61 * MINUTES)
    works.tick("store_audit_sensor", "forecast_sensor", "store_audit_sensor", "forecast_sensor")
    pd.testing.assert_frame_equal(store_of(works).read([MODEL]).dropna(), made)


def test_a_day_with_an_implausible_sample_is_not_revised_each_day(on_duckdb: System) -> None:
    works = on_duckdb.works
    works.api.faults["2023-05-03"] = "outlier"
    assert works.project.materialize("2023-05-03").success
    works.project = replace(works.project, settings=replace(works.project.settings, reread_days=31))
    works.at(madrid("2023-05-11T14:20")).tick("current_day_sensor", "current_day_sensor")
    assert "reread_job" in works.jobs
    assert may(3)[0] not in works.ledger().days(State.OPEN)


def test_points_that_an_audit_did_not_find_are_missing_in_the_ledger(on_duckdb: System) -> None:
    system, works = on_duckdb, on_duckdb.works
    system.damage("month")
    before = datetime.now(UTC)
    works.project.folder.joinpath("demand.duckdb").rename(works.project.folder / "away")
    works.project.folder.joinpath("demand.duckdb").mkdir()  # restoring fails for now
    works.tick("store_audit_sensor")
    assert not system.results()[-1].passed
    assert "cannot be compared" in str(system.results()[-1].description)
    works.project.folder.joinpath("demand.duckdb").rmdir()
    works.project.folder.joinpath("away").rename(works.project.folder / "demand.duckdb")
    works.at(before + 11 * MINUTES).tick("store_audit_sensor")
    assert works.jobs[-1] == "restore_job"
    system.audit()
    pd.testing.assert_frame_equal(system.read(), system.clean)


def test_a_restored_day_is_as_old_as_its_answer(on_duckdb: System) -> None:
    works = on_duckdb.works
    works.at(madrid("2023-05-11T00:05")).tick("current_day_sensor")
    assert works.state("2023-05-10") == State.OPEN
    on_duckdb.damage("all")
    works.at(madrid("2023-05-12T00:35"))
    works.tick("store_audit_sensor")
    assert works.state("2023-05-10") == State.OPEN


def test_a_frame_that_is_made_again_is_as_old_as_its_answer(on_duckdb: System) -> None:
    works = on_duckdb.works
    works.at(madrid("2023-05-11T00:05")).tick("current_day_sensor")
    works.at(madrid("2023-05-11T12:00"))
    job = works.project.definitions.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(
        instance=works.project.instance,
        partition_key="2023-05-10",
        asset_selection=[keys.HOURLY_DEMAND_FRAME, keys.INFLUX_DEMAND_POINTS],
    ).success
    assert works.state("2023-05-10") == State.OPEN


def test_another_store_is_filled_from_the_frames(
    on_influxdb: System, influxdb2: InfluxDB2, tmp_path: Path
) -> None:
    system, works = on_influxdb, on_influxdb.works
    requests = len(works.api.requests)
    # The same name in another organization, whose token sees that organization only.
    other = works.project.settings.influxdb_bucket
    org = influxdb2.api("orgs", {"name": "another"})
    influxdb2.api("buckets", {"name": other, "orgID": org["id"], "retentionRules": []})
    works.project = in_influxdb(works, influxdb2, other, influxdb_org="another")
    assert system.read().empty
    system.audit()
    pd.testing.assert_frame_equal(system.read(), system.clean)
    assert len(works.api.requests) == requests


def test_another_spelling_is_the_same_store(on_influxdb: System, influxdb2: InfluxDB2) -> None:
    works = on_influxdb.works
    bucket = works.project.settings.influxdb_bucket
    requests, runs = len(works.api.requests), len(works.runs)
    port = influxdb2.url.rpartition(":")[2]
    for url in (f"{influxdb2.url}/", f"http://localhost:{port}", f"HTTP://LOCALHOST:{port}"):
        works.project = in_influxdb(works, influxdb2, bucket, influxdb_url=url)
        works.tick("store_audit_sensor", "missing_days_sensor")
    assert on_influxdb.results()[-1].passed
    assert (len(works.api.requests), len(works.runs)) == (requests, runs)


def test_series_of_another_program_are_named_and_not_read(on_influxdb: System) -> None:
    works = on_influxdb.works
    write_lines(
        bucket_of(works),
        f"demand,source=old {REAL}=12000 {int(AN_HOUR.timestamp())}",
        f"demand,source=old,plant=x {REAL}=12000 {int(AN_HOUR.timestamp())}",
    )
    pd.testing.assert_frame_equal(on_influxdb.read(), on_influxdb.clean)
    works.tick("store_audit_sensor")
    result = on_influxdb.results()[-1]
    assert not result.passed and result.severity.value == "WARN"
    assert "tag plant, source" in str(result.description)
    assert works.project.materialize("2023-05-01", "2023-05-02").success
    pd.testing.assert_frame_equal(on_influxdb.read(), on_influxdb.clean)


def test_a_field_of_another_type_is_red_and_says_what_to_do(on_influxdb: System) -> None:
    system, works = on_influxdb, on_influxdb.works
    system.damage("all")
    write_lines(bucket_of(works), f"demand {REAL}=25000i {int(AN_HOUR.timestamp())}")
    works.project.settings = replace(works.project.settings, audit=10 * MINUTES)
    for _ in range(80):
        works.tick("store_audit_sensor", "missing_days_sensor")
        works.clock.shift(5 * MINUTES)
    result = system.results()[-1]
    assert not result.passed and result.severity.value == "ERROR"
    assert "another type" in str(result.description)
    assert system.read()[REAL].notna().sum() >= 10 * 24  # the days of other weeks


def test_a_bucket_that_keeps_thirty_days_gets_those_days_in_the_same_run(
    tmp_path: Path, influxdb2: InfluxDB2, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = influxdb2.create_bucket(30 * 86_400)
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", influxdb2.create_token(bucket, "read", "write"))
    now = datetime.now(UTC).replace(microsecond=0)
    with clockwork(tmp_path, now) as works:
        works.project = in_influxdb(works, influxdb2, bucket)
        today = now.date()
        first, last = today - timedelta(days=40), today - timedelta(days=2)
        assert not works.project.materialize(str(first), str(last)).success
        ledger = works.ledger()
        assert len(ledger.stored) in (28, 29)
        (error,) = {a.error for a in ledger.attempts.values()}
        assert "older than the bucket keeps" in error and "DEMAND_START_DATE" in error
        works.run_until(now + 3 * HOURS, 20 * MINUTES)
        requested = {day for _, first, _, _ in works.runs if first for day in [first]}
        assert min(requested) > str(min(ledger.stored))
        works.tick("store_audit_sensor")
        recorded = works.results[-1][1]
        assert recorded.check_name == "store_is_complete" and not recorded.passed
        kept = works.ledger().first_kept_day  # one day later if midnight has passed meanwhile
        assert kept and timedelta() <= kept - min(ledger.stored) <= timedelta(days=1)
        assert f"set DEMAND_START_DATE to {kept}" in str(recorded.description)


def test_an_answer_that_knows_less_changes_nothing_for_the_worse(on_duckdb: System) -> None:
    system, works = on_duckdb, on_duckdb.works
    today = date(2023, 5, 10)
    works.at(madrid("2023-05-10T20:06")).tick("current_day_sensor")
    known = works.ledger().stored[today]
    works.api.faults["2023-05-10"] = "short"  # ends at 14:05, as a cache that is hours behind
    works.clock.shift(11 * MINUTES)
    works.tick("current_day_sensor")
    stale = works.ledger().stored[today]
    assert stale.at > known.at
    assert (stale.hours, stale.last_hour, stale.fingerprint, stale.hours_fingerprint) == (
        known.hours,
        known.last_hour,
        known.fingerprint,
        known.hours_fingerprint,
    )
    assert works.fresh().passed
    system.damage("all")
    works.clock.shift(61 * MINUTES)
    system.audit()
    assert system.read()[REAL].last_valid_index() == known.last_hour


def test_a_revision_within_the_last_days_is_found_and_stored(on_duckdb: System) -> None:
    system, works = on_duckdb, on_duckdb.works
    works.api.faults["2023-05-03"] = "nulls"  # other means, until the fault is removed
    assert works.project.materialize("2023-05-03").success
    works.api.faults.clear()
    works.project = replace(works.project, settings=replace(works.project.settings, reread_days=31))
    works.at(madrid("2023-05-11T14:20"))
    works.api.requests.clear()
    works.tick("current_day_sensor")
    assert works.jobs[-1] == "reread_job"
    assert (date(2023, 4, 20), date(2023, 5, 10)) in works.api.requests
    assert works.ledger().days(State.OPEN) == may(3)
    works.tick("current_day_sensor")
    assert ("2023-05-03", "2023-05-03") in [run[1:3] for run in works.runs]
    until = "2023-05-09T20:00Z"
    pd.testing.assert_frame_equal(system.read().loc[:until], system.clean.loc[:until])
    works.tick("current_day_sensor")
    assert works.ledger().days(State.OPEN) == []
    requested = len(works.api.requests)
    works.clock.shift(HOURS)
    works.tick("current_day_sensor")
    assert len(works.api.requests) == requested + 1  # today only


def test_days_that_stay_short_cost_few_requests(tmp_path: Path) -> None:
    with clockwork(tmp_path, madrid("2023-05-11T01:00")) as works:
        works.api.faults["2023-05-09"] = "short"
        assert works.project.materialize("2023-05-08", "2023-05-10").success
        works.api.requests.clear()
        while datetime.now(UTC) < madrid("2023-05-16T01:00"):
            works.tick("current_day_sensor")
            works.clock.shift(3 * HOURS)
        of_day = [span for span in works.api.requests if span[0] <= date(2023, 5, 9) <= span[1]]
        assert works.state("2023-05-09") == State.CLOSED_SHORT
        assert len(of_day) <= 8
        works.tick("store_audit_sensor")
        closed = works.results[-1][1]
        assert closed.passed and "2023-05-09 (14 of 24)" in str(closed.description)
        assert works.project.materialize("2023-05-09").success  # a person asks again
        assert works.state("2023-05-09") == State.CLOSED_SHORT
        works.api.faults.clear()
        assert works.project.materialize("2023-05-09").success
        assert works.state("2023-05-09") == State.INGESTED
