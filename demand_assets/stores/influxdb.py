"""InfluxDB 2 for Dagster: a resource, and an IO manager that keeps time-indexed frames in a bucket.

Points are written again, never deleted: storing a frame twice leaves the same points. A write is
reported as done only after the server has acknowledged every point of it.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import urllib3
from dagster import (
    ConfigurableIOManager,
    ConfigurableResource,
    InputContext,
    OutputContext,
    ResourceDependency,
)
from influxdb_client import InfluxDBClient, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from pydantic import Field

from demand_assets.orchestration.metadata import FIELDS as FIELDS_METADATA
from demand_assets.retry import backoff, retry_after, within
from demand_assets.stores import StoreError


class InfluxDBAccessError(StoreError):
    """InfluxDB could not be written or read. Its text names the setting to mend."""


class InfluxDBResource(ConfigurableResource):
    """A bucket of an InfluxDB 2 server.

    Example:
        .. code-block:: python

            influxdb = InfluxDBResource(
                url="http://localhost:8086", token=EnvVar("INFLUXDB_V2_TOKEN"), org="grid"
            )
            with influxdb.get_client() as client:
                client.query_api().query('from(bucket: "capstone7") |> range(start: -1h)')
    """

    url: str = Field(description="Address of the server (INFLUXDB_V2_URL).")
    token: str = Field(
        description="API token that may read and write the bucket (INFLUXDB_V2_TOKEN)."
        " Give it as an EnvVar, so that the web page shows only the variable's name."
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
        description="Seconds that a write may be repeated for while the server is unreachable,"
        " overloaded (429) or failing (5xx). A `Retry-After` is heeded.",
    )
    verify_tls: bool = Field(default=True, description="Verify the server's certificate.")
    ca_certificate: str | None = Field(
        default=None,
        description="PEM file with the certificates of a private authority"
        " (INFLUXDB_V2_SSL_CA_CERT).",
    )
    gzip: bool = Field(default=True, description="Compress what is written.")

    @contextmanager
    def get_client(self) -> Iterator[InfluxDBClient]:
        """The official client, closed at the end.

        Raises:
            InfluxDBAccessError: in place of what the client raises inside the block.
        """
        token = self.token.strip()
        if not (token.isascii() and token.isprintable()):
            # The HTTP library would quote such a token in its own error.
            raise InfluxDBAccessError("INFLUXDB_V2_TOKEN holds characters that no token has.")
        with InfluxDBClient(
            url=self.url,
            token=token,
            org=self.org,
            timeout=(self.connect_timeout_seconds * 1_000, self.read_timeout_seconds * 1_000),
            verify_ssl=self.verify_tls,
            ssl_ca_cert=self.ca_certificate,
            enable_gzip=self.gzip,
            retries=False,
        ) as client:
            try:
                yield client
            except ApiException as error:
                raise InfluxDBAccessError(self._explain(error)) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise InfluxDBAccessError(
                    f"InfluxDB at {self.address} does not answer ({type(error).__name__})."
                    " Check INFLUXDB_V2_URL and that the server is up."
                ) from error

    def write_patiently(self, write: Callable[[], object]) -> None:
        """Call ``write`` until the server acknowledges it, or the retry budget is spent.

        The client's own retries sleep through a ``Retry-After`` of any length, and in the end
        forget what the server had said.
        """
        deadline = time.monotonic() + self.retry_seconds
        for attempt in itertools.count(1):
            pause = backoff(attempt)
            try:
                within(self.connect_timeout_seconds + self.read_timeout_seconds, write)
                return
            except ApiException as error:
                if error.status != 429 and error.status < 500:
                    raise
                pause = retry_after(error.headers or {}) or pause
                if time.monotonic() + pause > deadline:
                    raise
            except (urllib3.exceptions.HTTPError, OSError):
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)

    @property
    def address(self) -> str:
        """The URL without credentials, for people to read."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"

    def _explain(self, error: ApiException) -> str:
        if not error.status:  # the client's way to say that TLS failed
            why = " ".join(str(error.reason).split())
            return (
                f"InfluxDB at {self.address} cannot be trusted ({why})."
                " Check INFLUXDB_V2_URL and the server's certificate."
            )
        said = getattr(error, "message", None) or error.reason or ""
        text = f"InfluxDB at {self.address} answered {error.status} '{' '.join(str(said).split())}'"
        if error.status in (401, 403):
            mend = f"Check INFLUXDB_V2_TOKEN: it must read and write bucket {self.bucket}."
        elif "organization" in str(said):
            mend = f"Check INFLUXDB_V2_ORG: there is no organization {self.org}."
        elif error.status == 404:
            mend = f"Check INFLUXDB_V2_BUCKET: create bucket {self.bucket} or name another."
        elif "field type conflict" in str(said):  # a 422 of InfluxDB 2, a 400 of InfluxDB 1
            mend = (
                "The bucket holds these fields as another type."
                " Check INFLUXDB_V2_BUCKET: empty that measurement, or name another bucket."
            )
        elif error.status == 400:
            mend = "Check INFLUXDB_V2_URL and INFLUXDB_V2_BUCKET: these points are not accepted."
        elif error.status == 413:
            mend = "A proxy in front of it takes no request of that size; raise its limit."
        elif error.status == 422:
            mend = "Points older than the bucket keeps them? Check its retention."
        else:
            mend = "Materialize again when the server is well; points are written again."
        return f"{text}. {mend}"


class InfluxDBIOManager(ConfigurableIOManager):
    """Keeps partitions of a frame as points of one measurement, without tags.

    A frame has a UTC ``DatetimeIndex`` named ``time`` and one float64 column per field; a NaN is a
    field left out. An asset names its columns in its definition metadata, under
    ``influxdb/fields``, so that a column without any value is still there when it is read back.

    Example:
        .. code-block:: python

            Definitions(
                assets=[influx_demand_points],
                resources={
                    "demand_store": InfluxDBIOManager(influxdb=influxdb, measurement="demand")
                },
            )
    """

    influxdb: ResourceDependency[InfluxDBResource]
    measurement: str = Field(description="Measurement that the points belong to.")
    batch_size: int = Field(default=5_000, ge=1, description="Rows sent in one request.")

    def handle_output(self, context: OutputContext, obj: pd.DataFrame) -> None:
        """Write a partition's or a range's points; return once all are acknowledged.

        Raises:
            InfluxDBAccessError: some batch was not acknowledged within the retry budget.
        """
        frame = obj.dropna(how="all")
        with self.influxdb.get_client() as client:
            api = client.write_api(write_options=SYNCHRONOUS)
            for start in range(0, len(frame), self.batch_size):
                write = partial(
                    api.write,
                    bucket=self.influxdb.bucket,
                    record=frame.iloc[start : start + self.batch_size],
                    data_frame_measurement_name=self.measurement,
                    write_precision=WritePrecision.S,  # type: ignore[arg-type]
                )
                self.influxdb.write_patiently(write)
        context.add_output_metadata(
            {"bucket": self.influxdb.bucket, "measurement": self.measurement}
        )

    def load_input(self, context: InputContext) -> pd.DataFrame:
        """The points of a partition, of a range or, from an unpartitioned asset, all of them."""
        fields = (context.upstream_output.definition_metadata if context.upstream_output else {})[
            FIELDS_METADATA
        ]
        if context.has_asset_partitions:
            start, stop = context.asset_partitions_time_window
            return self.read(fields, start, stop)
        return self.read(fields)

    def read(
        self, fields: list[str], start: datetime | None = None, stop: datetime | None = None
    ) -> pd.DataFrame:
        """The points in [start, stop) as a frame: UTC index ``time``, one column per field.

        Raises:
            InfluxDBAccessError: the server cannot be read.
        """
        parameters = {
            "bucket": self.influxdb.bucket,
            "measurement": self.measurement,
            "fields": fields,
            "start": start or datetime(1970, 1, 1, tzinfo=UTC),
            # The day after tomorrow: a forecast may lie ahead, and a bare range ends now.
            "stop": stop or datetime.now(UTC) + timedelta(days=2),
        }
        with self.influxdb.get_client() as client:

            def read() -> list[tuple[Any, ...]]:
                records = client.query_api().query_stream(_READ, params=parameters)
                return [(r.get_time(), *(r.values.get(f) for f in fields)) for r in records]

            rows = within(self.influxdb.retry_seconds + self.influxdb.read_timeout_seconds, read)
        frame = pd.DataFrame(rows, columns=["time", *fields]).astype(
            dict.fromkeys(fields, "float64")
        )
        frame["time"] = pd.to_datetime(frame["time"], utc=True).astype("datetime64[ns, UTC]")
        return frame.set_index("time")


_READ = """\
from(bucket: bucket)
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == measurement and contains(value: r._field, set: fields))
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    |> sort(columns: ["_time"])
"""
