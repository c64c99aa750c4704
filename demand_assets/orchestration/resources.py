"""The API and InfluxDB as Dagster resources.

How they are requested belongs in `redata/` and `stores/`.
"""

from pathlib import Path

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field, PrivateAttr

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

    concurrent_requests: int = Field(
        default=2,
        ge=1,
        le=4,
        description="How many requests may be in flight, over all runs of the instance"
        " (REDATA_CONCURRENT_REQUESTS).",
    )

    _shared_folder: Path | None = PrivateAttr(None)

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Share what is known about the API with the other runs of the instance."""
        if context.instance:
            self._shared_folder = Path(context.instance.root_directory) / "redata"

    def get_client(self) -> REDataClient:
        """A client with a session of its own."""
        return REDataClient(**self.model_dump(), shared_folder=self._shared_folder)


class InfluxDBResource(InfluxDB, ConfigurableResource["InfluxDBResource"]):
    """A bucket of an InfluxDB 2 server, as configuration; the fields are those of `InfluxDB`.

    Example:
        .. code-block:: python

            influxdb = InfluxDBResource(
                url="http://localhost:8086", token=EnvVar("INFLUXDB_V2_TOKEN"), org="grid"
            )
            with influxdb.get_client() as client:
                client.query_api().query('from(bucket: "capstone7") |> range(start: -1h)')
    """
