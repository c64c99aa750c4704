"""The API and InfluxDB as Dagster resources.

How they are requested belongs in `redata/` and `stores/`.
"""

from contextlib import AbstractContextManager

from dagster import ConfigurableResource
from influxdb_client import InfluxDBClient
from pydantic import Field

from demand_assets.redata import REDataClient
from demand_assets.stores.influxdb import InfluxDB


class REDataResource(ConfigurableResource["REDataResource"]):
    """Where the API is, and how it is requested.

    Example:
        .. code-block:: python

            @asset(partitions_def=daily_partitions(date(2022, 1, 1)))
            def raw(context, redata: REDataResource):
                day = date.fromisoformat(context.partition_key)
                return redata.get_client().fetch([day])[day]
    """

    base_url: str = Field(
        default="https://apidatos.ree.es",
        description="Scheme and host of the REData API (REDATA_BASE_URL).",
    )
    language: str = Field(
        default="en", description="Language of the titles in the answers: `en` or `es`."
    )
    max_days_per_request: int = Field(
        default=31,
        ge=1,
        description="The longest span of one request, in days (REDATA_MAX_DAYS_PER_REQUEST).",
    )
    retry_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds that failed attempts and the pauses between them may take in one run"
        " (REDATA_RETRY_SECONDS).",
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="Seconds that the server may stay silent in one request."
    )

    def get_client(self) -> REDataClient:
        """A client with a session of its own."""
        return REDataClient(**self.model_dump())


class InfluxDBResource(ConfigurableResource["InfluxDBResource"]):
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

    def get_influxdb(self) -> InfluxDB:
        """The same bucket without Dagster."""
        return InfluxDB(**{name: getattr(self, name) for name in type(self).model_fields})

    def get_client(self) -> AbstractContextManager[InfluxDBClient]:
        """The official client, closed at the end of a `with` block; see `InfluxDB.get_client`."""
        return self.get_influxdb().get_client()
