"""The InfluxDB store over real servers, and over one that answers as the test says."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from socket import create_server
from typing import Any

import numpy as np
import pandas as pd
import pytest

from demand_assets.grid import FORECAST, REAL
from demand_assets.stores import KEPT_FOR_EVER, ExpiredHoursError
from demand_assets.stores.influxdb import InfluxDBAccessError, InfluxDBStore
from demand_assets_tests.support.servers import (
    InfluxDB1,
    InfluxDB2,
    Reply,
    free_port,
    scripted_server,
)
from demand_assets_tests.support.stores import (
    DAY,
    FIELDS,
    SECRET,
    WRITTEN,
    hours,
    over,
    refused,
    stored,
)


def points(influxdb2: InfluxDB2, store: InfluxDBStore, step: str = "") -> int:
    """How many values the bucket holds, after a further step of the query."""
    rows = influxdb2.flux(
        'import "types" '
        f'from(bucket: "{store.influxdb.bucket}") |> range(start: 0, stop: 2100-01-01T00:00:00Z)'
        f" {step} |> group() |> count()"
    )
    return sum(int(row["_value"]) for row in rows)


# What is stored


def test_a_day_stored_twice_leaves_the_same_points(
    influxdb2: InfluxDB2, store: InfluxDBStore, a_day: pd.DataFrame
) -> None:
    assert a_day[REAL].isna().any()
    for _ in range(2):
        store.write(a_day)
        pd.testing.assert_frame_equal(store.read(FIELDS), a_day)
        assert points(influxdb2, store) == a_day.notna().sum().sum()


def test_points_are_floats_of_one_measurement_without_tags(
    influxdb2: InfluxDB2, store: InfluxDBStore
) -> None:
    # Whole numbers too: a field that began as an integer would refuse every later mean.
    frame = hours(DAY).round()
    store.write(frame)

    def schema(what: str) -> set[str]:
        arguments = f'bucket: "{store.influxdb.bucket}", start: 1970-01-01T00:00:00Z'
        query = f'import "influxdata/influxdb/schema" schema.{what}({arguments})'
        return {row["_value"] for row in influxdb2.flux(query)}

    assert schema("measurements") == {"demand"}
    assert schema("fieldKeys") == set(FIELDS)
    assert schema("tagKeys") == {"_start", "_stop", "_field", "_measurement"}
    floats = '|> filter(fn: (r) => types.isType(v: r._value, type: "float"))'
    assert points(influxdb2, store, floats) == frame.notna().sum().sum()


def test_a_range_ends_before_its_stop(store: InfluxDBStore) -> None:
    frame = hours("2024-06-15", "2024-06-16", "2024-06-17")
    store.write(frame)
    start, stop = frame.index[20], frame.index[30]
    pd.testing.assert_frame_equal(store.read(FIELDS, start, stop), frame.iloc[20:30])


def test_a_read_without_a_range_includes_forecasts_of_tomorrow(store: InfluxDBStore) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    frame = hours("1999-12-31", DAY, tomorrow.isoformat())
    store.write(frame)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame)


def test_fields_of_another_measurement_are_not_read(store: InfluxDBStore) -> None:
    other = replace(store, measurement="other")
    other.write(hours(DAY, "2024-06-17") + 1)
    store.write(hours(DAY))
    pd.testing.assert_frame_equal(store.read(FIELDS), hours(DAY))


def test_batches_all_arrive(store: InfluxDBStore, a_day: pd.DataFrame) -> None:
    replace(store, batch_size=7).write(a_day)
    pd.testing.assert_frame_equal(store.read(FIELDS), a_day)


def test_batches_all_arrive_in_influxdb_1(influxdb1: InfluxDB1, a_day: pd.DataFrame) -> None:
    database = influxdb1.create_database()
    over(influxdb1.url, bucket=database, batch_size=7).write(a_day)
    pd.testing.assert_frame_equal(stored(influxdb1, database), a_day)


def test_a_column_without_values_and_an_empty_bucket_keep_their_shape(
    store: InfluxDBStore,
) -> None:
    frame = hours(DAY)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame.iloc[:0])
    frame[REAL] = np.nan
    store.write(frame)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame.dropna(how="all"))


def test_a_missing_value_leaves_the_stored_one(store: InfluxDBStore) -> None:
    frame = hours(DAY)
    store.write(frame)
    store.write(frame.assign(**{REAL: np.nan}))
    pd.testing.assert_frame_equal(store.read(FIELDS), frame)


# What is refused


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [("token", "wrong-0123456789"), ("bucket", "no-such-bucket"), ("org", "no-such-org")],
)
@pytest.mark.parametrize("operator", [False, True], ids=["own token", "operator's token"])
def test_a_refusal_names_the_setting_to_correct(
    influxdb2: InfluxDB2,
    store_with: Callable[..., InfluxDBStore],
    setting: str,
    wrong: str,
    operator: bool,
) -> None:
    store = store_with(**{**({"token": influxdb2.token} if operator else {}), setting: wrong})
    for attempt in (lambda: store.write(hours(DAY)), lambda: store.read(FIELDS)):
        with refused(naming=f"INFLUXDB_V2_{setting.upper()}", without=store.influxdb.token):
            attempt()


def test_a_server_that_is_down_is_an_error_that_names_the_url() -> None:
    store = over(f"http://127.0.0.1:{free_port()}")
    for attempt in (lambda: store.write(hours(DAY)), lambda: store.read(FIELDS)):
        with refused(naming="INFLUXDB_V2_URL"):
            attempt()


def test_an_untrusted_connection_is_an_error_that_names_the_url() -> None:
    with scripted_server(WRITTEN) as plain, refused(naming=r"SSLError.* INFLUXDB_V2_URL"):
        over(plain.url.replace("http:", "https:")).write(hours(DAY))


def test_a_token_for_reading_and_writing_one_bucket_is_needed_and_enough(
    influxdb2: InfluxDB2, store_with: Callable[..., InfluxDBStore]
) -> None:
    store, frame = store_with(), hours(DAY)
    store.write(frame)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame)
    reader = store_with(token=influxdb2.create_token(store.influxdb.bucket, "read"))
    with refused(naming="INFLUXDB_V2_TOKEN", without=reader.influxdb.token):
        reader.write(frame)
    pd.testing.assert_frame_equal(reader.read(FIELDS), frame)
    neighbour = store_with(bucket=influxdb2.create_bucket())
    with refused(naming="INFLUXDB_V2_TOKEN", without=store.influxdb.token):
        neighbour.write(frame)


# What is retried, and what is not


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_is_respected(status: int) -> None:
    frame = hours(DAY)
    # Longer than the first pause without the header.
    with scripted_server(Reply(status, {"Retry-After": "3"}), WRITTEN) as server:
        over(server.url, retry_seconds=30).write(frame)
    first, second = server.times
    assert second - first >= 3
    lines, again = map(gzip.decompress, server.bodies)
    assert lines == again
    assert len(lines.splitlines()) == len(frame)


def test_a_cut_connection_is_retried() -> None:
    with scripted_server(Reply(0), Reply(0), WRITTEN) as server:
        over(server.url, retry_seconds=30).write(hours(DAY))
    assert len(server.bodies) == 3
    assert len(set(map(gzip.decompress, server.bodies))) == 1


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_keeps_failing_is_an_error_once_the_budget_is_spent(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        scripted_server(Reply(status, body=b'{"message": "out of disk"}')) as server,
        refused(naming=f"{status} 'out of disk'"),
    ):
        over(server.url, retry_seconds=4).write(hours(DAY))
    assert len(server.times) > 1
    lines = [record.getMessage() for record in caplog.records if "Attempt" in record.message]
    assert len(lines) == len(server.times) - 1
    assert all(f"{status} 'out of disk'" in line for line in lines)


def test_a_retry_after_beyond_the_budget_is_not_waited_for() -> None:
    with scripted_server(Reply(503, {"Retry-After": "3600"})) as server, refused(naming="503"):
        over(server.url, retry_seconds=30).write(hours(DAY))
    assert len(server.times) == 1


def test_each_batch_has_its_own_budget(pauses: list[float]) -> None:
    busy = Reply(503, {"Retry-After": "20"})
    with scripted_server(busy, WRITTEN, busy, WRITTEN) as server:
        over(server.url, retry_seconds=30, batch_size=12).write(hours(DAY))
    assert [pause for pause in pauses if pause > 1] == [20, 20]


@pytest.mark.parametrize("status", [302, 400, 401, 413, 422])
def test_other_refusals_are_not_retried(status: int) -> None:
    location = {"Location": "/api/v2/write"} if status == 302 else {}
    with scripted_server(Reply(status, location), WRITTEN) as server:
        with refused(naming=str(status)):
            over(server.url, retry_seconds=30).write(hours(DAY))
        assert len(server.times) == 1


@contextmanager
def trickling_server(head: bytes, body: bytes) -> Iterator[tuple[str, threading.Event]]:
    """Sends a head, then a byte every 0.1 s; its URL, and an event that is set at the end."""
    finished, closing = threading.Event(), threading.Event()

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(2**16)
            connection.sendall(head)
            for byte in body:
                if closing.wait(0.1):
                    return
                connection.sendall(bytes([byte]))
        finished.set()

    with create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", finished
        finally:
            closing.set()
            thread.join()


TIMEOUTS: dict[str, Any] = {
    "connect_timeout_seconds": 0.2,
    "read_timeout_seconds": 0.6,
    "retry_seconds": 0.0,
}


def test_a_write_that_trickles_ends() -> None:
    with trickling_server(b"", b"HTTP/1.1 204 No Content\r\n" * 10) as (url, finished):
        with refused(naming="does not answer"):
            over(url, **TIMEOUTS).write(hours(DAY))
        assert not finished.is_set()


def test_a_read_that_trickles_ends() -> None:
    csv = b"#datatype,string,long,dateTime:RFC3339\r\n" * 5
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: {len(csv)}\r\n\r\n"
    with trickling_server(head.encode(), csv) as (url, finished):
        with refused(naming="does not answer.*INFLUXDB_V2_URL"):
            over(url, **TIMEOUTS).read(FIELDS)
        assert not finished.is_set()


# Credentials in the URL

USER = "anita-77"


@pytest.mark.parametrize("reply", [Reply(0), Reply(401), Reply(500), Reply(307)])
def test_credentials_of_the_url_are_in_no_error_and_no_log(
    reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted_server(reply) as server:
        url = server.url.replace("http://", f"http://{USER}:{SECRET}@")
        store = over(url, token="a-token", retry_seconds=2)
        for attempt in (lambda: store.write(hours(DAY)), lambda: store.read(FIELDS)):
            with refused(naming=f"InfluxDB at {server.url}", without=USER):
                attempt()
    for text in (caplog.text, repr(store)):
        assert USER not in text and SECRET not in text


def test_a_url_without_its_scheme_shows_no_credentials() -> None:
    with pytest.raises(InfluxDBAccessError) as caught:
        over(f"{USER}:{SECRET}@localhost:1").read(FIELDS)
    assert SECRET not in str(caught.getrepr(style="native", chain=True))


@pytest.mark.parametrize(
    "body",
    [b"<html>Welcome</html>", b"error,reference\r\nqueue length exceeded,897\r\n", b"{}"],
)
def test_an_answer_that_holds_no_tables_is_no_empty_store(body: bytes) -> None:
    with (
        scripted_server(Reply(200, body=body)) as server,
        pytest.raises(InfluxDBAccessError, match=r"instead of tables|queue length"),
    ):
        over(server.url).read(FIELDS)


def test_the_retention_is_read_or_unknown(influxdb2: InfluxDB2) -> None:
    kept = influxdb2.create_bucket(7 * 86_400)
    token = influxdb2.create_token(kept, "read", "write")
    bound = over(influxdb2.url, org=influxdb2.org, bucket=kept, token=token).kept_from()
    assert bound and abs(datetime.now(UTC) - timedelta(days=7) - bound) < timedelta(minutes=1)
    unlimited = influxdb2.create_bucket()
    place: dict[str, Any] = {"org": influxdb2.org, "bucket": unlimited}
    assert over(influxdb2.url, token=influxdb2.token, **place).kept_from() == KEPT_FOR_EVER
    write_only = influxdb2.create_token(unlimited, "write")
    assert over(influxdb2.url, token=write_only, **place).kept_from() is None
    with scripted_server(Reply(404)) as server:  # takes writes only
        assert over(server.url).kept_from() is None


def test_all_batches_are_stored_although_hours_of_the_first_are_too_old(
    influxdb2: InfluxDB2,
) -> None:
    bucket = influxdb2.create_bucket(30 * 86_400)
    store = over(influxdb2.url, 100, org=influxdb2.org, bucket=bucket, token=influxdb2.token)
    index = pd.date_range(
        datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=40),
        periods=40 * 24,
        freq="h",
    )
    frame = pd.DataFrame({REAL: 1.0, FORECAST: 2.0}, index=index)
    with pytest.raises(ExpiredHoursError) as caught:
        store.write(frame)
    assert abs(caught.value.kept_from - (datetime.now(UTC) - timedelta(days=30))) < timedelta(
        minutes=1
    )
    assert 30 * 24 - 1 <= len(store.read(FIELDS)) < len(frame)
