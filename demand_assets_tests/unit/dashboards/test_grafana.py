"""The Grafana dashboard: the structure that Grafana documents, and the cells of InfluxDB's."""

import json
from itertools import pairwise
from typing import Any

import pytest
import yaml

from demand_assets.dashboards.grafana import build_grafana
from demand_assets.dashboards.template import build_template
from demand_assets.settings import PROJECT

FOLDER = PROJECT / "deploy/grafana"
FIELDS = {
    **{"uid": str, "title": str, "description": str, "tags": list, "timezone": str},
    **{"editable": bool, "graphTooltip": int, "schemaVersion": int, "time": dict, "refresh": str},
    **{"templating": dict, "annotations": dict, "links": list, "panels": list},
}
"""The fields of the classic JSON model that are set, and their types."""


def cells() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each panel with its cell of the InfluxDB dashboard."""
    charts = build_template()[1]["spec"]["charts"]
    return list(zip(build_grafana()["panels"], charts, strict=True))


def test_file_is_the_dashboard_of_the_default_bucket() -> None:
    file = json.loads((FOLDER / "electricity-demand.json").read_text())
    assert file == build_grafana()  # python -m demand_assets.dashboards --grafana


def test_dashboard_has_the_documented_fields() -> None:
    dashboard = build_grafana()
    assert {name: type(value) for name, value in dashboard.items()} == FIELDS
    assert len(dashboard["uid"]) <= 40
    assert set(dashboard["time"]) == {"from", "to"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_panels_have_the_queries_and_titles_of_the_cells() -> None:
    types = {"Single_Stat": "stat", "Table": "table", "Xy": "timeseries", "Gauge": "gauge"}
    for panel, chart in cells():
        assert (panel["type"], panel["title"]) == (types[chart["kind"]], chart["name"])
        (target,) = panel["targets"]
        assert target["query"] == chart["queries"][0]["query"]
        assert not panel["description"].startswith("No measured hours")


def test_panels_fill_24_columns() -> None:
    places = [panel["gridPos"] for panel, _ in cells()]
    taken = [
        (x, y)
        for p in places
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]
    height = max(y for _, y in taken) + 1
    assert sorted(taken) == [(x, y) for x in range(24) for y in range(height)]


def test_thresholds_ascend_from_a_step_without_limit() -> None:
    for panel, chart in cells():
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] not in ("stat", "gauge"):
            continue
        first, *others = defaults["thresholds"]["steps"]
        assert first["value"] is None
        assert all(one["value"] < other["value"] for one, other in pairwise(others))
        assert defaults["unit"] == f"suffix:{chart['suffix']}"
    (gauge,) = [p for p, _ in cells() if p["type"] == "gauge"]
    assert [gauge["fieldConfig"]["defaults"][end] for end in ("min", "max")] == [-500, 500]


def test_columns_are_shown_in_order_with_their_names() -> None:
    for panel, chart in cells():
        if panel["type"] == "table":
            (organize,) = panel["transformations"]
            shown = [f for f in chart["fieldOptions"] if f["visible"]]
            options = organize["options"]
            assert options["renameByName"] == {f["fieldName"]: f["displayName"] for f in shown}
            assert not set(options["excludeByName"]) & set(options["renameByName"])
            assert list(options["indexByName"].values()) == list(range(len(chart["fieldOptions"])))


@pytest.mark.parametrize("bucket", ["capstone7", 'an "odd" ${bucket}: ñ'])
def test_panels_use_the_data_source_that_is_provisioned(bucket: str) -> None:
    (source,) = yaml.safe_load((FOLDER / "datasource.yml").read_text())["datasources"]
    used = {"type": source["type"], "uid": source["uid"]}
    assert source["jsonData"]["version"] == "Flux"
    for panel in build_grafana(bucket)["panels"]:
        assert panel["datasource"] == panel["targets"][0]["datasource"] == used


def test_provider_names_the_folder_of_the_file() -> None:
    (provider,) = yaml.safe_load((FOLDER / "dashboards.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] in (PROJECT / "docs/operations.md").read_text()
