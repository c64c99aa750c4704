"""The commands of the documentation, run as written: with web server, daemon and sensors."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

import duckdb
import pytest
import requests
import time_machine
from dagster import DagsterInstance

from demand_assets.demand.days import day_hours, days_between
from demand_assets.grid import TIME_ZONE
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.orchestration.planning.ledger import Ledger, State
from demand_assets.settings import PROJECT, Settings
from demand_assets.simulator import Simulator
from demand_assets_tests.support.project import ASSETS, Project
from demand_assets_tests.support.running_system import NO_SETTINGS, Page, running, wait_for
from demand_assets_tests.support.servers import listening_addresses


def today_is_green(page: Page) -> bool:
    today = datetime.now(TIME_ZONE).date()
    return all(today in page.green(asset) for asset in ASSETS)


def test_make_demo_stores_today_and_listens_on_loopback_only(tmp_path: Path) -> None:
    page, first = Page(), datetime.now(TIME_ZONE).date() - timedelta(days=10)
    demo = running(
        [
            *("make", "demo", f"PORT={page.port}", f"DEMO_HOME={tmp_path / 'home'}"),
            # What a user sets for the live system; the demo must not write to it.
            f"DAGSTER_HOME={tmp_path / 'live'}",
            f"DEMAND_DATA_DIR={tmp_path / 'data'}",
            "INFLUXDB_V2_URL=http://127.0.0.1:1",
        ],
        tmp_path / "log",
        PYTHON=sys.executable,
        DEMAND_START_DATE=str(first),
        http_proxy="http://127.0.0.1:1",
    )
    with demo as process:
        wait_for(page.is_up, 180, process)
        wait_for(lambda: today_is_green(page), 120, process)
        (dashboard,) = wait_for(
            lambda: re.findall("^The dashboard: (.*)$", (tmp_path / "log").read_text(), re.M),
            60,
            process,
        )
        assert '"RealDemand":[' in requests.get(dashboard, timeout=10).text
        for port in (page.port, urlsplit(dashboard).port):
            assert listening_addresses(port) == {"127.0.0.1"}
        # It loads its days by itself, forecasts and scores, and says so in a few lines.
        wait_for(lambda: "Ready after" in (tmp_path / "log").read_text(), 300, process)
        assert page.green() == set(days_between(first, datetime.now(TIME_ZONE).date()))
        # A forecast needs a week before its day, so here the sensor makes the first one.
        wait_for(lambda: page.green("demand_forecast"), 150, process)
        assert page.green("demand_forecast_score")
        second = subprocess.run(
            ["make", "demo", f"DEMO_HOME={tmp_path / 'home'}", f"DEMAND_DATA_DIR={tmp_path}/data"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode and f"http://localhost:{page.port}" in second.stderr
    shown = (tmp_path / "log").read_text()
    assert len(shown.splitlines()) < 30 and "INFO" not in shown
    assert f"{tmp_path}/home/dagster.log" in shown
    assert "dagster" in (tmp_path / "home" / "dagster.log").read_text()
    database = tmp_path / "data" / "demo" / "demand.duckdb"
    with closing(duckdb.connect(str(database), read_only=True)) as base:
        (hours,) = base.sql("select count(ForecastDemand) from influx_demand_points").fetchall()[0]
    assert hours >= 23
    assert {path.name for path in tmp_path.iterdir()} == {"home", "data", "log"}
    assert not list(PROJECT.glob(".tmp_dagster_home_*"))


ANY_NAME = """it's "My Drive" - (a) $HOME #1 & co"""


def test_make_works_in_a_folder_of_any_name(tmp_path: Path) -> None:
    """With folders of the record and the data that are relative and have spaces, too."""
    here, page = tmp_path / ANY_NAME, Page()
    files = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, files.split("\0")):
        if (PROJECT / name).is_file():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, here / name)
    (here / ".venv").symlink_to(PROJECT / ".venv")
    today = datetime.now(TIME_ZONE).date()
    with (
        Simulator() as api,
        running(
            ["make", "-C", str(here), "run", f"PORT={page.port}"],
            tmp_path / "log",
            DAGSTER_HOME="my records/live",
            DEMAND_DATA_DIR="my data/live",
            REDATA_BASE_URL=api.url,
            PYTHONPATH=str(here),
        ) as process,
    ):
        wait_for(page.is_up, 180, process)
        wait_for(lambda: today in page.green(), 120, process)
    assert (here / "my data/live/demand.duckdb").exists()
    assert (here / "my records/live/dagster.yaml").is_symlink()


def service() -> tuple[list[str], dict[str, str]]:
    """The command of the systemd unit, and its environment."""
    unit = (PROJECT / "deploy/systemd/demand-assets.service").read_text()
    (command,) = re.findall("^ExecStart=(.*)$", unit, re.M)
    return shlex.split(command), dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.M))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_make_ends_all_within_a_minute(tmp_path: Path, number: signal.Signals) -> None:
    """As systemd, a supervisor or an IDE ends it, while a run is under way."""
    page, (command, environment) = Page(), service()
    assert environment == {"PORT": "3000"}
    with (
        Simulator(latency=120) as api,
        running(
            command,
            tmp_path / "log",
            PORT=str(page.port),
            DAGSTER_HOME=str(tmp_path / "home"),
            DEMAND_DATA_DIR=str(tmp_path / "data"),
            REDATA_BASE_URL=api.url,
        ) as process,
    ):
        wait_for(page.is_up, 180, process)
        wait_for(api.requests.__len__, 120, process)
        group = process.pid
        assert len(members(group)) > 6
        started = monotonic()
        process.send_signal(number)
        assert process.wait(60) == -number
        while members(group):
            assert monotonic() - started < 60, members(group)
            sleep(0.5)


def members(group: int) -> list[str]:
    """The commands of the living processes of a group."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


@pytest.mark.parametrize("unit", ["demand-assets.service", "demand-assets-user.service"])
def test_the_units_are_valid(tmp_path: Path, unit: str) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(PROJECT / "deploy/systemd" / unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0 and verified.stderr == "", verified.stderr


def test_make_doctor_prints_what_it_finds(tmp_path: Path) -> None:
    with Simulator() as api:
        command = ["make", "--no-print-directory", "doctor"]
        environment = {
            **os.environ,
            **NO_SETTINGS,
            "DAGSTER_HOME": str(tmp_path / "home"),
            "DEMAND_DATA_DIR": str(tmp_path / "data"),
            "REDATA_BASE_URL": api.url,
        }
        healthy, ill = (
            subprocess.run(
                command,
                cwd=PROJECT,
                env=environment | more,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            for more in ({}, {"DEMAND_START_DATE": "yesterday"})
        )
    assert healthy.returncode == 0, healthy.stdout
    assert "Nothing is wrong." in healthy.stdout
    assert ill.returncode != 0 and re.search(
        "^WRONG.*DEMAND_START_DATE=yesterday", ill.stdout, re.M
    )


def test_make_run_refreshes_today_closes_yesterday_and_fills_a_gap(tmp_path: Path) -> None:
    page, home, data = Page(), tmp_path / "home", tmp_path / "data"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(PROJECT / "dagster.yaml")
    yesterday = datetime.now(TIME_ZONE).date() - timedelta(days=1)
    earlier = [yesterday - timedelta(days=n) for n in (4, 3, 2, 1)]

    settings = Settings(start_date=earlier[0], settle=timedelta())

    def ledger() -> Ledger:
        with DagsterInstance.from_config(str(home)) as instance:
            return read_ledger(instance, settings, datetime.now(UTC))

    # The machine was off for three days, and was stopped yesterday at noon.
    noon = datetime.combine(yesterday, time(12), TIME_ZONE)
    with (
        time_machine.travel(noon, tick=False),
        Simulator(clock=lambda: noon) as api,
        DagsterInstance.from_config(str(home)) as instance,
    ):
        before = Project(data, api.url, instance)
        assert before.materialize(str(earlier[0])).success
        assert before.materialize(str(yesterday)).success
    assert [ledger().state(day) for day in (*earlier, yesterday)] == [
        State.INGESTED,
        *[State.MISSING] * 3,
        State.OPEN,
    ]

    def is_complete() -> bool:
        now = ledger()
        fresh = now.stored.get(now.today)
        return bool(fresh) and not now.days(State.OPEN, State.MISSING, State.IN_PROGRESS)

    # An API that is an hour ahead has all of yesterday, also a minute after midnight.
    with (
        Simulator(clock=lambda: datetime.now(UTC) + timedelta(hours=1)) as api,
        running(
            ["make", "run", f"PORT={page.port}"],
            tmp_path / "log",
            PYTHON=sys.executable,
            DAGSTER_HOME=str(home),
            DEMAND_DATA_DIR=str(data),
            DEMAND_SETTLE_MINUTES="0.01",
            REDATA_BASE_URL=api.url,
        ) as process,
    ):
        wait_for(page.is_up, 180, process)
        wait_for(lambda: today_is_green(page), 120, process)
        wait_for(is_complete, 120, process)
    with closing(duckdb.connect(str(data / "demand.duckdb"), read_only=True)) as base:
        days = base.sql(
            "select date_trunc('day', time at time zone 'Europe/Madrid')::date, count(RealDemand)"
            " from influx_demand_points group by 1"
        ).fetchall()
    stored = dict(days)
    for day in (*earlier, yesterday):
        assert stored[day] == len(day_hours(day))


def test_command_line_of_the_readme_stores_and_shows_a_day(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (PROJECT / "README.md").read_text(), re.S)
    store, show = (
        next(block for block in blocks if words in block)
        for words in ("dagster asset materialize", "import duckdb")
    )
    # As written, except for the folders: those in the checkout belong to the developer.
    store = store.replace("$PWD/.dagster/live", str(tmp_path))
    show = show.replace("data/demand.duckdb", str(tmp_path / "data/demand.duckdb"))
    # Dagster reads the `.env` of the folder that it is started in, which is the developer's.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".venv").symlink_to(PROJECT / ".venv")
    with Simulator() as api:
        done = subprocess.run(
            ["bash", "-ec", store + show],
            cwd=elsewhere,
            env={
                **os.environ,
                **NO_SETTINGS,
                "REDATA_BASE_URL": api.url,
                "DEMAND_DATA_DIR": str(tmp_path / "data"),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ForecastDemand" in done.stdout
    assert "2023-02-19 22:00:00" in done.stdout


def test_commands_of_the_operations_page_work(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (PROJECT / "docs/operations.md").read_text(), re.S)
    listing, printing = (
        next(block for block in blocks if words in block)
        for words in ("dagster asset list", "demand_assets.dashboards --print")
    )
    printing = printing.splitlines()[0].replace("dashboard.yml", str(tmp_path / "dashboard.yml"))
    done = subprocess.run(
        ["bash", "-ec", listing.replace("$PWD/.dagster/live", str(tmp_path)) + printing],
        cwd=PROJECT,
        env={**os.environ, **NO_SETTINGS},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "influx_demand_points" in done.stdout and "--fault" in done.stdout
    assert "kind: Dashboard" in (tmp_path / "dashboard.yml").read_text()


def test_make_backtest_scores_days_and_draws_them(tmp_path: Path) -> None:
    chart = tmp_path / "backtest.html"
    days = "--train-from 2022-10-01 --first 2023-04-10 --last 2023-04-12"
    printed = subprocess.run(
        ["make", "backtest", f"ARGS={days} --html {chart}"],
        cwd=PROJECT,
        env={**os.environ, "DEMAND_RECORDINGS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    (row,) = re.findall(r"^\| all \|(.*)\|$", printed, re.M)
    model, _, naive = (float(cell) for cell in row.split("|")[:3])
    assert 0 < model < naive
    assert "<html>" in chart.read_text()[:200]
