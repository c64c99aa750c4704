"""The stored hours as one HTML page that needs nothing else: no server, no network.

``page.html``, ``page.css`` and ``page.js`` are put together with Plotly and the hours.
"""

import html
import json
import math
import re
from datetime import datetime
from importlib.resources import files

import pandas as pd
from plotly.offline import get_plotlyjs
from upath import UPath

from demand_assets.demand.days import day_hours
from demand_assets.grid import TIME_ZONE
from demand_assets.settings import Freshness


def page_file(data_dir: str) -> UPath:
    """Where the page is kept, in a folder or at any fsspec address."""
    return UPath(data_dir) / "demand_dashboard" / "index.html"


def demand_page(frame: pd.DataFrame, *, store: str, written: datetime, freshness: Freshness) -> str:
    """The page of all hours given.

    Args:
        frame: UTC index ``time``, start of the hour; MW in one column per line.
        store: where the hours come from, for people to read.
        written: the present, aware.
        freshness: when the age of the newest measured hour turns yellow, and red.
    """
    room = files("demand_assets.dashboards")
    template = (room / "page.html").read_text("utf-8")
    parts = {
        "store": html.escape(store),
        "written": f"{written.astimezone(TIME_ZONE):%F %H:%M} Madrid time",
        "style": (room / "page.css").read_text("utf-8"),
        "script": (room / "page.js").read_text("utf-8"),
        "demand": _script_json({**_hours(frame), "fresh": _minutes(freshness)}),
        "plotly": get_plotlyjs(),
    }
    # In one pass, as what is put in may hold anything, the name of another part as well.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def _hours(frame: pd.DataFrame) -> dict[str, object]:
    """Whole Madrid days, hour by hour, null where an hour is unknown.

    ``start`` is the first hour, counted from 1970 in UTC; ``offsets`` are Madrid's, in hours, each
    with the place of the first hour that has it.
    """
    if frame.empty:
        return {"hours": 0, "start": 0, "offsets": []}
    first, last = (frame.index[place].tz_convert(TIME_ZONE.key).date() for place in (0, -1))
    hours = pd.date_range(day_hours(first)[0], day_hours(last)[-1], freq="h")
    on_the_clock = hours.tz_convert(TIME_ZONE.key).tz_localize(None)
    offset = (on_the_clock - hours.tz_localize(None)).components.hours
    changes = [0, *(place for place in range(1, len(hours)) if offset[place] != offset[place - 1])]
    lines = frame.reindex(hours).round(2)
    return {
        "hours": len(hours),
        "start": int(hours[0].timestamp()) // 3600,
        "offsets": [[place, int(offset[place])] for place in changes],
        **{
            str(name): [None if math.isnan(mw) else mw for mw in values.tolist()]
            for name, values in lines.items()
        },
    }


def _minutes(freshness: Freshness) -> dict[str, float]:
    warn, fail = freshness.warn_after, freshness.fail_after
    return {"warn": warn.total_seconds() / 60, "fail": fail.total_seconds() / 60}


def _script_json(value: object) -> str:
    """JSON that a script element can hold."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
