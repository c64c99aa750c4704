"""The InfluxDB template: every name in it is replaced by queries, series, thresholds and bucket."""

from typing import Any

import pytest

from demand_assets import grid
from demand_assets.dashboards.template import DEFAULT_BUCKET, QUERIES, build_template, query
from demand_assets_tests.support.series import PROGRAMMED

NAMES = sorted(file.stem for file in QUERIES.glob("*.flux"))
GREEN, YELLOW, RED = "#4ED8A0", "#FFB94A", "#DC4E58"
PALETTE = {"rainforest": GREEN, "pineapple": YELLOW, "fire": RED, "ocean": "#4591ED"}
"""Colors of InfluxDB's page; its editor of a cell fails at the name of any other."""


def chart(name: str) -> dict[str, Any]:
    _, dashboard = build_template()
    (found,) = [c for c in dashboard["spec"]["charts"] if c["name"] == name]
    return found


def color_at(value: float, colors: list[dict[str, Any]]) -> str:
    """The color that InfluxDB shows: that of the last threshold that the value has reached."""
    return [c["hex"] for c in colors if c["value"] <= value][-1]


def test_every_query_has_a_cell_and_reads_the_requested_bucket() -> None:
    odd = 'a "b" \\ ${c} ñ'
    for bucket, quoted in ((DEFAULT_BUCKET, '"capstone7"'), (odd, r'"a \"b\" \\ \${c} ñ"')):
        bucket_resource, dashboard = build_template(bucket)
        assert bucket_resource["spec"] == {"name": bucket}
        assert dashboard["spec"]["name"] == f"Spain's electricity demand ({bucket})"
        assert f"from bucket {bucket}." in dashboard["spec"]["description"]
        texts = [q["query"] for c in dashboard["spec"]["charts"] for q in c["queries"]]
        assert sorted(texts) == sorted(query(name, bucket) for name in NAMES)
        assert all(
            text.count("from(") == text.count(f"from(bucket: {quoted})") == 1 for text in texts
        )
        assert all("v.timeRangeStart, stop: v.timeRangeStop" in text for text in texts)


def test_cells_fill_a_page_of_twelve_columns() -> None:
    _, dashboard = build_template()
    taken = [
        (x, y)
        for c in dashboard["spec"]["charts"]
        for x in range(c["xPos"], c["xPos"] + c["width"])
        for y in range(c["yPos"], c["yPos"] + c["height"])
    ]
    height = max(y for _, y in taken) + 1
    assert sorted(taken) == [(x, y) for x in range(12) for y in range(height)]


@pytest.mark.parametrize(
    ("difference_mw", "color"),
    [
        *[(-499, RED), (-251, RED), (-249, YELLOW), (-101, YELLOW), (-99, GREEN)],
        *[(0, GREEN), (99, GREEN), (101, YELLOW), (249, YELLOW), (251, RED), (499, RED)],
    ],
)
def test_gauge_is_green_within_100_mw_and_red_from_250(difference_mw: float, color: str) -> None:
    assert color_at(difference_mw, chart("RealDemand - ForecastDemand")["colors"]) == color


def test_gauge_ends_at_500_mw() -> None:
    colors = chart("RealDemand - ForecastDemand")["colors"]
    ends = [(c["type"], c["value"]) for c in colors if c["type"] != "threshold"]
    assert ends == [("min", -500), ("max", 500)]


@pytest.mark.parametrize(
    ("minutes", "color"),
    [(0, GREEN), (79, GREEN), (81, YELLOW), (119, YELLOW), (121, RED), (20 * 60, RED)],
)
def test_age_is_yellow_from_80_minutes_and_red_from_two_hours(minutes: int, color: str) -> None:
    assert color_at(minutes / 60, chart("Age of the newest measured hour")["colors"]) == color


@pytest.mark.parametrize(
    ("percent", "color"), [(0.5, GREEN), (0.9, GREEN), (1.1, YELLOW), (1.9, YELLOW), (2.1, RED)]
)
def test_mape_is_yellow_from_1_percent_and_red_from_2(percent: float, color: str) -> None:
    assert color_at(percent, chart("MAPE of the operator's forecast")["colors"]) == color


def fields_of(cell: dict[str, Any]) -> str:
    lines = cell["queries"][0]["query"].splitlines()
    return next(line for line in lines if line.startswith("fields = "))


def test_colors_are_of_the_palette_of_the_page() -> None:
    _, dashboard = build_template()
    for cell in dashboard["spec"]["charts"]:
        colors = [c for c in cell["colors"] if c["type"] != "scale"]
        assert bool(colors) == (cell["kind"] != "Xy")
        assert all(PALETTE[c["name"]] == c["hex"] for c in colors)
        # By its id the page finds the color that cannot be removed.
        assert cell["kind"] in ("Xy", "Gauge") or colors[0]["id"] == "base"


def test_notes_say_how_to_see_something_where_a_cell_is_empty() -> None:
    _, dashboard = build_template()
    advice = "No measured hours in this range; choose Past 24h or longer. "
    notes = {c["name"]: c["note"] for c in dashboard["spec"]["charts"]}
    empty = {c["name"] for c in dashboard["spec"]["charts"] if c["noteOnEmpty"]}
    assert {name for name, note in notes.items() if note.startswith(advice)} == empty
    # Notes of the other cells are behind an icon, so that how they are computed can be read.
    assert set(notes) - empty == {
        "MAPE of the operator's forecast",
        "RealDemand - ForecastDemand",
    }
    assert not any("{" in note for note in notes.values())


def test_figures_have_their_units() -> None:
    _, dashboard = build_template()
    suffixes = {c["name"]: c["suffix"] for c in dashboard["spec"]["charts"] if "suffix" in c}
    assert suffixes == {
        "Age of the newest measured hour": " h",
        "Energy of the range": " GWh",
        "MAPE of the operator's forecast": " %",
        "RealDemand - ForecastDemand": " MW",
    }
    _, y = chart("Demand and its forecasts")["axes"]
    # A base of 10 would shorten 32000 MW to "32k MW".
    assert (y["name"], y["suffix"], y["base"]) == ("y", " MW", "")


def test_times_in_tables_are_text() -> None:
    tables = [chart("Peak of the range"), chart("Demand and its forecast")]
    for table in tables:
        columns = {f["fieldName"]: f["visible"] for f in table["fieldOptions"]}
        assert columns["from"] and not columns.get("_time")
        assert table["tableOptions"]["sortBy"] in columns


def shown() -> dict[str, Any]:
    """What the graph and the table show of the series."""
    graph, table = chart("Demand and its forecasts"), chart("Demand and its forecast")
    return {
        "graph": fields_of(graph),
        "colors": {c["name"]: c["hex"] for c in graph["colors"]},
        "note": graph["note"].rpartition(". ")[2],
        "table": fields_of(table),
        "columns": {f["fieldName"]: f["displayName"] for f in table["fieldOptions"]},
    }


def test_graph_and_table_show_the_series_of_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    before = shown()
    assert before == {
        "graph": "fields = /^(RealDemand|ForecastDemand|ForecastModel)$/",
        "colors": {
            "ForecastDemand": "#f59e0b",
            "RealDemand": "#2563eb",
            "ForecastModel": "#10b981",
        },
        "note": "RealDemand: Measured; ForecastDemand: Operator's forecast;"
        " ForecastModel: Next-day forecast.",
        "table": "fields = /^(RealDemand|ForecastDemand)$/",
        "columns": {
            "_time": "",
            "from": "From (Madrid time)",
            "window": "Mean of",
            "RealDemand": "RealDemand (MW)",
            "ForecastDemand": "ForecastDemand (MW)",
        },
    }
    monkeypatch.setattr(grid, "SERIES", (*grid.SERIES, PROGRAMMED))
    after = shown()
    assert after["graph"] == (
        "fields = /^(RealDemand|ForecastDemand|ProgrammedDemand|ForecastModel)$/"
    )
    # In the order of the lines, by which the graph assigns colors; a dict would not compare it.
    assert list(after["colors"].items()) == [
        ("ForecastDemand", "#f59e0b"),
        ("ProgrammedDemand", "#8b5cf6"),
        ("RealDemand", "#2563eb"),
        ("ForecastModel", "#10b981"),
    ]
    assert "ProgrammedDemand: Programmed; ForecastModel" in after["note"]
    assert after["table"] == "fields = /^(RealDemand|ForecastDemand|ProgrammedDemand)$/"
    assert after["columns"] == before["columns"] | {"ProgrammedDemand": "ProgrammedDemand (MW)"}
