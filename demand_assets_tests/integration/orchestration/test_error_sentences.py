"""What sensors and `today_is_fresh` say about a failure: our sentence, not that of a library."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import DagsterInstance

from demand_assets.grid import TIME_ZONE
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.settings import Settings
from demand_assets.simulator import Simulator
from demand_assets_tests.support.project import Project
from demand_assets_tests.support.servers import Reply, free_port, scripted_server

UNAUTHORIZED = Reply(
    401,
    {"Content-Type": "application/json"},
    b'{"code":"unauthorized","message":"unauthorized access"}',
)


def sentence(project: Project) -> str:
    """The error of today's failed attempt, as the sensors show it."""
    today = datetime.now(TIME_ZONE).date()
    assert not project.materialize(str(today)).success
    ledger = read_ledger(project.instance, project.settings, datetime.now(UTC))
    return ledger.attempts[today].error


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", "any")


def influxdb(url: str) -> Settings:
    return replace(Settings(), influxdb_url=url, influxdb_org="grid")


def test_a_wrong_token_is_reported_with_the_setting_to_correct(
    tmp_path: Path, instance: DagsterInstance, token: None
) -> None:
    with Simulator() as api, scripted_server(UNAUTHORIZED) as server:
        shown = sentence(Project(tmp_path, api.url, instance, influxdb(server.url)))
    assert shown.startswith(f"InfluxDB at {server.url} answered 401")
    assert shown.endswith("Check INFLUXDB_V2_TOKEN: it must read and write bucket capstone7.")


def test_a_store_that_is_down_is_reported_with_the_setting_to_correct(
    tmp_path: Path, instance: DagsterInstance, token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demand_assets.retry.backoff", lambda attempt: 99.0)
    monkeypatch.setattr("demand_assets.stores.influxdb.backoff", lambda attempt: 99.0)
    url = f"http://127.0.0.1:{free_port()}"
    with Simulator() as api:
        shown = sentence(Project(tmp_path, api.url, instance, influxdb(url)))
    assert shown.startswith(f"InfluxDB at {url} does not answer")
    assert shown.endswith("Check INFLUXDB_V2_URL and that the server is up.")


def test_a_failure_of_the_api_is_reported_with_the_setting_to_correct(
    tmp_path: Path, instance: DagsterInstance
) -> None:
    with Simulator(faults={"*": "refused"}) as api:
        shown = sentence(Project(tmp_path, api.url, instance))
    assert "REData answered 400" in shown and "Failure" not in shown
