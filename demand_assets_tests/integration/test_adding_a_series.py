"""A new series is one entry in `grid.py`: the diff of docs/adding-a-series.md is applied."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demand_assets.settings import PROJECT
from demand_assets_tests.support.servers import InfluxDB2

ADDED = "ProgrammedDemand"


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project to which the diff in the documentation has been applied."""
    copy = tmp_path_factory.mktemp("extended")
    for package in ("demand_assets", "demand_assets_tests"):
        shutil.copytree(PROJECT / package, copy / package)
    for file in ("dagster.yaml", ".env.example"):
        shutil.copy(PROJECT / file, copy)
    guide = (PROJECT / "docs" / "adding-a-series.md").read_text()
    (diff,) = re.findall(r"```diff\n(.*?)```", guide, re.S)
    subprocess.run(["git", "apply"], cwd=copy, input=diff, text=True, check=True)
    return copy


def follow_a_day(project: Path, folder: Path, **influxdb: str) -> dict[str, Any]:
    """What `support/added_series.py` reports of the project in a folder."""
    folder.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "demand_assets_tests.support.added_series"),
            *(str(folder), json.dumps(influxdb)),
        ],
        cwd=project,
        env={**os.environ, **influxdb, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def assert_series_is_everywhere(report: dict[str, Any]) -> None:
    assert report["columns"] == report["frame_files"] == ["RealDemand", "ForecastDemand", ADDED]
    assert report["read_back"][ADDED] == report["published"]["545"]
    assert report["read_back"]["RealDemand"] == report["published"]["1293"]
    assert "mean_programmed_mw" in report["metadata"]
    assert set(report["checks"].values()) == {True}
    assert len(report["checks"]) == 5
    assert report["page"] == dict.fromkeys(report["columns"], 24)
    graph, table = (
        cell
        for cell in json.loads(report["template"])[1]["spec"]["charts"]
        if ADDED in json.dumps(cell["queries"])
    )
    assert {graph["kind"], table["kind"]} == {"Xy", "Table"}
    assert ADDED in json.dumps(graph["colors"])
    assert ADDED in json.dumps(table["fieldOptions"])


def test_one_entry_adds_a_series_everywhere(extended: Path, tmp_path: Path) -> None:
    before = follow_a_day(PROJECT, tmp_path / "before")
    after = follow_a_day(extended, tmp_path / "after")
    assert ADDED not in json.dumps(before)
    assert_series_is_everywhere(after)
    # Dagster shows partitions of another code version as outdated.
    assert before["code_version"] != after["code_version"]
    for column in before["columns"]:
        assert before["read_back"][column] == after["read_back"][column]
    assert len(before["picture"]) < len(after["picture"])


def test_one_entry_adds_a_series_to_influxdb(
    extended: Path, tmp_path: Path, influxdb2: InfluxDB2
) -> None:
    bucket = influxdb2.create_bucket()
    report = follow_a_day(
        extended,
        tmp_path / "influxdb",
        INFLUXDB_V2_URL=influxdb2.url,
        INFLUXDB_V2_TOKEN=influxdb2.token,
        INFLUXDB_V2_ORG=influxdb2.org,
        INFLUXDB_V2_BUCKET=bucket,
    )
    assert_series_is_everywhere(report)
    fields = influxdb2.flux(
        f'import "influxdata/influxdb/schema" schema.measurementFieldKeys(bucket: "{bucket}",'
        ' measurement: "demand", start: 2023-01-01T00:00:00Z)'
    )
    assert {row["_value"] for row in fields} == {"RealDemand", "ForecastDemand", ADDED}
