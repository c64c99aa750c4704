"""InfluxDB 2: the connection to a bucket with errors that name the setting, and a store over it.

A write is done only after the server has acknowledged every point. Config fields that the web page
shows belong in `orchestration/resources.py`, the dashboard of InfluxDB in `dashboards/`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd
import urllib3
from influxdb_client import InfluxDBClient, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from demand_assets.retry import RetryBudget, backoff, call_with_retries, retry_after, within
from demand_assets.stores import StoreError, hourly_rows, url_without_credentials

CLIENT_ERRORS = (ApiException, urllib3.exceptions.HTTPError, OSError)


class InfluxDBAccessError(StoreError):
    """InfluxDB could not be written or read. The text names the setting to correct."""


@dataclass(frozen=True)
class InfluxDB:
    """A bucket of an InfluxDB 2 server. `orchestration.resources.InfluxDBResource` describes the
    fields."""

    url: str = field(repr=False)
    token: str = field(repr=False)
    org: str
    bucket: str = "capstone7"
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    retry_seconds: float = 60.0
    verify_tls: bool = True
    ca_certificate: str | None = None
    gzip: bool = True

    @property
    def address(self) -> str:
        """The URL without credentials."""
        return url_without_credentials(self.url)

    @contextmanager
    def get_client(self) -> Iterator[InfluxDBClient]:
        """The official client, closed at the end.

        Raises:
            InfluxDBAccessError: in place of the errors that the client raises inside the block.
        """
        token = self.token.strip()
        if not (token.isascii() and token.isprintable()):
            # The HTTP library would quote such a token in its own error.
            raise InfluxDBAccessError("INFLUXDB_V2_TOKEN contains characters that no token has.")
        with (
            self.explained_errors(),
            InfluxDBClient(
                url=self.address,  # The client never sends credentials of the URL.
                token=token,
                org=self.org,
                timeout=(self.connect_timeout_seconds * 1_000, self.read_timeout_seconds * 1_000),
                verify_ssl=self.verify_tls,
                ssl_ca_cert=self.ca_certificate,
                enable_gzip=self.gzip,
                retries=False,
            ) as client,
        ):
            yield client

    @contextmanager
    def explained_errors(self) -> Iterator[None]:
        """Raises an `InfluxDBAccessError` in place of an error of the client."""
        try:
            yield
        except CLIENT_ERRORS as error:
            raise InfluxDBAccessError(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        if not isinstance(error, ApiException):
            return (
                f"InfluxDB at {self.address} does not answer ({type(error).__name__})."
                " Check INFLUXDB_V2_URL and that the server is up."
            )
        if not error.status:  # The client reports failures of TLS in this way.
            return (
                f"InfluxDB at {self.address} cannot be trusted ({_one_line(error.reason)})."
                " Check INFLUXDB_V2_URL and the server's certificate."
            )
        message = _one_line(getattr(error, "message", None) or error.reason)
        advice = self._advice(error.status, message)
        return f"InfluxDB at {self.address} answered {error.status} '{message}'. {advice}"

    def _advice(self, status: int, message: str) -> str:
        if status in (401, 403):
            return f"Check INFLUXDB_V2_TOKEN: it must read and write bucket {self.bucket}."
        if "organization" in message:
            return f"Check INFLUXDB_V2_ORG: there is no organization {self.org}."
        if "field type conflict" in message:  # a 422 of InfluxDB 2, a 400 of InfluxDB 1
            return (
                "The bucket stores these fields as another type."
                " Check INFLUXDB_V2_BUCKET: empty that measurement, or name another bucket."
            )
        advice = {
            400: "Check INFLUXDB_V2_URL and INFLUXDB_V2_BUCKET: these points are not accepted.",
            404: f"Check INFLUXDB_V2_BUCKET: create bucket {self.bucket} or name another.",
            413: "A proxy in front of it refuses requests of that size; raise its limit.",
            422: "Points older than the bucket keeps them? Check its retention.",
        }
        return advice.get(
            status, "Materialize again when the server works; points are overwritten."
        )


@dataclass(frozen=True)
class InfluxDBStore:
    """Frames as points of one measurement without tags; a `Store`."""

    influxdb: InfluxDB
    measurement: str
    batch_size: int = 5_000
    """Rows sent in one request."""

    def write(self, frame: pd.DataFrame) -> None:
        """See `Store.write`; a batch is sent again, whole, for ``retry_seconds``."""
        known = frame.dropna(how="all")
        with self.influxdb.get_client() as client:
            api = client.write_api(write_options=SYNCHRONOUS)
            for start in range(0, len(known), self.batch_size):
                write_batch = partial(
                    api.write,
                    bucket=self.influxdb.bucket,
                    record=known.iloc[start : start + self.batch_size],
                    data_frame_measurement_name=self.measurement,
                    write_precision=WritePrecision.S,  # type: ignore[arg-type]
                )
                # The client's own retries wait for a `Retry-After` of any length, and lose the
                # server's message.
                budget = RetryBudget(self.influxdb.retry_seconds)
                call_with_retries(partial(self._attempt, write_batch), _pause_after, budget)

    def _attempt(self, write_batch: partial[Any]) -> None:
        seconds = self.influxdb.connect_timeout_seconds + self.influxdb.read_timeout_seconds
        with self.influxdb.explained_errors():
            within(seconds, write_batch)

    def read(
        self, fields: list[str], start: datetime | None = None, stop: datetime | None = None
    ) -> pd.DataFrame:
        """See `Store.read`; a query is not repeated, and ends in time."""
        parameters = {
            "bucket": self.influxdb.bucket,
            "measurement": self.measurement,
            "fields": fields,
            "start": start or datetime(1970, 1, 1, tzinfo=UTC),
            # A range without a stop ends now, and forecasts lie up to two days ahead.
            "stop": stop or datetime.now(UTC) + timedelta(days=2),
        }
        with self.influxdb.get_client() as client:

            def query() -> list[tuple[Any, ...]]:
                records = client.query_api().query_stream(_QUERY, params=parameters)
                return [(r.get_time(), *(r.values.get(f) for f in fields)) for r in records]

            seconds = self.influxdb.retry_seconds + self.influxdb.read_timeout_seconds
            rows = within(seconds, query)
        return hourly_rows(pd.DataFrame(rows, columns=["time", *fields]), fields)


def _one_line(text: str | bytes | None) -> str:
    if isinstance(text, bytes):  # of a query, whose answer the client does not decode
        text = text.decode(errors="replace")
    return " ".join((text or "").split())


def _pause_after(error: Exception, attempt: int) -> float | None:
    """Seconds until the next attempt: after 429, 5xx, and where the server cannot be reached."""
    cause = error.__cause__
    if not isinstance(cause, ApiException):
        return backoff(attempt) if isinstance(cause, CLIENT_ERRORS) else None
    if cause.status != 429 and cause.status < 500:
        return None
    return retry_after(cause.headers or {}) or backoff(attempt)


_QUERY = """\
from(bucket: bucket)
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == measurement and contains(value: r._field, set: fields))
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    |> sort(columns: ["_time"])
"""
