"""The stored hours as one HTML page, which needs neither a server nor a network.

What it shows and how it behaves is in `page.html`, `page.css` and `page.js`. Here these files are
combined with Plotly and the data that they need.
"""

import html
import json
import math
import re
from datetime import datetime, timedelta
from importlib.resources import files

import pandas as pd
from plotly.offline import get_plotlyjs
from upath import UPath

from demand_assets import grid
from demand_assets.dashboards import thresholds
from demand_assets.demand.days import day_hours
from demand_assets.grid import TIME_ZONE
from demand_assets.settings import Freshness


def page_file(data_dir: str) -> UPath:
    """The path of the page in the data folder, which may be any fsspec address."""
    return UPath(data_dir) / "demand_dashboard" / "index.html"


def demand_page(frame: pd.DataFrame, *, store: str, written: datetime, freshness: Freshness) -> str:
    """The page of all hours of a frame.

    Args:
        frame: UTC index ``time``, start of the hour; MW in one column per series.
        store: where the hours come from, as shown in the footer.
        written: the present, aware.
        freshness: the ages at which the newest measured hour is shown yellow, and red.
    """
    folder = files("demand_assets.dashboards")
    data = {
        **_hours(frame),
        "series": [
            {"field": series.column, "title": series.title, "color": series.color}
            for series in (*grid.SERIES, grid.MODEL_FORECAST)
        ],
        "fresh": {
            "warn": freshness.warn_after / timedelta(minutes=1),
            "fail": freshness.fail_after / timedelta(minutes=1),
        },
        "gauge": {"bands": thresholds.GAUGE, "end": thresholds.GAUGE_END},
    }
    parts = {
        "store": html.escape(store),
        "written": f"{written.astimezone(TIME_ZONE):%F %H:%M} Madrid time",
        "style": (folder / "page.css").read_text("utf-8"),
        "script": (folder / "page.js").read_text("utf-8"),
        # A script element ends at the first `</script`.
        "demand": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "plotly": get_plotlyjs(),
    }
    # In one pass, as the name of another part may occur in a part.
    template = (folder / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _hours(frame: pd.DataFrame) -> dict[str, object]:
    """Whole Madrid days, hour by hour, null where an hour is unknown.

    ``start`` is the first hour, in hours since 1970 in UTC; ``offsets`` are those of Madrid in
    hours, each with the place of the first hour that has it.
    """
    if frame.empty:
        return {"hours": 0, "start": 0, "offsets": []}
    first, last = (grid.local_date(frame.index[place]) for place in (0, -1))
    hours = pd.date_range(day_hours(first)[0], day_hours(last)[-1], freq="h")
    local = hours.tz_convert(TIME_ZONE.key).tz_localize(None)
    offset = (local - hours.tz_localize(None)).components.hours
    changes = [0, *(place for place in range(1, len(hours)) if offset[place] != offset[place - 1])]
    return {
        "hours": len(hours),
        "start": int(hours[0].timestamp()) // 3600,
        "offsets": [[place, int(offset[place])] for place in changes],
        **{
            str(column): [None if math.isnan(mw) else mw for mw in values.tolist()]
            for column, values in frame.reindex(hours).round(2).items()
        },
    }
