"""Secrets and access: no token is shown, no pickle is stored, a proxy can require a login."""

import os
import re
import subprocess
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from demand_assets.grid import TIME_ZONE
from demand_assets.settings import PROJECT, SettingError, Settings, load_settings_file
from demand_assets.simulator import Simulator
from demand_assets_tests.support.running_system import Page, running, wait_for
from demand_assets_tests.support.servers import InfluxDB1, ProgramMissing, free_port, nginx_server

SECRET = "sesame-9876543210"
PICKLE = b"\x80\x04"


def pickles(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.read_bytes()[:2] == PICKLE]


def test_token_appears_nowhere_on_a_running_system(tmp_path: Path, influxdb1: InfluxDB1) -> None:
    """Not in its output, files, web page or list of processes."""
    page, home = Page(), tmp_path / "home"
    home.mkdir()
    with (
        Simulator() as api,
        running(
            ["make", "run", f"PORT={page.port}"],
            tmp_path / "log",
            DAGSTER_HOME=str(home),
            DEMAND_DATA_DIR=str(tmp_path / "data"),
            REDATA_BASE_URL=api.url,
            INFLUXDB_V2_URL=influxdb1.url,
            INFLUXDB_V2_TOKEN=SECRET,
            INFLUXDB_V2_ORG="grid",
            INFLUXDB_V2_BUCKET=influxdb1.create_database(),
        ) as process,
    ):
        wait_for(page.is_up, 180, process)
        wait_for(lambda: datetime.now(TIME_ZONE).date() in page.green(), 120, process)
        wait_for(lambda: not page.runs_under_way(), 60, process)
        shown = page.ask(RESOURCES)
        listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True)
        with_environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert SECRET.encode() in with_environment  # so that the search below can find it
    assert "demand_store" in str(shown)
    assert SECRET not in str(shown)
    assert "dagster" in listed.stdout and SECRET not in listed.stdout
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert not pickles(tmp_path)


RESOURCES = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
    allTopLevelResourceDetails { name resourceType configuredValues { key value type }
        configFields { name defaultValueAsJson } nestedResources { name } } } } } }"""


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True), (0o640, True)])
def test_dotenv_with_a_token_that_others_can_read_is_warned_about(
    tmp_path: Path, mode: int, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", "of the environment")
    file = tmp_path / ".env"
    file.write_text(f"INFLUXDB_V2_TOKEN={SECRET}\n")
    file.chmod(mode)
    with warnings.catch_warnings(record=True) as caught:
        load_settings_file(file)
    assert ["chmod 600" in str(warning.message) for warning in caught] == [True] * warned
    assert SECRET not in str([str(warning.message) for warning in caught])
    assert os.environ["INFLUXDB_V2_TOKEN"] == "of the environment"
    file.write_text("#INFLUXDB_V2_TOKEN=\n")
    with warnings.catch_warnings(record=True) as caught:
        load_settings_file(file)
        load_settings_file(tmp_path / "none")
    assert not caught


def test_missing_certificate_is_an_error_that_names_the_setting() -> None:
    environment = {"INFLUXDB_V2_SSL_CA_CERT": "/no/such/file"}
    with pytest.raises(SettingError, match="INFLUXDB_V2_SSL_CA_CERT=/no/such/file"):
        Settings.from_environment(environment)


def test_documented_proxy_asks_for_a_password(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"```nginx\n(.*?)```", (PROJECT / "docs" / "operations.md").read_text(), re.S
    )
    names, port, page = tmp_path / "demand.htpasswd", free_port(), free_port()
    names.write_text("ana:{PLAIN}sesame\n")
    names.chmod(0o644)
    for written, here in (
        ("listen 8080", f"listen 127.0.0.1:{port}"),
        ("/etc/nginx/demand.htpasswd", str(names)),
        ("127.0.0.1:3000", f"127.0.0.1:{page}"),
    ):
        assert written in block
        block = block.replace(written, here)
    address = f"http://127.0.0.1:{port}/"
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with (
        skip_if_program_is_missing(),
        nginx_server(block, address),
        ThreadingHTTPServer(("127.0.0.1", page), handler) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert requests.get(address, timeout=10).status_code == 401
        assert requests.get(address, auth=("ana", "wrong"), timeout=10).status_code == 401
        let_in = requests.get(address, auth=("ana", "sesame"), timeout=10)
        assert let_in.status_code == 200 and "demand.htpasswd" in let_in.text
        server.shutdown()


@contextmanager
def skip_if_program_is_missing() -> Iterator[None]:
    try:
        yield
    except ProgramMissing as missing:
        pytest.skip(str(missing))
