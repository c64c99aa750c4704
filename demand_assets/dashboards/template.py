"""The InfluxDB 2 template: a bucket, and a dashboard whose queries are the files in `flux/`."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).with_name("electricity_demand.yml")
"""The template for the default bucket, for `influx apply`; `write` makes it."""
QUERIES = Path(__file__).with_name("flux")
DEFAULT_BUCKET = "capstone7"
"""The bucket that the files name."""

BLUE, AMBER, GREEN, RED = "#2563eb", "#f59e0b", "#10b981", "#dc2626"

Resource = dict[str, Any]


def query(name: str, bucket: str = DEFAULT_BUCKET) -> str:
    """The Flux of `flux/{name}.flux`, reading from the bucket."""
    # Flux quotes text as JSON does, but for `${`, which would start an expression.
    quoted = json.dumps(bucket, ensure_ascii=False).replace("${", "\\${")
    text = (QUERIES / f"{name}.flux").read_text(encoding="utf-8")
    return text.replace(json.dumps(DEFAULT_BUCKET), quoted)


def dashboard_key(bucket: str) -> str:
    """What a stack knows the bucket's dashboard by; such a key may not hold all that a name may."""
    return f"electricity-demand-{hashlib.sha256(bucket.encode()).hexdigest()[:8]}"


def build_template(bucket: str = DEFAULT_BUCKET) -> list[Resource]:
    """The resources of the template: the bucket, then the dashboard that reads from it."""
    return [
        # Neither retention nor description, so that an existing bucket without them stays as it is.
        _resource("Bucket", "demand-bucket", {"name": bucket}),
        _resource(
            "Dashboard",
            dashboard_key(bucket),
            {
                "name": f"Spain's electricity demand ({bucket})",
                "description": f"Hourly demand of peninsular Spain and its forecasts, from bucket"
                f" {bucket}. Points are stamped at the start of their hour: choose a range of some"
                " hours at least.",
                "charts": _charts(bucket),
            },
        ),
    ]


def write() -> None:
    """Put the template for the default bucket into `TEMPLATE`."""
    TEMPLATE.write_text(render(build_template()), encoding="utf-8")


def render(template: list[Resource]) -> str:
    """The template as YAML, one document a resource, its queries as they are read."""
    return yaml.dump_all(
        template,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        explicit_start=True,
        width=100,
    )


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such a block."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def _resource(kind: str, name: str, spec: Resource) -> Resource:
    return {
        "apiVersion": "influxdata.com/v2alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def _charts(bucket: str) -> list[Resource]:
    """The cells; positions and sizes are in twelfths of the page's width."""

    def cell(
        kind: str, name: str, place: tuple[int, int, int, int], note: str, **more: Any
    ) -> Resource:
        x, y, width, height = place
        position = {"xPos": x, "yPos": y, "width": width, "height": height}
        return {"kind": kind, "name": name, **position, "note": note, **more}

    def shows(name: str) -> Resource:
        # An empty range shows what it should have held.
        return {"noteOnEmpty": True, "queries": [{"query": query(name, bucket)}]}

    return [
        cell(
            "Single_Stat",
            "Age of the newest measured hour",
            (0, 0, 3, 2),
            "Hours from the end of the newest measured hour in the range until now. An hour is"
            " stored within minutes of its end, so more than 2 hours is too old.",
            suffix=" h",
            decimalPlaces=1,
            colors=_colors(
                ("text", GREEN, 0, "fresh"),
                ("text", AMBER, 80 / 60, "late"),
                ("text", RED, 2, "stale"),
            ),
            **shows("age"),
        ),
        cell(
            "Table",
            "Peak of the range",
            (3, 0, 3, 2),
            "The hour of the greatest measured demand, and its mean in MW.",
            decimalPlaces=0,
            colors=_colors(("text", BLUE, 0, "demand")),
            **_columns({"_time": "Hour from", "_value": "RealDemand (MW)"}),
            **shows("peak"),
        ),
        cell(
            "Single_Stat",
            "Energy of the range",
            (6, 0, 3, 2),
            "Measured energy in GWh: the sum of the hours' means.",
            suffix=" GWh",
            decimalPlaces=1,
            colors=_colors(("text", BLUE, 0, "energy")),
            **shows("energy"),
        ),
        cell(
            "Single_Stat",
            "MAPE of the operator's forecast",
            (9, 0, 3, 2),
            "Mean absolute percentage error of ForecastDemand, over the hours of which the demand"
            " is known too. It is about 0.5 % on most days.",
            suffix=" %",
            decimalPlaces=2,
            colors=_colors(
                ("text", GREEN, 0, "usual"),
                ("text", AMBER, 1, "high"),
                ("text", RED, 2, "unusual"),
            ),
            **shows("mape"),
        ),
        cell(
            "Xy",
            "Demand and its forecasts",
            (0, 2, 9, 6),
            "Means in MW, stamped at the start: of an hour, or of several where the range is long."
            " RealDemand is measured, ForecastDemand the operator's forecast, ForecastModel that"
            " of the model for the next day, where there is one.",
            geom="line",
            position="overlaid",
            hoverDimension="x",
            xCol="_time",
            yCol="_value",
            timeFormat="YYYY-MM-DD HH:mm:ss",
            legendColorizeRows=True,
            legendOpacity=1,
            legendOrientationThreshold=100000000,
            staticLegend={
                "show": True,
                "colorizeRows": True,
                "heightRatio": 0.2,
                "opacity": 1,
                "orientationThreshold": 100000000,
                "valueAxis": "y",
                "widthRatio": 1,
            },
            # In the order of the query's series.
            colors=_colors(
                ("scale", AMBER, 0, "ForecastDemand"),
                ("scale", BLUE, 0, "RealDemand"),
                ("scale", GREEN, 0, "ForecastModel"),
            ),
            axes=[
                {"name": "x", "base": "10", "scale": "linear"},
                {
                    "name": "y",
                    "label": "Mean demand",
                    "suffix": " MW",
                    "base": "10",
                    "scale": "linear",
                },
            ],
            **shows("graph"),
        ),
        cell(
            "Gauge",
            "RealDemand - ForecastDemand",
            (9, 2, 3, 6),
            "Mean difference in MW over the hours of which both are known; above zero more was"
            " drawn than the operator had forecast. It is within 100 MW on most days.",
            suffix=" MW",
            decimalPlaces=0,
            colors=_colors(
                ("min", RED, -500, "far below"),
                ("threshold", AMBER, -250, "below"),
                ("threshold", GREEN, -100, "as forecast"),
                ("threshold", AMBER, 100, "above"),
                ("threshold", RED, 250, "far above"),
                ("max", RED, 500, "end"),
            ),
            **shows("difference"),
        ),
        cell(
            "Table",
            "Demand and its forecast",
            (0, 8, 12, 6),
            "The graph's means of RealDemand and ForecastDemand in MW.",
            decimalPlaces=1,
            colors=_colors(("text", BLUE, 0, "demand")),
            **_columns(
                {
                    "_time": "From",
                    "RealDemand": "RealDemand (MW)",
                    "ForecastDemand": "ForecastDemand (MW)",
                }
            ),
            **shows("table"),
        ),
    ]


def _colors(*colors: tuple[str, str, float, str]) -> list[Resource]:
    """Colours by type, hex code, the value that they start at, and name."""
    return [
        {
            # The page knows a cell's first text colour, which cannot be removed, by this id.
            "id": "base" if kind == "text" and not place else str(place),
            "name": name,
            "type": kind,
            "hex": hex_code,
            "value": round(value, 2),
        }
        for place, (kind, hex_code, value, name) in enumerate(colors)
    ]


def _columns(names: dict[str, str]) -> Resource:
    """A table's columns by what the query calls them."""
    return {
        "timeFormat": "YYYY-MM-DD HH:mm:ss",
        "tableOptions": {"verticalTimeAxis": True, "sortBy": "_time", "wrapping": "truncate"},
        "fieldOptions": [
            {"fieldName": name, "displayName": shown, "visible": True}
            for name, shown in names.items()
        ],
    }
