"""Where `make run` and `make demo` start: apart from each other, one per home, on a free port."""

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET6, create_server
from typing import Any

import pytest

from demand_assets.launcher import __main__ as launcher
from demand_assets.launcher import places
from demand_assets.settings import INFLUXDB_SETTINGS, PROJECT, Settings, read_settings_file
from demand_assets_tests.support.servers import free_port

LIVE = {
    "INFLUXDB_V2_URL": "http://live.example:8086",
    "INFLUXDB_V2_TOKEN": "sesame",
    "INFLUXDB_V2_ORG": "grid",
    "REDATA_BASE_URL": "https://live.example",
    "DEMAND_PAGE_URL": "https://live.example/page",
}


@dataclass
class Started:
    """What the launcher would have started."""

    command: list[str]
    folder: Path
    environment: dict[str, str]
    output: Any = None
    kept_open: Any = ()

    def poll(self) -> int:
        return 0

    def stop(self) -> int:
        return 0


@pytest.fixture(autouse=True)
def _no_threads_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "Guarded", Started)
    monkeypatch.setattr("demand_assets.launcher.demo.accompany", lambda *_: None)
    monkeypatch.setattr(launcher, "_announce", lambda *_: None)
    for name in ("PORT", "PAGE_PORT", "DAGSTER_HOME", "DEMO_HOME"):
        monkeypatch.delenv(name, raising=False)


def start(
    monkeypatch: pytest.MonkeyPatch, kind: str, environment: dict[str, str], dotenv: str = ""
) -> Started:
    """What `make demo` or `make run` starts, with what is in the environment and in `.env`."""
    file = Path(environment["DEMO_HOME"]).parent / ".env"
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text(dotenv)
    monkeypatch.setattr(launcher, "ENV_FILE", file)
    for name, value in {"PORT": str(free_port()), **environment}.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        started = getattr(launcher, f"_start_{kind}")(stack)
    assert isinstance(started, Started)
    return started


def test_the_demo_reaches_nothing_of_a_live_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        **LIVE,
        "DEMO_HOME": str(tmp_path / "x" / "demo home"),
        "DAGSTER_HOME": str(tmp_path / "live home"),
        "DEMAND_DATA_DIR": str(tmp_path / "data"),
    }
    dotenv = "".join(f"{name}=of the file\n" for name in INFLUXDB_SETTINGS)
    started = start(monkeypatch, "demo", environment, dotenv)
    settings = Settings.from_environment(read_settings_file(launcher.ENV_FILE, started.environment))
    assert settings.influxdb_url is None and settings.store.kind == "duckdb"
    assert settings.data_dir == str(tmp_path / "data" / "demo")
    assert settings.redata_base_url.startswith("http://127.0.0.1:")
    assert settings.load_history
    assert "live.example" not in str(started.environment)
    assert "sesame" not in str(started.environment)
    assert started.environment["DAGSTER_HOME"] == environment["DEMO_HOME"] == str(started.folder)
    # Dagster prefers the `.env` of the folder in which it is started.
    assert not (started.folder / ".env").exists()
    assert not (tmp_path / "live home").exists()


def test_demo_and_live_system_refuse_each_others_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, live = tmp_path / "demo", tmp_path / "live"
    environment = {
        "DEMO_HOME": str(home),
        "DAGSTER_HOME": str(live),
        "DEMAND_DATA_DIR": str(tmp_path),
    }
    start(monkeypatch, "demo", environment)
    start(monkeypatch, "demo", environment)  # its own folders, again
    with pytest.raises(places.StartError, match="DAGSTER_HOME"):
        start(monkeypatch, "live", {**environment, "DAGSTER_HOME": str(home)})
    with pytest.raises(places.StartError, match="DEMAND_DATA_DIR"):
        start(monkeypatch, "live", {**environment, "DEMAND_DATA_DIR": str(tmp_path / "demo")})
    (live / "history").mkdir(parents=True)
    with pytest.raises(places.StartError, match="DEMO_HOME"):
        start(monkeypatch, "demo", {**environment, "DEMO_HOME": str(live)})
    (tmp_path / "other" / "demo").mkdir(parents=True)
    (tmp_path / "other" / "demo" / "demand.duckdb").touch()
    with pytest.raises(places.StartError, match="DEMAND_DATA_DIR"):
        start(monkeypatch, "demo", {**environment, "DEMAND_DATA_DIR": str(tmp_path / "other")})


def test_variables_of_the_settings_file_are_not_handed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a reload on the web page takes its new values."""
    environment = {"DEMO_HOME": str(tmp_path / "demo"), "DAGSTER_HOME": str(tmp_path / "live")}
    dotenv = f"DEMAND_DATA_DIR={tmp_path}/data\nDEMAND_REFRESH_MINUTES=7\nINFLUXDB_V2_ORG=grid\n"
    started = start(monkeypatch, "live", environment, dotenv)
    for name in ("DEMAND_DATA_DIR", "DEMAND_REFRESH_MINUTES", "INFLUXDB_V2_ORG", "DEMAND_PAGE_URL"):
        assert name not in started.environment and name not in os.environ
    settings = Settings.from_environment(started.environment)
    assert settings.page_url and settings.page_url.startswith("http://localhost:")


def test_a_second_start_on_the_same_home_names_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("PORT", str(free_port()))
    with places.lock(tmp_path) as lock:
        places.write_lock(lock, "http://localhost:3210")
        assert launcher.main(["live"]) == 1
        assert f"http://localhost:3210 (process {os.getpid()})" in capsys.readouterr().err
        assert "3210" in places.running_in(tmp_path)
    assert places.running_in(tmp_path) == ""
    places.lock(tmp_path).close()


def test_a_taken_port_that_was_named_is_an_error_with_a_free_one() -> None:
    with closing(create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with pytest.raises(places.StartError, match=rf"Port {port} is taken.*PORT=\d+"):
            places.choose_port({"PORT": str(port)})
    assert places.choose_port({"PORT": str(port)}) == (port, "")
    with pytest.raises(places.StartError, match="PORT=three"):
        places.choose_port({"PORT": "three"})


def test_a_taken_default_port_is_replaced_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(places, "DEFAULT_PORT", port)
        chosen, why = places.choose_port({"PORT": ""})
    assert chosen > port and str(port) in why and str(chosen) in why


def test_a_port_that_only_ipv6_has_is_taken() -> None:
    """A browser asks `localhost` there first."""
    try:
        server = create_server(("::1", 0), family=AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with closing(server):
        assert places.is_taken(server.getsockname()[1])


def test_configuration_is_linked_and_an_own_one_stays(tmp_path: Path) -> None:
    link = tmp_path / "dagster.yaml"
    link.symlink_to(tmp_path / "moved")
    places.link_configuration(tmp_path)
    assert link.resolve().parent == PROJECT
    link.unlink()
    link.write_text("own: true")
    places.link_configuration(tmp_path)
    assert link.read_text() == "own: true"
