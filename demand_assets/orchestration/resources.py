"""The REData API as a Dagster resource. The client itself belongs in `redata`."""

from dagster import ConfigurableResource
from pydantic import Field

from demand_assets.redata import REDataClient


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
