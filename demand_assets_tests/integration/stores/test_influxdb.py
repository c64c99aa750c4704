"""InfluxDB's resource and IO manager against real servers, and against one that fails as told."""

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
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

from demand_assets.demand.days import day_hours
from demand_assets.demand.hourly import hourly_frame
from demand_assets.grid import FORECAST, REAL
from demand_assets.orchestration.partitions import daily_partitions
from demand_assets.redata import read_samples
from demand_assets.settings import Settings
from demand_assets.stores.influxdb import InfluxDBAccessError, InfluxDBIOManager, InfluxDBResource
from demand_assets_tests.conftest import LONG_AFTER, RECORDINGS, recorded_answer
from demand_assets_tests.support.project import Project, failure_text
from demand_assets_tests.support.servers import (
    InfluxDB1,
    InfluxDB2,
    Reply,
    free_port,
    scripted_server,
)

FIELDS = [REAL, FORECAST]
DAY = "2024-06-16"
SECRET = "sesame-0123456789"
WRITTEN = Reply(204)


def hours(*days: str) -> pd.DataFrame:
    """Made-up days whose values have all the digits that a float can have.

    In the first hour only the demand is known, in the last three only its forecast.
    """

    def one(day: str) -> pd.DataFrame:
        index = day_hours(date.fromisoformat(day))
        real = 20_000 + index.dayofyear + np.arange(len(index)) / 7
        frame = pd.DataFrame({REAL: real, FORECAST: real * 1.01}, index=index)
        frame.iloc[-3:, 0] = np.nan
        frame.iloc[0, 1] = np.nan
        frame.index.freq = None  # type: ignore[attr-defined]
        return frame

    return pd.concat([one(day) for day in days])


@pytest.fixture
def a_day() -> pd.DataFrame:
    """A day with hours of which only the forecast is known: recorded, or else made up."""
    if not RECORDINGS.is_dir():
        return hours(DAY)
    day = date.fromisoformat(DAY)
    return hourly_frame(read_samples(recorded_answer(RECORDINGS, day), day), day, now=LONG_AFTER)


def over(url: str, **changes: Any) -> InfluxDBIOManager:
    """The IO manager over a server, impatient unless told otherwise."""
    batch_size = changes.pop("batch_size", 5_000)
    settings = {"org": "grid", "bucket": "capstone7", "token": SECRET, "retry_seconds": 0.5}
    return InfluxDBIOManager(
        influxdb=InfluxDBResource(url=url, **{**settings, **changes}),
        measurement="demand",
        batch_size=batch_size,
    )


@pytest.fixture
def connect(influxdb2: InfluxDB2) -> Callable[..., InfluxDBIOManager]:
    """Gives IO managers over a bucket of the test's own; their token is for that bucket only."""
    bucket = influxdb2.create_bucket()
    token = influxdb2.create_token(bucket, "read", "write")

    def connect(**changes: Any) -> InfluxDBIOManager:
        settings = {"org": influxdb2.org, "bucket": bucket, "token": token, **changes}
        return over(settings.pop("url", influxdb2.url), **settings)

    return connect


@pytest.fixture
def store(connect: Callable[..., InfluxDBIOManager]) -> InfluxDBIOManager:
    return connect()


def write(store: InfluxDBIOManager, frame: pd.DataFrame) -> dict[str, Any]:
    """Store a frame; what is told about it."""
    # Left open, it would be closed by the garbage collector in the midst of another test.
    with build_output_context() as context:
        store.handle_output(context, frame)
        told = dict(context.get_logged_metadata())
    return {name: getattr(value, "value", value) for name, value in told.items()}


def points(influxdb2: InfluxDB2, store: InfluxDBIOManager, step: str = "") -> int:
    """How many values the bucket holds, after a further step of the query."""
    rows = influxdb2.flux(
        'import "types" '
        f'from(bucket: "{store.influxdb.bucket}") |> range(start: 0, stop: 2100-01-01T00:00:00Z)'
        f" {step} |> group() |> count()"
    )
    return sum(int(row["_value"]) for row in rows)


# What is stored


def test_a_day_stored_twice_leaves_the_same_points(
    influxdb2: InfluxDB2, store: InfluxDBIOManager, a_day: pd.DataFrame
) -> None:
    assert a_day[REAL].isna().any()
    for _ in range(2):
        told = write(store, a_day)
        assert told == {
            "bucket": store.influxdb.bucket,
            "measurement": "demand",
        }
        pd.testing.assert_frame_equal(store.read(FIELDS), a_day)
        assert points(influxdb2, store) == a_day.notna().sum().sum()


def test_points_are_floats_of_one_measurement_without_tags(
    influxdb2: InfluxDB2, store: InfluxDBIOManager
) -> None:
    # Whole numbers too: a field that began as an integer would refuse every later mean.
    frame = hours(DAY).round()
    write(store, frame)

    def schema(what: str) -> set[str]:
        arguments = f'bucket: "{store.influxdb.bucket}", start: 1970-01-01T00:00:00Z'
        query = f'import "influxdata/influxdb/schema" schema.{what}({arguments})'
        return {row["_value"] for row in influxdb2.flux(query)}

    assert schema("measurements") == {"demand"}
    assert schema("fieldKeys") == set(FIELDS)
    assert schema("tagKeys") == {"_start", "_stop", "_field", "_measurement"}
    floats = '|> filter(fn: (r) => types.isType(v: r._value, type: "float"))'
    assert points(influxdb2, store, floats) == frame.notna().sum().sum()


def test_a_range_ends_before_its_stop(store: InfluxDBIOManager) -> None:
    frame = hours("2024-06-15", "2024-06-16", "2024-06-17")
    write(store, frame)
    start, stop = frame.index[20], frame.index[30]
    pd.testing.assert_frame_equal(store.read(FIELDS, start, stop), frame.iloc[20:30])


def test_all_that_is_stored_is_read_forecasts_of_tomorrow_too(store: InfluxDBIOManager) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    frame = hours("1999-12-31", DAY, tomorrow.isoformat())
    write(store, frame)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame)


def test_batches_all_arrive(store: InfluxDBIOManager, a_day: pd.DataFrame) -> None:
    small = store.model_copy(update={"batch_size": 7})
    write(small, a_day)
    pd.testing.assert_frame_equal(store.read(FIELDS), a_day)


def test_a_column_without_values_and_an_empty_bucket_keep_their_shape(
    store: InfluxDBIOManager,
) -> None:
    frame = hours(DAY)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame.iloc[:0])
    frame[REAL] = np.nan
    write(store, frame)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame.dropna(how="all"))


def test_a_missing_value_leaves_the_stored_one(store: InfluxDBIOManager) -> None:
    frame = hours(DAY)
    write(store, frame)
    write(store, frame.assign(**{REAL: np.nan}))
    pd.testing.assert_frame_equal(store.read(FIELDS), frame)


# Through Dagster


@asset(
    partitions_def=daily_partitions(date(2024, 1, 1)),
    backfill_policy=BackfillPolicy.single_run(),
    io_manager_key="store",
    metadata={FIELDS: FIELDS},
)
def demand(context: AssetExecutionContext) -> pd.DataFrame:
    return hours(*context.partition_keys)


def run(
    assets: list[AssetsDefinition],
    store: InfluxDBIOManager,
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
        assets, resources={"store": store}, instance=instance, selection=selection, **options
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
    store: InfluxDBIOManager,
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
    store: InfluxDBIOManager, instance: DagsterInstance
) -> None:
    loaded: list[pd.DataFrame] = []

    @asset
    def downstream(demand: pd.DataFrame) -> None:
        loaded.append(demand)

    run([demand], store, instance, DAY)
    run([demand], store, instance, "2024-01-01")
    run([demand, downstream], store, instance, only=downstream)
    pd.testing.assert_frame_equal(loaded[0], hours("2024-01-01", DAY))


# The asset, end to end


@pytest.fixture
def project(
    tmp_path: Path, instance: DagsterInstance, request: pytest.FixtureRequest
) -> Callable[..., Project]:
    """Gives the project over a store; its API replays recorded days, or makes them up."""
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
    """The hours as they went to the store."""
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
    store: InfluxDBIOManager,
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


def test_batches_all_arrive_in_influxdb_1(influxdb1: InfluxDB1, a_day: pd.DataFrame) -> None:
    database = influxdb1.create_database()
    write(over(influxdb1.url, bucket=database, batch_size=7), a_day)
    pd.testing.assert_frame_equal(stored(influxdb1, database), a_day)


def stored(influxdb1: InfluxDB1, database: str) -> pd.DataFrame:
    rows = influxdb1.influxql(f"SELECT {REAL}, {FORECAST} FROM demand", database)
    frame = pd.DataFrame(rows, columns=["time", *FIELDS]).astype(dict.fromkeys(FIELDS, "float64"))
    frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True)
    return frame.set_index("time")


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
def test_the_token_is_shown_nowhere(
    project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    token: str,
    reply: Reply,
    success: bool,
) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", token)
    with scripted_server(reply) as server:
        real = project(server.url, "capstone7")
        result = real.materialize(DAY)
    assert result.success == success
    assert_secret(SECRET, real, "".join(capfd.readouterr()))


# What is refused


@contextmanager
def refused(*, naming: str, without: str = SECRET) -> Iterator[None]:
    """The block fails in time with an error that names the setting and shows no secret."""
    started = time.monotonic()
    with pytest.raises(InfluxDBAccessError, match=naming) as caught:
        yield
    assert time.monotonic() - started < 20
    assert without not in str(caught.getrepr(style="native", chain=True))


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [("token", "wrong-0123456789"), ("bucket", "no-such-bucket"), ("org", "no-such-org")],
)
@pytest.mark.parametrize("operator", [False, True], ids=["own token", "operator's token"])
def test_a_refusal_names_the_setting_to_mend(
    influxdb2: InfluxDB2,
    connect: Callable[..., InfluxDBIOManager],
    setting: str,
    wrong: str,
    operator: bool,
) -> None:
    store = connect(**{**({"token": influxdb2.token} if operator else {}), setting: wrong})
    for attempt in (lambda: write(store, hours(DAY)), lambda: store.read(FIELDS)):
        with refused(naming=f"INFLUXDB_V2_{setting.upper()}", without=store.influxdb.token):
            attempt()


def test_a_server_that_is_down_is_an_error_that_names_the_url() -> None:
    store = over(f"http://127.0.0.1:{free_port()}")
    for attempt in (lambda: write(store, hours(DAY)), lambda: store.read(FIELDS)):
        with refused(naming="INFLUXDB_V2_URL"):
            attempt()


def test_an_untrusted_connection_is_an_error_that_names_the_url() -> None:
    with (
        scripted_server(WRITTEN) as plain,
        refused(naming=r"SSLError.* INFLUXDB_V2_URL"),
    ):
        write(over(plain.url.replace("http:", "https:")), hours(DAY))


def test_a_token_for_reading_and_writing_one_bucket_is_needed_and_enough(
    influxdb2: InfluxDB2, connect: Callable[..., InfluxDBIOManager]
) -> None:
    store, frame = connect(), hours(DAY)
    write(store, frame)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame)
    reader = connect(token=influxdb2.create_token(store.influxdb.bucket, "read"))
    with refused(naming="INFLUXDB_V2_TOKEN", without=reader.influxdb.token):
        write(reader, frame)
    pd.testing.assert_frame_equal(reader.read(FIELDS), frame)
    neighbour = connect(bucket=influxdb2.create_bucket())
    with refused(naming="INFLUXDB_V2_TOKEN", without=store.influxdb.token):
        write(neighbour, frame)


# What passes, and what does not


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_gets_the_time_that_it_asks_for(status: int) -> None:
    frame = hours(DAY)
    # Longer than the first pause without the header.
    with scripted_server(Reply(status, {"Retry-After": "3"}), WRITTEN) as server:
        write(over(server.url, retry_seconds=30), frame)
    first, second = server.times
    assert second - first >= 3
    lines, again = map(gzip.decompress, server.bodies)
    assert lines == again
    assert len(lines.splitlines()) == len(frame)


def test_a_cut_connection_is_tried_again() -> None:
    with scripted_server(Reply(0), Reply(0), WRITTEN) as server:
        write(over(server.url, retry_seconds=30), hours(DAY))
    assert len(server.bodies) == 3
    assert len(set(map(gzip.decompress, server.bodies))) == 1


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_keeps_failing_is_an_error_once_the_budget_is_spent(status: int) -> None:
    with (
        scripted_server(Reply(status, body=b'{"message": "out of disk"}')) as server,
        refused(naming=f"{status} 'out of disk'"),
    ):
        write(over(server.url, retry_seconds=4), hours(DAY))
    assert len(server.times) > 1


def test_a_server_that_asks_for_more_time_than_the_budget_is_not_waited_for() -> None:
    with (
        scripted_server(Reply(503, {"Retry-After": "3600"})) as server,
        refused(naming="503"),
    ):
        write(over(server.url, retry_seconds=30), hours(DAY))
    assert len(server.times) == 1


@pytest.mark.parametrize("status", [302, 400, 401, 413, 422])
def test_what_will_not_pass_is_not_tried_again(status: int) -> None:
    location = {"Location": "/api/v2/write"} if status == 302 else {}
    with scripted_server(Reply(status, location), WRITTEN) as server:
        with refused(naming=str(status)):
            write(over(server.url, retry_seconds=30), hours(DAY))
        assert len(server.times) == 1


def test_nothing_is_reported_unless_every_batch_is_acknowledged(instance: DagsterInstance) -> None:
    refusal = Reply(400, body=b'{"code": "invalid", "message": "unable to parse"}')
    with scripted_server(WRITTEN, refusal) as server:
        store = over(server.url, batch_size=7)
        result = materialize(
            [demand],
            partition_key=DAY,
            resources={"store": store},
            instance=instance,
            raise_on_error=False,
        )
    assert len(server.bodies) == 2
    assert "unable to parse" in failure_text(result)
    assert not result.success
    assert not result.asset_materializations_for_node("demand")
    assert instance.get_latest_materialization_event(demand.key) is None
