"""Servers that take writes of InfluxDB 2 and answer no Flux: days are stored, and it says so."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from dagster import DagsterInstance

from demand_assets.grid import TIME_ZONE
from demand_assets.settings import Settings
from demand_assets.simulator import Simulator
from demand_assets.stores import StoreUnreadableError
from demand_assets.stores.influxdb import InfluxDBAccessError
from demand_assets_tests.support.project import Project
from demand_assets_tests.support.servers import InfluxDB1, Reply, scripted_server
from demand_assets_tests.support.stores import FIELDS, over

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(403, JSON, b'{"error":"Flux query service disabled. Verify flux-enabled=true"}'),
        Reply(404, {}, b"404 page not found"),
        Reply(404, JSON, b'{"error":"not found"}'),
        Reply(400, {}, b'unsupported path requested: "/api/v2/query"'),
        Reply(405),
    ],
    ids=["InfluxDB 1.8", "InfluxDB 1.6", "InfluxDB 3", "VictoriaMetrics", "proxy"],
)
def test_a_server_without_flux_is_recognized(reply: Reply) -> None:
    with scripted_server(reply) as server, pytest.raises(StoreUnreadableError) as caught:
        over(server.url).read(FIELDS)
    assert "no Flux" in str(caught.value) and "InfluxDB 2" in str(caught.value)
    assert "TOKEN" not in str(caught.value) and "BUCKET" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "setting"),
    [
        (Reply(401, JSON, b'{"code":"unauthorized","message":"unauthorized access"}'), "TOKEN"),
        (Reply(404, JSON, b'{"code":"not found","message":"no bucket"}'), "BUCKET"),
    ],
)
def test_a_refusal_by_influxdb_2_is_still_about_its_setting(reply: Reply, setting: str) -> None:
    with scripted_server(reply) as server, pytest.raises(InfluxDBAccessError, match=setting):
        over(server.url).read(FIELDS)


def test_today_is_stored_in_a_server_that_is_only_written(
    tmp_path: Path,
    instance: DagsterInstance,
    influxdb1: InfluxDB1,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", "any")
    today = str(datetime.now(TIME_ZONE).date())
    bucket = influxdb1.create_database()
    settings = replace(
        Settings(), influxdb_url=influxdb1.url, influxdb_org="grid", influxdb_bucket=bucket
    )
    with Simulator() as api:
        project = Project(tmp_path, api.url, instance, settings)
        job = project.definitions.resolve_job_def("today_job")
        done = job.execute_in_process(instance=instance, partition_key=today)
    assert done.success
    (event,) = done.asset_materializations_for_node("demand_dashboard")
    assert "no Flux" in str(event.metadata["page_is_not_written"].value)
    checks = {e.check_name: e for e in done.get_asset_check_evaluations()}
    assert not checks["store_matches_frame"].passed
    assert checks["store_matches_frame"].severity.value == "WARN"
    assert influxdb1.influxql('SELECT count("ForecastDemand") FROM demand', bucket)
