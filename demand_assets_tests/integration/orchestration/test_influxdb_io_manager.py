"""The InfluxDB IO manager in runs: partitions, ranges, and the secrecy of the token."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    BackfillPolicy,
    DagsterInstance,
    asset,
    build_output_context,
    materialize,
)
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value

from demand_assets.grid import FORECAST, REAL
from demand_assets.orchestration import metadata
from demand_assets.orchestration.io_managers import InfluxDBIOManager
from demand_assets.orchestration.partitions import daily_partitions
from demand_assets.orchestration.resources import InfluxDBResource
from demand_assets.settings import Settings
from demand_assets.stores.influxdb import InfluxDBStore
from demand_assets_tests.conftest import RECORDINGS
from demand_assets_tests.support.project import Project, failure_text
from demand_assets_tests.support.servers import InfluxDB1, InfluxDB2, Reply, scripted_server
from demand_assets_tests.support.stores import DAY, FIELDS, SECRET, WRITTEN, hours, over, stored

USER, PASSWORD = "anita-77", "open-0123456789"


def io_manager(store: InfluxDBStore) -> InfluxDBIOManager:
    """The IO manager with the settings of a store."""
    return InfluxDBIOManager(
        influxdb=InfluxDBResource(**store.influxdb.model_dump()),
        measurement=store.measurement,
        batch_size=store.batch_size,
    )


def test_bucket_and_measurement_are_in_the_metadata() -> None:
    with scripted_server(WRITTEN) as server, build_output_context() as context:
        io_manager(over(server.url)).handle_output(context, hours(DAY))
        logged = context.get_logged_metadata()
        assert {name: value.value for name, value in logged.items()} == {
            "bucket": "capstone7",
            "measurement": "demand",
        }


@asset(
    partitions_def=daily_partitions(date(2024, 1, 1)),
    backfill_policy=BackfillPolicy.single_run(),
    io_manager_key="store",
    metadata={metadata.FIELDS: FIELDS},
)
def demand(context: AssetExecutionContext) -> pd.DataFrame:
    return hours(*context.partition_keys)


def run(
    assets: list[AssetsDefinition],
    store: InfluxDBStore,
    instance: DagsterInstance,
    *days: str,
    only: AssetsDefinition | None = None,
) -> None:
    """Materialize one day, a range from the first to the last, or what has no partitions."""
    options: dict[str, Any] = {}
    if len(days) == 1:
        options["partition_key"] = days[0]
    elif days:
        names = ("start", "end")
        options["tags"] = {
            f"dagster/asset_partition_range_{name}": day
            for name, day in zip(names, (days[0], days[-1]), strict=True)
        }
    selection = [only] if only else None
    materialize(
        assets,
        resources={"store": io_manager(store)},
        instance=instance,
        selection=selection,
        **options,
    )


@pytest.mark.parametrize(
    ("before", "day", "after", "count"),
    [
        ("2024-03-30", "2024-03-31", "2024-04-01", 23),
        ("2024-06-15", "2024-06-16", "2024-06-17", 24),
        ("2024-10-26", "2024-10-27", "2024-10-28", 25),
    ],
)
def test_a_partition_and_a_range_are_loaded_as_they_were_returned(
    store: InfluxDBStore,
    instance: DagsterInstance,
    before: str,
    day: str,
    after: str,
    count: int,
) -> None:
    loaded: list[pd.DataFrame] = []

    @asset(partitions_def=demand.partitions_def, backfill_policy=BackfillPolicy.single_run())
    def downstream(demand: pd.DataFrame) -> None:
        loaded.append(demand)

    run([demand], store, instance, before, day, after)
    run([demand, downstream], store, instance, day, only=downstream)
    run([demand, downstream], store, instance, day, after, only=downstream)
    alone, both = loaded
    assert len(alone) == count
    pd.testing.assert_frame_equal(alone, hours(day))
    pd.testing.assert_frame_equal(both, hours(day, after))


def test_an_asset_without_partitions_loads_all_days(
    store: InfluxDBStore, instance: DagsterInstance
) -> None:
    loaded: list[pd.DataFrame] = []

    @asset
    def downstream(demand: pd.DataFrame) -> None:
        loaded.append(demand)

    run([demand], store, instance, DAY)
    run([demand], store, instance, "2024-01-01")
    run([demand, downstream], store, instance, only=downstream)
    pd.testing.assert_frame_equal(loaded[0], hours("2024-01-01", DAY))


@pytest.fixture
def project(
    tmp_path: Path, instance: DagsterInstance, request: pytest.FixtureRequest
) -> Callable[..., Project]:
    """Makes the project over a store; its API replays recorded days, or makes them up."""
    api = request.getfixturevalue("recorded_api" if RECORDINGS.is_dir() else "synthetic_api")

    def project(url: str, bucket: str) -> Project:
        settings = Settings(
            start_date=date(2023, 1, 1),
            influxdb_url=url,
            influxdb_org="grid",
            influxdb_bucket=bucket,
        )
        return Project(tmp_path / "data", api.url, instance, settings)

    return project


def frame_of(project: Project, *days: str) -> pd.DataFrame:
    """The hours as they were sent to the store."""
    folder = project.folder / "hourly_demand_frame"
    return pd.concat([pd.read_parquet(folder / f"{day}.parquet") for day in days])


def assert_secret(secret: str, project: Project, printed: str) -> None:
    """The secret is in no event, log line, metadata, file or description of the code location."""
    runs = project.instance.get_runs()
    events = [e for run in runs for e in project.instance.all_logs(run.run_id)]
    assert len(events) > 20
    repository = serialize_value(RepositorySnap.from_def(project.definitions.get_repository_def()))
    assert "INFLUXDB_V2_TOKEN" in repository
    for text in (repository, printed, repr(project), *map(serialize_value, events)):
        assert secret not in text
    for name in project.files():
        assert secret.encode() not in (project.folder / name).read_bytes()


def test_the_asset_stores_days_in_influxdb_2(
    influxdb2: InfluxDB2,
    store: InfluxDBStore,
    project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    token = store.influxdb.token
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", token)
    real = project(influxdb2.url, store.influxdb.bucket)
    assert real.materialize(DAY).success
    pd.testing.assert_frame_equal(store.read(FIELDS), frame_of(real, DAY))
    assert real.materialize("2023-02-19", "2023-02-20").success
    pd.testing.assert_frame_equal(
        store.read(FIELDS), frame_of(real, "2023-02-19", "2023-02-20", DAY)
    )
    assert_secret(token, real, "".join(capfd.readouterr()))


def test_the_asset_stores_days_in_influxdb_1(
    influxdb1: InfluxDB1,
    project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", SECRET)
    database = influxdb1.create_database()
    real = project(influxdb1.url, database)
    for days in ([DAY], ["2023-02-19", "2023-02-20"], ["2023-02-20"]):
        assert real.materialize(*days).success
    pd.testing.assert_frame_equal(
        stored(influxdb1, database), frame_of(real, "2023-02-19", "2023-02-20", DAY)
    )
    assert influxdb1.influxql("SHOW MEASUREMENTS", database) == [["demand"]]
    assert influxdb1.influxql("SHOW TAG KEYS", database) == []
    assert influxdb1.influxql("SHOW FIELD KEYS", database) == [[FORECAST, "float"], [REAL, "float"]]
    assert_secret(SECRET, real, "".join(capfd.readouterr()))


@pytest.mark.parametrize(
    ("token", "reply", "success"),
    [
        (SECRET, WRITTEN, True),
        (SECRET, Reply(401), False),
        # The HTTP library refuses such headers, and quotes them in its error.
        (f"{SECRET}\n", WRITTEN, True),
        (f"{SECRET}\nmore", WRITTEN, False),
        (f"{SECRET}é", WRITTEN, False),
    ],
)
def test_token_and_credentials_of_the_url_are_shown_nowhere(
    project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    token: str,
    reply: Reply,
    success: bool,
) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", token)
    with scripted_server(reply) as server:
        real = project(server.url.replace("//", f"//{USER}:{PASSWORD}@"), "capstone7")
        result = real.materialize(DAY)
    assert result.success == success
    printed = "".join(capfd.readouterr())
    for secret in (SECRET, USER, PASSWORD):
        assert_secret(secret, real, printed)


def test_a_refused_batch_is_no_materialization(instance: DagsterInstance) -> None:
    refusal = Reply(400, body=b'{"code": "invalid", "message": "unable to parse"}')
    with scripted_server(WRITTEN, refusal) as server:
        store = over(server.url, batch_size=7)
        result = materialize(
            [demand],
            partition_key=DAY,
            resources={"store": io_manager(store)},
            instance=instance,
            raise_on_error=False,
        )
    assert len(server.bodies) == 2
    assert "unable to parse" in failure_text(result)
    assert not result.success
    assert not result.asset_materializations_for_node("demand")
    assert instance.get_latest_materialization_event(demand.key) is None
