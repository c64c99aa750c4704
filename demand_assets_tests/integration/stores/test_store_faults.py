"""Failures during a write to InfluxDB, on real servers: no point is lost or stored twice."""

import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trustme
from influxdb_client.client.write_api import SYNCHRONOUS

from demand_assets.stores.influxdb import InfluxDBAccessError, InfluxDBStore
from demand_assets_tests.support.servers import (
    InfluxDB1,
    InfluxDB2,
    Reply,
    Trouble,
    free_port,
    network,
    scripted_server,
)
from demand_assets_tests.support.stores import (
    DAY,
    FIELDS,
    WRITTEN,
    hours,
    over,
    refused,
    stored,
)


@pytest.fixture
def database(influxdb1: InfluxDB1) -> str:
    return influxdb1.create_database()


@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.SILENCE, Trouble.UNHEARD])
def test_an_unacknowledged_batch_is_sent_again(
    influxdb1: InfluxDB1, database: str, trouble: Trouble
) -> None:
    frame = hours(DAY, "2024-06-18")
    # It happens to the second of three batches.
    with network(influxdb1.url, Trouble.NONE, trouble, Trouble.NONE) as link:
        store = over(
            link.url,
            bucket=database,
            batch_size=20,
            retry_seconds=30,
            read_timeout_seconds=5,
        )
        store.write(frame)
    assert link.connections == 4
    pd.testing.assert_frame_equal(stored(influxdb1, database), frame, check_index_type=False)


def test_a_server_that_starts_late_is_waited_for(influxdb1: InfluxDB1, database: str) -> None:
    port = free_port()
    with ExitStack() as stack:
        starts = threading.Timer(
            1.5, lambda: stack.enter_context(network(influxdb1.url, Trouble.NONE, port=port))
        )
        starts.start()
        over(f"http://127.0.0.1:{port}", bucket=database, retry_seconds=20).write(hours(DAY))
        starts.join()
    assert len(stored(influxdb1, database)) == 24


def test_a_silent_server_ends_the_write() -> None:
    with (
        network("http://127.0.0.1:1", Trouble.SILENCE) as link,
        refused(naming="does not answer.*INFLUXDB_V2_URL"),
    ):
        over(link.url, retry_seconds=4, read_timeout_seconds=0.5).write(hours(DAY))
    assert link.connections > 1


def test_a_missing_bucket_is_named(influxdb1: InfluxDB1) -> None:
    with refused(naming="404.*INFLUXDB_V2_BUCKET: create bucket nowhere"):
        over(influxdb1.url, bucket="nowhere").write(hours(DAY))


def store_text(store: InfluxDBStore, at: pd.Timestamp) -> None:
    """A point whose measured demand is a text."""
    with store.influxdb.get_client() as client:
        client.write_api(write_options=SYNCHRONOUS).write(
            store.influxdb.bucket, record=f'demand RealDemand="much" {at.value}'
        )


def test_a_field_of_another_type_is_reported_and_keeps_its_value(
    influxdb1: InfluxDB1, database: str
) -> None:
    store = over(influxdb1.url, bucket=database)
    store_text(store, hours(DAY).index[1])
    with refused(naming="400.*another type.*INFLUXDB_V2_BUCKET"):
        store.write(hours(DAY))
    rows = influxdb1.influxql("SELECT RealDemand FROM demand", database)
    assert rows == [[hours(DAY).index[1].timestamp(), "much"]]


def test_a_request_that_is_too_large_is_reported(influxdb1: InfluxDB1, database: str) -> None:
    index = pd.date_range("2024-01-01", periods=40_000, freq="h", tz="UTC", name="time")
    frame = pd.DataFrame({FIELDS[0]: np.random.default_rng(0).random(len(index))}, index=index)
    with refused(naming="413.*raise its limit"):  # of the proxy in front of the server
        over(influxdb1.url, bucket=database, batch_size=40_000, gzip=False).write(frame)
    assert len(stored(influxdb1, database)) == 0


@pytest.mark.parametrize("reason", ["a field of another type", "outside of the retention"])
def test_influxdb_2_refuses_points_that_the_bucket_cannot_keep(
    influxdb2: InfluxDB2,
    store_with: Callable[..., InfluxDBStore],
    reason: str,
) -> None:
    if reason == "outside of the retention":
        store = store_with(bucket=influxdb2.create_bucket(3600), token=influxdb2.token)
        naming = "422.*retention"
    else:
        store = store_with()
        store_text(store, hours(DAY).index[1])
        naming = "another type.*INFLUXDB_V2_BUCKET"
    with refused(naming=naming, without=store.influxdb.token):
        store.write(hours(DAY))


def test_a_private_authority_can_be_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    certificates = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(certificates))
    with scripted_server(WRITTEN, tls=tls) as server:
        with pytest.raises(InfluxDBAccessError, match=r"cannot be trusted.*certificate"):
            over(server.url).write(hours(DAY))
        assert not server.bodies
        over(server.url, ca_certificate=str(certificates)).write(hours(DAY))
    assert len(server.bodies) == 1


def test_a_redirect_sends_no_points_elsewhere() -> None:
    with scripted_server(WRITTEN) as elsewhere:
        moved = Reply(307, {"Location": f"{elsewhere.url}/api/v2/write"})
        with scripted_server(moved) as server, refused(naming="307"):
            over(server.url).write(hours(DAY))
    assert not elsewhere.bodies
