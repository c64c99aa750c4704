"""The dashboard as a Grafana dashboard: the cells of the InfluxDB template, with the same queries.

Grafana replaces `v.timeRangeStart`, `v.timeRangeStop` and `v.windowPeriod` in Flux queries. Cells,
texts and layout belong in `electricity_demand.yml`. This module only translates them.
"""

from typing import Any

from demand_assets import grid
from demand_assets.dashboards.template import (
    DEFAULT_BUCKET,
    NO_HOURS,
    build_template,
    dashboard_key,
)

DATA_SOURCE = {"type": "influxdb", "uid": "demand-influxdb"}
"""The data source, which `deploy/grafana/datasource.yml` provisions."""
KINDS = {"Single_Stat": "stat", "Table": "table", "Xy": "timeseries", "Gauge": "gauge"}

Json = dict[str, Any]


def build_grafana(bucket: str = DEFAULT_BUCKET) -> Json:
    """The dashboard of a bucket in Grafana's classic JSON model."""
    spec = build_template(bucket)[1]["spec"]
    return {
        "uid": dashboard_key(bucket),
        "title": spec["name"],
        "description": spec["description"],
        "tags": [],
        "timezone": grid.TIME_ZONE.key,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "schemaVersion": 39,
        "time": {"from": "now-7d", "to": "now"},
        "refresh": "5m",
        "templating": {"list": []},
        "annotations": {"list": []},
        "links": [],
        "panels": [_panel(place, chart) for place, chart in enumerate(spec["charts"], start=1)],
    }


def _panel(place: int, chart: Json) -> Json:
    kind = KINDS[chart["kind"]]
    defaults: Json = {"color": {"mode": "thresholds"}, "noValue": NO_HOURS}
    if "suffix" in chart:
        defaults["unit"] = f"suffix:{chart['suffix']}"
    if "decimalPlaces" in chart:
        defaults["decimals"] = chart["decimalPlaces"]
    panel: Json = {
        "id": place,
        "type": kind,
        "title": chart["name"],
        "description": chart["note"].removeprefix(NO_HOURS).strip(),
        "datasource": DATA_SOURCE,
        # Grafana has 24 columns, and rows of about half the height.
        "gridPos": {
            side: 2 * chart[key]
            for side, key in (("x", "xPos"), ("y", "yPos"), ("w", "width"), ("h", "height"))
        },
        "targets": [
            {"refId": "A", "datasource": DATA_SOURCE, "query": chart["queries"][0]["query"]}
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
    }
    if kind == "timeseries":
        _set_lines(panel, chart)
    elif kind == "table":
        _set_columns(panel, chart)
    else:
        _set_figure(panel, chart)
    return panel


def _set_lines(panel: Json, chart: Json) -> None:
    (unit,) = [axis["suffix"] for axis in chart["axes"] if "suffix" in axis]
    panel["fieldConfig"] = {
        "defaults": {
            "unit": f"suffix:{unit}",
            "decimals": 0,
            "displayName": "${__field.labels.series}",
            "custom": {"drawStyle": "line", "lineWidth": 2, "showPoints": "auto"},
        },
        # By name, so that a series keeps its color if another is absent.
        "overrides": [
            {
                "matcher": {"id": "byRegexp", "options": f"/{color['name']}$/"},
                "properties": [
                    {"id": "color", "value": {"mode": "fixed", "fixedColor": color["hex"]}}
                ],
            }
            for color in chart["colors"]
        ],
    }
    panel["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "none"},
    }


def _set_columns(panel: Json, chart: Json) -> None:
    panel["fieldConfig"]["defaults"]["color"] = {"mode": "fixed"}
    fields = chart["fieldOptions"]
    panel["transformations"] = [
        {
            "id": "organize",
            "options": {
                "excludeByName": {f["fieldName"]: True for f in fields if not f["visible"]},
                "indexByName": {f["fieldName"]: place for place, f in enumerate(fields)},
                "renameByName": {f["fieldName"]: f["displayName"] for f in fields if f["visible"]},
            },
        }
    ]
    panel["options"] = {"showHeader": True}


def _set_figure(panel: Json, chart: Json) -> None:
    colors = [color for color in chart["colors"] if color["type"] != "max"]
    defaults = panel["fieldConfig"]["defaults"]
    defaults["thresholds"] = {
        "mode": "absolute",
        # The first color has no lower limit.
        "steps": [
            {"color": color["hex"], "value": color["value"] if place else None}
            for place, color in enumerate(colors)
        ],
    }
    panel["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    if panel["type"] == "gauge":
        defaults["min"], defaults["max"] = (chart["colors"][end]["value"] for end in (0, -1))
        panel["options"] |= {"showThresholdLabels": True, "showThresholdMarkers": True}
