"""The page as an asset. What the page shows belongs in `dashboards/`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from demand_assets import grid
from demand_assets.atomic_write import write_whole
from demand_assets.dashboards.day_chart import day_markdown
from demand_assets.dashboards.page import demand_page, page_file
from demand_assets.demand.days import day_hours, utc_index
from demand_assets.orchestration import keys
from demand_assets.settings import Settings
from demand_assets.stores import Store, StoreUnreadableError


@dg.asset(
    deps=[keys.INFLUX_DEMAND_POINTS, keys.DEMAND_FORECAST],
    group_name=keys.DASHBOARD_GROUP,
    owners=keys.OWNERS,
    kinds={"plotly", "html"},
    pool=keys.STORE_POOL,
)
def demand_dashboard(
    demand_store: dg.ResourceParam[Store], settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult[None]:
    """All stored hours as a page of one file: graph, table, gauge and figures by day, week, month
    and year. It needs no server and no network; each refresh of today updates it."""
    now = datetime.now(UTC)
    columns = [series.column for series in (*grid.SERIES, grid.MODEL_FORECAST)]
    # To the end of tomorrow, whose forecast is shown as well.
    start, stop = grid.start_of(settings.start_date), now + timedelta(days=2)
    try:
        frame = demand_store.read(columns, start, stop).dropna(how="all")
    except StoreUnreadableError as error:
        # A store that only takes points is filled all the same, and has its own dashboards.
        dg.get_dagster_logger().warning(f"The page is not written. {error}")
        return dg.MaterializeResult(metadata={"page_is_not_written": str(error)})
    page = demand_page(
        frame, store=settings.store.address, written=now, freshness=settings.freshness
    )
    file = page_file(settings.data_dir)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, page.encode())
    metadata: dict[str, Any] = {"file": dg.MetadataValue.path(str(file)), "hours": len(frame)}
    if settings.page_url:
        metadata["page"] = dg.MetadataValue.url(settings.page_url)
    return dg.MaterializeResult(metadata=metadata | _newest_day(frame))


def _newest_day(frame: pd.DataFrame) -> dict[str, Any]:
    """The chart and figures of the last day with measured hours; empty if there are none."""
    measured = frame[grid.REAL].dropna()
    if measured.empty:
        return {}
    newest = utc_index(measured)[-1].tz_convert(grid.TIME_ZONE.key)
    hours = frame.reindex(day_hours(newest.date()))
    return {
        "preview": dg.MetadataValue.md(day_markdown(hours, newest.date())),
        "last_hour": dg.MetadataValue.timestamp(newest),
        "peak_mw": float(hours[grid.REAL].max()),
    }
