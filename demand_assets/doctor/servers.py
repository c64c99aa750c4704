"""Checks of the API and the store: each with the few requests that it needs."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from influxdb_client.client.write_api import SYNCHRONOUS

from demand_assets.doctor import Level, Result
from demand_assets.grid import REAL, local_date
from demand_assets.proxies import SETTINGS as PROXY_SETTINGS
from demand_assets.proxies import proxy_of
from demand_assets.redata import REDataClient, REDataError
from demand_assets.redata.client import Outcome
from demand_assets.redata.errors import BlockedError, NoDataError, ProxyError
from demand_assets.settings import Settings
from demand_assets.stores import StoreError
from demand_assets.stores.duckdb_store import DuckDBStore
from demand_assets.stores.influxdb import InfluxDB, InfluxDBStore

API_SECONDS = 10.0
LARGEST_SKEW = timedelta(minutes=2)
"""With more, hours would be stored before they are over, or late."""
MEASUREMENT = "demand"


def check_api(settings: Settings) -> Iterator[Result]:
    """One request for the day before yesterday; the clock of this machine from the answer."""
    url = settings.redata_base_url
    if proxy := proxy_of(url):
        text = f"{url} is requested through {proxy[0]} ({PROXY_SETTINGS})"
        yield Result("proxy", Level.OK, text)
    received: list[tuple[datetime, datetime]] = []

    def note_clock(response: requests.Response, **_: Any) -> None:
        if sent := response.headers.get("Date"):
            received.append((datetime.now(UTC), parsedate_to_datetime(sent)))

    client = REDataClient(url, retry_seconds=API_SECONDS, timeout_seconds=API_SECONDS)
    client.session.hooks["response"].append(note_clock)
    day = local_date(datetime.now(UTC)) - timedelta(days=2)
    outcome = client.fetch([day])[day]
    yield _api_result(url, outcome)
    yield (
        check_clock(*received[0])
        if received
        else Result("clock", Level.NOTE, "not compared, as no server has answered")
    )


def check_clock(here: datetime, there: datetime) -> Result:
    """Whether the clock of this machine agrees with that of a server; both aware."""
    skew = here - there
    if abs(skew) <= LARGEST_SKEW:
        return Result("clock", Level.OK, f"agrees with the API's, {here:%F %H:%M} UTC")
    minutes, direction = abs(skew) / timedelta(minutes=1), "fast" if here > there else "slow"
    text = f"it is {minutes:.0f} minutes {direction}: {here:%F %H:%M} UTC. Set it, with NTP."
    return Result("clock", Level.WRONG, text)


def _api_result(url: str, outcome: Outcome) -> Result:
    if not isinstance(outcome, REDataError) or isinstance(outcome, NoDataError):
        return Result("API", Level.OK, f"{url} answers (REDATA_BASE_URL)")
    advice = "Check REDATA_BASE_URL and the network."
    if isinstance(outcome, ProxyError):
        advice = f"Check {PROXY_SETTINGS}."
    elif isinstance(outcome, BlockedError):
        advice = "Wait an hour before the next request; REDATA_BASE_URL is right."
    return Result("API", Level.WRONG, f"{outcome.reason}. {advice}")


def check_duckdb(settings: Settings) -> Result:
    """Whether the embedded database can be read."""
    store, now = DuckDBStore(settings.database), datetime.now(UTC)
    try:
        hours = len(store.read([REAL], now - timedelta(days=7), now))
    except StoreError as error:
        return Result("store", Level.WRONG, str(error))
    text = f"DuckDB {settings.database}: {hours} hours of the last week"
    return Result("store", Level.OK, text)


def check_influxdb(influxdb: InfluxDB, first_day: date) -> Iterator[Result]:
    """Whether the server answers, and the token may write and read the bucket.

    What is written is a comment, which stores nothing.
    """
    influxdb = influxdb.model_copy(update={"retry_seconds": 0.0, "read_timeout_seconds": 10.0})
    if proxy := proxy_of(influxdb.address):
        text = f"{influxdb.address} is reached through {proxy[0]} ({PROXY_SETTINGS})"
        yield Result("proxy", Level.OK, text)
    try:
        with influxdb.get_client() as client:
            version = client.version()
            yield Result("store", Level.OK, f"InfluxDB {version} at {influxdb.address}")
            client.write_api(write_options=SYNCHRONOUS).write(
                bucket=influxdb.bucket, record="# nothing\n"
            )
    except StoreError as error:
        yield Result("store", Level.WRONG, str(error))
        return
    rights = f"bucket {influxdb.bucket} (INFLUXDB_V2_BUCKET, INFLUXDB_V2_TOKEN)"
    yield Result("write", Level.OK, f"the token may write {rights}")
    now = datetime.now(UTC)
    try:
        InfluxDBStore(influxdb, MEASUREMENT).read([REAL], now - timedelta(hours=1), now)
        yield Result("read", Level.OK, f"the token may read {rights}")
        yield _check_retention(influxdb, first_day, now)
    except StoreError as error:
        text = f"{error} The bucket can be written: the token must be able to read it as well."
        yield Result("read", Level.WRONG, text if "Check INFLUXDB" in str(error) else str(error))


def _check_retention(influxdb: InfluxDB, first_day: date, now: datetime) -> Result:
    """Whether the bucket keeps points as old as the first day."""
    with influxdb.get_client() as client:
        buckets = client.buckets_api().find_buckets(name=influxdb.bucket).buckets
    seconds = [rule.every_seconds for bucket in buckets for rule in bucket.retention_rules or []]
    if not any(seconds):
        return Result("retention", Level.OK, f"bucket {influxdb.bucket} keeps points for ever")
    oldest = local_date(now - timedelta(seconds=min(seconds)))
    if oldest <= first_day:
        return Result("retention", Level.OK, f"the bucket keeps points since {oldest}")
    return Result(
        "retention",
        Level.WRONG,
        f"bucket {influxdb.bucket} keeps points since {oldest} only, and refuses older ones. Set a"
        f" longer retention period there, or a later DEMAND_START_DATE than {first_day}.",
    )
