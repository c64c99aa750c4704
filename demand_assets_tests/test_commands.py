"""The README's commands, run as they are written: web server, daemon, sensor and all."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

import duckdb
import requests
import time_machine
from dagster import AssetKey, DagsterInstance

from demand_assets.definitions import PROJECT
from demand_assets.hourly import day_hours
from demand_assets.ledger import Ledger, State, read_ledger
from demand_assets.redata import MADRID
from demand_assets.simulator import Simulator
from demand_assets_tests.project import ASSETS, Project

T = TypeVar("T")


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """A command in a process group of its own, interrupted at the end as Ctrl-C does."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            finally:
                # Whatever is left would hold ports and files of later tests.
                with_group_gone(process.pid)


def with_group_gone(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for(what: Callable[[], T | None], seconds: float, process: subprocess.Popen) -> T:
    """The first result that is not None or False."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        assert process.poll() is None, "the command has ended"
        if result := what():
            return result
        sleep(0.5)
    raise AssertionError(f"not within {seconds:g} s")


def materialized_days(address: str) -> dict[str, set[str]] | None:
    """Per asset the keys of its green partitions, as the web page asks for them."""
    query = """{ assetNodes { assetKey { path } assetPartitionStatuses {
        ... on TimePartitionStatuses { ranges { status startKey endKey } } } } }"""
    try:
        answer = requests.post(f"{address}/graphql", json={"query": query}, timeout=20).json()
    except requests.ConnectionError:
        return None
    return {
        node["assetKey"]["path"][-1]: {
            key
            for run in node["assetPartitionStatuses"]["ranges"]
            if run["status"] == "MATERIALIZED"
            for key in (run["startKey"], run["endKey"])
        }
        for node in answer["data"]["assetNodes"]
    }


def today_is_green(address: str) -> bool:
    today = datetime.now(MADRID).date().isoformat()
    days = materialized_days(address) or {}
    return all(today in days.get(asset, ()) for asset in ASSETS)


def test_make_demo_stores_today_without_a_click(tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    demo = running(
        ["make", "demo", f"PORT={port}", f"DEMO_HOME={tmp_path / 'home'}"],
        tmp_path / "log",
        PYTHON=sys.executable,
        DEMAND_DATA_DIR=str(tmp_path / "data"),
        # Set by a user for the live system; the demo must leave that alone.
        INFLUXDB_V2_URL="http://127.0.0.1:1",
    )
    with demo as process:
        wait_for(lambda: materialized_days(address) is not None, 180, process)
        wait_for(lambda: today_is_green(address), 120, process)
    database = tmp_path / "data" / "demo" / "demand.duckdb"
    with closing(duckdb.connect(str(database), read_only=True)) as base:
        (hours,) = base.sql("select count(ForecastDemand) from influx_demand_points").fetchall()[0]
    assert hours >= 23
    assert not list(PROJECT.glob(".tmp_dagster_home_*"))


def test_make_run_refreshes_today_closes_yesterday_and_heals_a_gap(tmp_path: Path) -> None:
    port, home, data = free_port(), tmp_path / "home", tmp_path / "data"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(PROJECT / "dagster.yaml")
    yesterday = datetime.now(MADRID).date() - timedelta(days=1)
    earlier = [yesterday - timedelta(days=n) for n in (4, 3, 2, 1)]

    def ledger() -> Ledger:
        with DagsterInstance.from_config(str(home)) as instance:
            points = AssetKey("influx_demand_points")
            return read_ledger(instance, points, datetime.now(UTC), timedelta(), earlier[0])

    # As if the machine had been off for three days, and then stopped yesterday at noon.
    noon = datetime.combine(yesterday, time(12), MADRID)
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

    def well() -> bool:
        now = ledger()
        fresh = now.stored.get(now.today)
        return bool(fresh) and not now.days(State.OPEN, State.MISSING, State.IN_PROGRESS)

    address = f"http://127.0.0.1:{port}"
    # An API that is an hour ahead has all of yesterday, also a minute after midnight.
    with (
        Simulator(clock=lambda: datetime.now(UTC) + timedelta(hours=1)) as api,
        running(
            ["make", "run", f"PORT={port}"],
            tmp_path / "log",
            PYTHON=sys.executable,
            DAGSTER_HOME=str(home),
            DEMAND_DATA_DIR=str(data),
            DEMAND_SETTLE_MINUTES="0.01",
            REDATA_BASE_URL=api.url,
        ) as process,
    ):
        wait_for(lambda: today_is_green(address), 240, process)
        wait_for(well, 120, process)
    with closing(duckdb.connect(str(data / "demand.duckdb"), read_only=True)) as base:
        days = base.sql(
            "select date_trunc('day', time at time zone 'Europe/Madrid')::date, count(RealDemand)"
            " from influx_demand_points group by 1"
        ).fetchall()
    stored = dict(days)
    for day in (*earlier, yesterday):
        assert stored[day] == len(day_hours(day))


def test_the_readmes_command_line_stores_a_day_and_shows_it(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (PROJECT / "README.md").read_text(), re.S)
    store, show = (
        next(block for block in blocks if words in block)
        for words in ("dagster asset materialize", "import duckdb")
    )
    # As written but for the folders: those in the checkout are the developer's own.
    store = store.replace("$PWD/.dagster/live", str(tmp_path))
    show = show.replace("data/demand.duckdb", str(tmp_path / "data/demand.duckdb"))
    with Simulator() as api:
        done = subprocess.run(
            ["bash", "-ec", store + show],
            cwd=PROJECT,
            env={
                **os.environ,
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
