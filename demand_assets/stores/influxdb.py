"""InfluxDB 2: the connection to a bucket with errors that name the setting, and a store over it.

A write is done only after the server has acknowledged every point. What makes a Dagster resource of
it belongs in `orchestration/resources.py`, the dashboard of InfluxDB in `dashboards/`.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from typing import Any

import pandas as pd
import urllib3
from influxdb_client import Dialect, InfluxDBClient, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from pydantic import BaseModel, ConfigDict, Field

from demand_assets.proxies import SETTINGS as PROXY_SETTINGS
from demand_assets.proxies import proxy_of
from demand_assets.retry import RetryBudget, backoff, call_with_retries, retry_after, within
from demand_assets.stores import (
    KEPT_FOR_EVER,
    ExpiredHoursError,
    StoreError,
    StoreUnavailableError,
    StoreUnreadableError,
    hourly_rows,
    url_without_credentials,
)

CLIENT_ERRORS = (ApiException, urllib3.exceptions.HTTPError, OSError)
RETENTION_UNKNOWN = (400, 401, 403, 404, 405)
"""Answers to a token that may not read the bucket, to a name in place of an id or the reverse, and
of servers that only take writes."""
OWN_KEYS = {"_start", "_stop", "_field", "_measurement"}
"""What InfluxDB lists as tags of every measurement."""
OWN_COLUMNS = {"result", "table", "_time", "_value", "_field"}
"""The columns of a table of points without tags."""
_DIALECT = Dialect(header=True, annotations=[], delimiter=",", date_time_format="RFC3339")
_KEPT_FROM = re.compile(r"Retention Policy Lower Bound at ([^\s,]+)")


class InfluxDBAccessError(StoreError):
    """InfluxDB could not be written or read. The text names the setting to correct."""


class InfluxDBUnavailableError(InfluxDBAccessError, StoreUnavailableError):
    """InfluxDB does not answer, or only that it is overloaded or failing."""


class InfluxDBRetentionError(InfluxDBAccessError, ExpiredHoursError):
    """Hours are older than the bucket keeps them; InfluxDB has stored all others of the batch."""


class InfluxDB(BaseModel):
    """A bucket of an InfluxDB 2 server."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    url: str = Field(repr=False, description="Address of the server (INFLUXDB_V2_URL).")
    token: str = Field(
        repr=False,
        description="API token that may read and write the bucket (INFLUXDB_V2_TOKEN)."
        " Give it as an EnvVar, so that the web page shows only the variable's name.",
    )
    org: str = Field(description="Organization, by name or id (INFLUXDB_V2_ORG).")
    bucket: str = Field(default="capstone7", description="Bucket (INFLUXDB_V2_BUCKET).")
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, description="Seconds to wait for a connection."
    )
    read_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Seconds to wait for an answer."
    )
    retry_seconds: float = Field(
        default=60.0,
        ge=0,
        description="Seconds for which a write is retried while the server is unreachable,"
        " overloaded (429) or failing (5xx). A `Retry-After` is respected.",
    )
    verify_tls: bool = Field(default=True, description="Verify the server's certificate.")
    ca_certificate: str | None = Field(
        default=None,
        description="PEM file with the certificates of a private authority"
        " (INFLUXDB_V2_SSL_CA_CERT).",
    )
    gzip: bool = Field(default=True, description="Compress what is written.")

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
        proxy, proxy_headers = proxy_of(self.address) or (None, None)
        try:
            with InfluxDBClient(
                url=self.address,  # The client never sends credentials of the URL.
                token=token,
                org=self.org,
                timeout=(self.connect_timeout_seconds * 1_000, self.read_timeout_seconds * 1_000),
                verify_ssl=self.verify_tls,
                ssl_ca_cert=self.ca_certificate,
                enable_gzip=self.gzip,
                retries=False,
                proxy=proxy,
                proxy_headers=proxy_headers,
            ) as client:
                yield client
        except CLIENT_ERRORS as error:
            raise self._access_error(error) from error

    def _access_error(self, error: Exception) -> InfluxDBAccessError:
        text = f"{self.describe(error)}. {self._advise(error)}"
        if not isinstance(error, ApiException):
            return InfluxDBUnavailableError(text)
        if bounds := _KEPT_FROM.findall(_message(error)):
            return InfluxDBRetentionError(text, max(map(datetime.fromisoformat, bounds)))
        if error.status == 429 or (error.status or 0) >= 500:
            return InfluxDBUnavailableError(text)
        return InfluxDBAccessError(text)

    def describe(self, error: Exception) -> str:
        """An error of the client in one line, without credentials."""
        if isinstance(error, urllib3.exceptions.ProxyError):
            reason = _one_line(str(error.original_error))
            return f"InfluxDB at {self.address} cannot be reached through the proxy ({reason})"
        if not isinstance(error, ApiException):
            return f"InfluxDB at {self.address} does not answer ({type(error).__name__})"
        if not error.status:  # The client reports failures of TLS in this way.
            return f"InfluxDB at {self.address} cannot be trusted ({_one_line(error.reason)})"
        return f"InfluxDB at {self.address} answered {error.status} '{_message(error)}'"

    def _advise(self, error: Exception) -> str:
        if isinstance(error, urllib3.exceptions.ProxyError):
            return f"Check {PROXY_SETTINGS}."
        if not isinstance(error, ApiException):
            return "Check INFLUXDB_V2_URL and that the server is up."
        if error.status in (401, 403):
            return f"Check INFLUXDB_V2_TOKEN: it must read and write bucket {self.bucket}."
        if "organization" in _message(error):
            return f"Check INFLUXDB_V2_ORG: there is no organization {self.org}."
        if "field type conflict" in _message(error):  # a 422 of InfluxDB 2, a 400 of InfluxDB 1
            return (
                "The bucket stores these fields as another type."
                " Check INFLUXDB_V2_BUCKET: empty that measurement, or name another bucket."
            )
        advice = {
            0: "Check INFLUXDB_V2_URL and the server's certificate.",
            400: "Check INFLUXDB_V2_URL and INFLUXDB_V2_BUCKET: these points are not accepted.",
            404: f"Check INFLUXDB_V2_BUCKET: create bucket {self.bucket} or name another. A token"
            " that may not read the bucket gets this answer, too.",
            413: "A proxy in front of it refuses requests of that size; raise its limit.",
            422: "Points older than the bucket keeps them? Check its retention.",
        }
        otherwise = "Materialize again when the server works; points are overwritten."
        return advice.get(error.status or 0, otherwise)


@dataclass(frozen=True)
class InfluxDBStore:
    """Frames as points of one measurement without tags; a `Store`."""

    influxdb: InfluxDB
    measurement: str
    batch_size: int = 5_000
    """Rows sent in one request."""

    def write(self, frame: pd.DataFrame) -> None:
        """See `Store.write`; a batch is sent again, whole, for ``retry_seconds``.

        Raises:
            InfluxDBRetentionError: some hours are too old; all others are stored.
        """
        known = frame.dropna(how="all")
        expired: ApiException | None = None
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
                try:
                    self._with_retries(write_batch)
                except ApiException as error:
                    if not _KEPT_FROM.search(_message(error)):
                        raise
                    expired = error
            if expired:
                raise expired

    def read(
        self, fields: list[str], start: datetime | None = None, stop: datetime | None = None
    ) -> pd.DataFrame:
        """See `Store.read`; a query is not repeated, and ends in time."""
        start = start or KEPT_FOR_EVER
        # A range without a stop ends now, and forecasts lie up to two days ahead.
        stop = stop or datetime.now(UTC) + timedelta(days=2)
        wanted = " or ".join(f"r._field == {flux_string(field)}" for field in fields)
        tables = self._query(
            f"from(bucket: {flux_string(self.influxdb.bucket)})"
            f" |> range(start: {start.astimezone(UTC):%FT%TZ}, stop: {stop.astimezone(UTC):%FT%TZ})"
            f" |> filter(fn: (r) => r._measurement == {flux_string(self.measurement)})"
            f" |> filter(fn: (r) => {wanted})"
            ' |> drop(columns: ["_start", "_stop", "_measurement"])'
        )
        return hourly_rows(_own_series(tables), fields)

    def kept_from(self) -> datetime | None:
        """See `Store.kept_from`; None if the token may not read the bucket's retention."""
        with self.influxdb.get_client() as client:
            find = partial(client.buckets_api().find_buckets, name=self.influxdb.bucket)
            for organization in ({"org": self.influxdb.org}, {"org_id": self.influxdb.org}):
                try:
                    found = self._with_retries(partial(find, **organization))
                except ApiException as error:
                    if error.status not in RETENTION_UNKNOWN:
                        raise
                    continue
                # A server that only takes writes may answer without a document.
                buckets = (found.buckets if found else None) or ()
                for seconds in (rule.every_seconds for b in buckets for rule in b.retention_rules):
                    kept = timedelta(seconds=seconds)
                    return datetime.now(UTC) - kept if kept else KEPT_FOR_EVER
        return None

    def foreign_tags(self) -> list[str]:
        """See `Store.foreign_tags`."""
        tables = self._query(
            'import "influxdata/influxdb/schema"\n'
            f"schema.measurementTagKeys(bucket: {flux_string(self.influxdb.bucket)},"
            f" measurement: {flux_string(self.measurement)}, start: 1970-01-01T00:00:00Z)"
        )
        keys = [key for table in tables for key in table.get("_value", [])]
        return sorted(str(key) for key in keys if key not in OWN_KEYS)

    def _with_retries(self, call: Callable[[], Any]) -> Any:
        """What a call of the client returns; repeated while the server is unavailable."""
        # The client's own retries wait for a `Retry-After` of any length, and lose the server's
        # message.
        seconds = self.influxdb.connect_timeout_seconds + self.influxdb.read_timeout_seconds
        budget = RetryBudget(self.influxdb.retry_seconds)
        return call_with_retries(
            partial(within, seconds, call), _pause_after, budget, self.influxdb.describe
        )

    def _query(self, flux: str) -> list[pd.DataFrame]:
        """The tables of a query, complete within the time limits of the connection."""
        with self.influxdb.get_client() as client:

            def query() -> str:
                response = client.query_api().query_raw(flux, dialect=_DIALECT)
                text: str = response.data.decode()
                return text

            seconds = self.influxdb.retry_seconds + self.influxdb.read_timeout_seconds
            try:
                return list(_tables(within(seconds, query)))
            except ApiException as error:
                raise_if_without_flux(self.influxdb, error)
                raise


def flux_string(text: str) -> str:
    """A text as Flux quotes it: like JSON, except that ``${`` would start an expression."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")


def _own_series(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Columns ``time`` and one per field, of the series without tags.

    Tables with other columns are series of other programs, as each tag is a column.
    """
    own = [table for table in tables if set(table.columns) == OWN_COLUMNS]
    if not own:
        return pd.DataFrame({"time": []})
    points = pd.concat(own)
    points["_value"] = pd.to_numeric(points["_value"], errors="coerce")
    rows = points.pivot(index="_time", columns="_field", values="_value")
    return rows.rename_axis(columns=None).reset_index(names="time")


def _tables(answer: str) -> Iterator[pd.DataFrame]:
    """The tables of an answer in CSV; tables with the same columns may come as one.

    Raises:
        InfluxDBAccessError: it is something else, such as the page of a proxy.
        ApiException: the query failed after the server had begun to answer.
    """
    for text in answer.split("\r\n\r\n"):
        if text.strip():
            columns = text.strip().partition("\r\n")[0].split(",")
            if "error" in columns:
                failure = ApiException(status=500)
                failure.message = _one_line(text)
                raise failure
            if columns[:3] != ["", "result", "table"]:
                raise InfluxDBAccessError(
                    f"A query was answered with '{_one_line(text)[:80]}' instead of tables."
                    " Check INFLUXDB_V2_URL."
                )
            yield pd.read_csv(StringIO(text), float_precision="round_trip").iloc[:, 1:]


def raise_if_without_flux(influxdb: InfluxDB, error: ApiException) -> None:
    """Tell the refusal of a query by a server that has no Flux from other refusals.

    InfluxDB 2 explains each refusal of a query in JSON with a ``code``; servers that only take its
    writes have another answer for the path.

    Raises:
        StoreUnreadableError: the server has no Flux.
    """
    try:
        explained = "code" in json.loads(error.body or b"")
    except (ValueError, TypeError):
        explained = False
    if error.status in (400, 403, 404, 405, 501) and not explained:
        raise StoreUnreadableError(
            f"InfluxDB at {influxdb.address} answers no Flux queries ({error.status}). Points are"
            " written; to read them, INFLUXDB_V2_URL must name an InfluxDB 2, or an InfluxDB 1.8"
            " with flux-enabled. InfluxDB 3 and VictoriaMetrics have no Flux."
        ) from error


def _message(error: ApiException) -> str:
    return _one_line(getattr(error, "message", None) or error.reason)


def _one_line(text: str | bytes | None) -> str:
    if isinstance(text, bytes):  # of a query, whose answer the client does not decode
        text = text.decode(errors="replace")
    return " ".join((text or "").split())


def _pause_after(error: Exception, attempt: int) -> float | None:
    """Seconds until the next attempt: after 429, 5xx, and where the server cannot be reached."""
    if not isinstance(error, ApiException):
        return backoff(attempt) if isinstance(error, CLIENT_ERRORS) else None
    if error.status != 429 and error.status < 500:
        return None
    return retry_after(error.headers or {}) or backoff(attempt)
