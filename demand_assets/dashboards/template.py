"""Loads `electricity_demand.yml`, the InfluxDB 2 template: a bucket, and a dashboard that reads it.

Cells, texts and layout are in that file, and the queries in `flux/`. This module only puts in what
the file refers to by name: bucket, queries, thresholds, and the series of `grid.py`.
"""

import hashlib
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from demand_assets import grid
from demand_assets.dashboards import thresholds
from demand_assets.settings import Freshness
from demand_assets.stores.influxdb import flux_string

TEMPLATE = Path(__file__).with_name("electricity_demand.yml")
QUERIES = Path(__file__).with_name("flux")
DEFAULT_BUCKET, DEFAULT_FIELDS = "capstone7", "RealDemand|ForecastDemand"
"""The bucket in the query files, and the fields there (a part of a regular expression)."""
ZONE = re.compile(r'(?<=timezone\.location\(name: ")[^"]*')
"""The name of the time zone in the query files."""
COLORS = {
    "good": ("rainforest", "#4ED8A0"),
    "fair": ("pineapple", "#FFB94A"),
    "bad": ("fire", "#DC4E58"),
}
"""Colors by level: names and codes of the palette of InfluxDB's page, which knows no others."""
NO_HOURS = "No measured hours in this range; choose Past 24h or longer."
"""The beginning of the notes that are shown in place of an empty cell."""

Resource = dict[str, Any]


def build_template(bucket: str = DEFAULT_BUCKET) -> list[Resource]:
    """The resources of the template: the bucket, and the dashboard that reads from it."""
    bucket_resource, dashboard = yaml.safe_load_all(TEMPLATE.read_text(encoding="utf-8"))
    bucket_resource["spec"]["name"] = bucket
    dashboard["metadata"]["name"] = dashboard_key(bucket)
    spec = dashboard["spec"]
    for key in ("name", "description"):
        spec[key] = spec[key].replace("{bucket}", bucket)
    lists = _lists()
    titles = "; ".join(f"{s.column}: {s.title}" for s in (*grid.SERIES, grid.MODEL_FORECAST))
    for chart in spec["charts"]:
        for key in ("colors", "fieldOptions"):
            if isinstance(chart.get(key), str):
                chart[key] = lists[chart[key]]
        chart["note"] = chart["note"].replace("{series}", titles).replace("{no hours}", NO_HOURS)
        chart["queries"] = [{"query": query(q["query"], bucket)} for q in chart["queries"]]
    return [bucket_resource, dashboard]


def query(name: str, bucket: str = DEFAULT_BUCKET) -> str:
    """The Flux of `flux/{name}.flux` for a bucket and the series of the grid."""
    text = (QUERIES / f"{name}.flux").read_text(encoding="utf-8")
    text = text.replace(DEFAULT_FIELDS, "|".join(series.column for series in grid.SERIES))
    text = ZONE.sub(grid.TIME_ZONE.key, text)
    return text.replace(flux_string(DEFAULT_BUCKET), flux_string(bucket))


def dashboard_key(bucket: str) -> str:
    """The name of the dashboard in a stack, which allows fewer characters than a bucket's name."""
    return f"electricity-demand-{hashlib.sha256(bucket.encode()).hexdigest()[:8]}"


def _lists() -> dict[str, list[Resource]]:
    """The lists of colors and columns by their name in the file."""
    late, stale = (age / timedelta(hours=1) for age in (Freshness.warn_after, Freshness.fail_after))
    gauge = [*thresholds.GAUGE, ("bad", thresholds.GAUGE_END)]
    kinds = ["min", *["threshold"] * (len(gauge) - 2), "max"]
    # A graph assigns its colors in the order of the lines, and `graph.flux` sorts them like this.
    lines = [*sorted(grid.SERIES, key=lambda s: s.column), grid.MODEL_FORECAST]
    columns = {"_time": "", "from": "From (Madrid time)", "window": "Mean of"} | {
        s.column: f"{s.column} ({s.unit})" for s in grid.SERIES
    }
    return {
        "age_colors": [
            # The InfluxDB page finds a cell's first text color, which cannot be removed, by its id.
            _color("base", *COLORS["good"], "text", 0),
            _color("1", *COLORS["fair"], "text", late),
            _color("2", *COLORS["bad"], "text", stale),
        ],
        "gauge_colors": [
            _color(str(place), *COLORS[level], kind, start)
            for place, (kind, (level, start)) in enumerate(zip(kinds, gauge, strict=True))
        ],
        "series_colors": [
            _color(str(place), s.column, s.color, "scale", 0) for place, s in enumerate(lines)
        ],
        "series_columns": [
            {"fieldName": name, "displayName": shown, "visible": bool(shown)}
            for name, shown in columns.items()
        ],
    }


def _color(key: str, name: str, hex_code: str, kind: str, value: float) -> Resource:
    return {"id": key, "name": name, "type": kind, "hex": hex_code, "value": round(value, 2)}
