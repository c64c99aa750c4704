"""The page as an asset."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    MaterializeResult,
    MetadataValue,
    asset,
)

from demand_assets.dashboards.page import demand_page, page_file
from demand_assets.files import write_whole
from demand_assets.forecast import FORECAST_MODEL
from demand_assets.hourly import FORECAST, REAL, day_hours, describe_frame
from demand_assets.picture import day_markdown
from demand_assets.redata import MADRID
from demand_assets.settings import Settings


def build_dashboard(shown: Sequence[AssetKey], settings: Settings) -> AssetsDefinition:
    """The asset over what is shown of the store."""

    @asset(
        deps=shown,
        required_resource_keys={"demand_store"},
        group_name="dashboards",
        owners=["team:grid-data"],
        kinds={"plotly", "html"},
        pool="store",
    )
    def demand_dashboard(context: AssetExecutionContext) -> MaterializeResult:
        """All stored hours as a page of its own: graph, table, gauge and figures by day, week,
        month and year. It needs no server and no network; each refresh of today writes it anew."""
        now = datetime.now(UTC)
        start = datetime.combine(settings.start_date, time(), MADRID)
        stop = now + timedelta(days=2)  # tomorrow's forecast is shown as well
        frame = context.resources.demand_store.read([REAL, FORECAST, FORECAST_MODEL], start, stop)
        frame = frame.dropna(how="all")
        file = page_file(settings.data_dir)
        page = demand_page(
            frame, store=settings.store.address, written=now, freshness=settings.freshness
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, page.encode())
        metadata: dict[str, Any] = {"file": MetadataValue.path(str(file)), "hours": len(frame)}
        if settings.page_url:
            metadata["page"] = MetadataValue.url(settings.page_url)
        measured = frame[REAL].dropna()
        if len(measured):
            newest = measured.index[-1].tz_convert(MADRID.key)
            day = newest.date()
            hours = frame.reindex(day_hours(day))
            metadata["preview"] = MetadataValue.md(day_markdown(hours, day))
            metadata["last_hour"] = MetadataValue.timestamp(newest)
            metadata["peak_mw"] = describe_frame(hours, day)["peak_mw"]
        return MaterializeResult(metadata=metadata)

    return demand_dashboard
