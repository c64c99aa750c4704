"""`make doctor`: each fault is a line that says what to do, and the exit code follows."""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from socket import create_server

import duckdb
import pytest

from demand_assets.doctor import Level, Result
from demand_assets.doctor.__main__ import examine
from demand_assets.doctor.servers import check_clock, check_influxdb
from demand_assets.launcher import places
from demand_assets.simulator import Simulator
from demand_assets.stores.influxdb import InfluxDB
from demand_assets_tests.support.servers import (
    InfluxDB2,
    Reply,
    free_port,
    scripted_server,
)

JSON = {"Content-Type": "application/json"}
VERSION = {"X-Influxdb-Version": "v2.9"}


@pytest.fixture
def healthy(tmp_path: Path) -> dict[str, str]:
    """Settings with which nothing is wrong, without the API."""
    return {"DAGSTER_HOME": str(tmp_path / "home"), "DEMAND_DATA_DIR": str(tmp_path / "data")}


def wrong(environment: Mapping[str, str], env_file: Path = Path("/no/.env")) -> dict[str, str]:
    """What is wrong, by the name of the line."""
    with Simulator() as api:
        settings = {"REDATA_BASE_URL": api.url, **environment}
        results = list(examine(settings, env_file))
        assert len(api.requests) <= 1
    return {result.name: result.text for result in results if result.level == Level.WRONG}


def test_nothing_is_wrong_on_a_new_machine_and_nothing_is_written(
    healthy: dict[str, str], tmp_path: Path
) -> None:
    assert wrong(healthy) == {}
    assert list(tmp_path.iterdir()) == []


def test_settings_that_cannot_be_used_are_named(healthy: dict[str, str], tmp_path: Path) -> None:
    assert "REDATA_BASE_URL" in wrong({**healthy, "REDATA_BASE_URL": "ftp://x"})["settings"]
    assert "TOKEN" in wrong({**healthy, "INFLUXDB_V2_URL": "http://h:8086"})["settings"]
    file = tmp_path / ".env"
    file.write_text("INFLUXDB_TOKEN=any\n")
    assert "INFLUXDB_TOKEN" in wrong(healthy, file)[".env"]
    file.write_text("INFLUXDB_V2_TOKEN=any\n")
    file.chmod(0o644)
    assert "chmod 600" in wrong(healthy, file)[".env"]
    file.write_bytes(b"\xff\xfe\xff")
    assert "cannot be read" in wrong(healthy, file)[".env"]


def test_the_api_that_cannot_be_reached_is_named(
    healthy: dict[str, str], monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    assert "REDATA_BASE_URL" in wrong({**healthy, "REDATA_BASE_URL": gone})["API"]
    with scripted_server(Reply(403)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        text = wrong({**healthy, "REDATA_BASE_URL": "https://api.example"})["API"]
    assert "HTTPS_PROXY" in text


def test_a_taken_port_and_a_folder_of_the_demo_are_named(
    healthy: dict[str, str], tmp_path: Path
) -> None:
    with closing(create_server(("127.0.0.1", 0))) as server:
        port = str(server.getsockname()[1])
        assert f"Port {port} is taken" in wrong({**healthy, "PORT": port})["ports"]
    home = tmp_path / "demo"
    home.mkdir()
    (home / places.DEMO_MARK).touch()
    assert "simulated days" in wrong({**healthy, "DAGSTER_HOME": str(home)})["record"]


def test_what_runs_is_shown_and_is_not_wrong(healthy: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with places.lock(tmp_path / "home") as lock:
        places.write_lock(lock, "http://localhost:3000")
        with Simulator() as api:
            lines = [str(r) for r in examine({**healthy, "REDATA_BASE_URL": api.url}, Path("/no"))]
    assert sum("at http://localhost:3000 (process" in line for line in lines) == 2


def test_an_unusable_data_folder_and_a_database_in_use_are_named(
    healthy: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "DEMAND_DATA_DIR" in wrong({**healthy, "DEMAND_DATA_DIR": str(file)})["disk"]
    monkeypatch.setattr("demand_assets.stores.duckdb_store.WAIT_SECONDS", 0.5)
    data = tmp_path / "data"
    data.mkdir()
    holder = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(data / "demand.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stdout.readline()
        assert f"(PID {process.pid})" in wrong(healthy)["store"]
        process.communicate(b"\n")
    duckdb.connect(str(data / "demand.duckdb")).close()
    assert wrong(healthy) == {}


def test_a_wrong_clock_is_named() -> None:
    now = datetime.now(UTC)
    assert check_clock(now, now + timedelta(seconds=90)).level == Level.OK
    assert "7 minutes fast" in check_clock(now, now - timedelta(minutes=7)).text
    assert "7 minutes slow" in check_clock(now, now + timedelta(minutes=7)).text


def influxdb(url: str, token: str = "any", bucket: str = "capstone7") -> InfluxDB:
    return InfluxDB(url=url, token=token, org="grid", bucket=bucket)


def levels(results: list[Result]) -> dict[str, Level]:
    return {result.name: result.level for result in results}


@pytest.mark.parametrize(
    ("replies", "named"),
    [
        ([Reply(204, VERSION), Reply(401, JSON, b'{"code":"unauthorized"}')], "INFLUXDB_V2_TOKEN"),
        ([Reply(204, VERSION), Reply(204), Reply(404, {}, b"not found")], "no Flux"),
    ],
)
def test_faults_of_influxdb_are_named(replies: list[Reply], named: str) -> None:
    with scripted_server(*replies) as server:
        results = list(check_influxdb(influxdb(server.url), date(2022, 1, 1)))
    assert results[-1].level == Level.WRONG and named in results[-1].text
    assert influxdb("http://127.0.0.1:1").token not in results[-1].text.split()


def test_influxdb_that_is_down_is_named() -> None:
    gone = influxdb(f"http://127.0.0.1:{free_port()}")
    (result,) = check_influxdb(gone, date(2022, 1, 1))
    assert result.level == Level.WRONG and "INFLUXDB_V2_URL" in result.text


def test_rights_and_retention_of_a_bucket_are_checked_and_nothing_is_written(
    influxdb2: InfluxDB2,
) -> None:
    start = datetime.now(UTC).date() - timedelta(days=20)
    bucket = influxdb2.create_bucket()

    def found(*actions: str, bucket: str = bucket) -> dict[str, Level]:
        token = influxdb2.create_token(bucket, *actions)
        return levels(list(check_influxdb(influxdb(influxdb2.url, token, bucket), start)))

    ok = dict.fromkeys(("store", "write", "read", "retention"), Level.OK)
    assert found("read", "write") == ok
    assert found("read") == {"store": Level.WRONG}
    assert found("write") == {"store": Level.OK, "write": Level.OK, "read": Level.WRONG}
    short = influxdb2.create_bucket(kept_seconds=7 * 86400)
    assert found("read", "write", bucket=short) == {**ok, "retention": Level.WRONG}
    assert influxdb2.flux(f'from(bucket: "{bucket}") |> range(start: 0) |> count()') == []
