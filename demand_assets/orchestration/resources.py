"""The REData API as a Dagster resource."""

from dagster import ConfigurableResource
from pydantic import Field

from demand_assets.redata import REDataClient


class REDataResource(ConfigurableResource):
    """Where the API is and how patiently it is asked.

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
        description="The longest span of days asked for at once (REDATA_MAX_DAYS_PER_REQUEST).",
    )
    retry_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds that a run may spend on failed attempts and waiting before it gives"
        " up (REDATA_RETRY_SECONDS).",
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="Seconds that one request may stay silent."
    )

    def get_client(self) -> REDataClient:
        """A client with a session of its own."""
        return REDataClient(
            base_url=self.base_url,
            language=self.language,
            max_days_per_request=self.max_days_per_request,
            retry_seconds=self.retry_seconds,
            timeout_seconds=self.timeout_seconds,
        )
