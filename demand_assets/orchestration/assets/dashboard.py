"""The page as an asset."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import (
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
)

from demand_assets.atomic_write import write_whole
from demand_assets.dashboards.day_chart import day_markdown
from demand_assets.dashboards.page import demand_page, page_file
from demand_assets.demand.days import day_hours
from demand_assets.demand.figures import describe_frame
from demand_assets.grid import COLUMNS, MODEL, REAL, TIME_ZONE, start_of
from demand_assets.orchestration import keys
from demand_assets.settings import Settings
from demand_assets.stores import Store


@asset(
    deps=[keys.INFLUX_DEMAND_POINTS, keys.DEMAND_FORECAST],
    group_name=keys.DASHBOARD_GROUP,
    owners=keys.OWNERS,
    kinds={"plotly", "html"},
    pool=keys.STORE_POOL,
)
def demand_dashboard(
    demand_store: ResourceParam[Store], settings: ResourceParam[Settings]
) -> MaterializeResult:
    """All stored hours as a page of its own: graph, table, gauge and figures by day, week, month
    and year. It needs no server and no network; each refresh of today writes it again."""
    now = datetime.now(UTC)
    # Up to the end of tomorrow, as its forecast is shown as well.
    start, stop = start_of(settings.start_date), now + timedelta(days=2)
    frame = demand_store.read([*COLUMNS, MODEL], start, stop).dropna(how="all")
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
        newest = measured.index[-1].tz_convert(TIME_ZONE.key)
        day = newest.date()
        hours = frame.reindex(day_hours(day))
        metadata["preview"] = MetadataValue.md(day_markdown(hours, day))
        metadata["last_hour"] = MetadataValue.timestamp(newest)
        metadata["peak_mw"] = describe_frame(hours, day)["peak_mw"]
    return MaterializeResult(metadata=metadata)
