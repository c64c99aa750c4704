"""What a backfill costs, beside the loop that it replaces and the floor below it.

Everything runs against the simulated API at half a second a request and 5 ms a day asked for,
into the same kind of store. `make bench` prints the tables of docs/performance.md.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from dagster import AssetMaterialization, DagsterInstance

from demand_assets.definitions import PROJECT
from demand_assets.redata import MADRID, days_between
from demand_assets.simulator import Simulator, SyntheticDays

YESTERDAY = datetime.now(MADRID).date() - timedelta(days=1)
LATENCY, LATENCY_PER_DAY = 0.5, 0.005
ASSETS = ("raw_ree_json", "hourly_demand_frame", "influx_demand_points")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Figures:
    """One row of the table."""

    what: str
    days: int
    wall: float
    cpu: float
    """Seconds of all processes together."""
    memory: float
    """MiB: the largest process at its peak."""
    requests: int


# Processes


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    cpu: float
    """Seconds, with those of its children that have ended."""
    peak: float
    """MiB."""
    command: str


def processes() -> dict[int, Process]:
    """What runs on this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            status = (folder / "status").read_text()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it has ended
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "0 0 kB")
        found[int(folder.name)] = Process(
            pid=int(folder.name),
            parent=int(stat[1]),
            cpu=sum(map(int, stat[11:15])) / TICK,
            peak=int(peak.split()[1]) / 1024,
            command=command,
        )
    return found


class Meter:
    """Watches a process and all that it starts."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def cpu(self) -> float:
        """Seconds used so far. A child that has ended counts once its parent has waited for it."""
        return sum(process.cpu for process in self._family())

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _family(self) -> list[Process]:
        running = processes()
        family, fresh = [], [self.pid]
        while fresh:
            pid = fresh.pop()
            if pid in running:
                family.append(running[pid])
                fresh += [p.pid for p in running.values() if p.parent == pid]
        return family

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            family = self._family()
            runs = [process.peak for process in family if "spawn_main" in process.command]
            self.peak = max([self.peak, *runs])


# What is measured


def days_until_yesterday(days: int) -> list[date]:
    """Days up to the present: with a gap after them, the sensor would fetch that too."""
    return days_between(YESTERDAY - timedelta(days=days - 1), YESTERDAY)


def notebook_loop(days: int, api: str, folder: Path) -> None:
    """A day at a time: ask, average, write, and put the day on the list of finished ones."""
    import duckdb
    import pandas as pd

    finished = folder / "finished.json"
    done: list[str] = []
    for day in days_until_yesterday(days):
        answer = requests.get(
            f"{api}/en/datos/demanda/demanda-tiempo-real",
            params={"start_date": f"{day}T00:00", "end_date": f"{day}T23:59", "time_trunc": "hour"},
            timeout=30,
        ).json()
        series = {}
        for one in answer["included"]:
            frame = pd.DataFrame(one["attributes"]["values"])
            frame.index = pd.to_datetime(frame["datetime"], utc=True)
            series[one["id"]] = frame["value"].resample("1h").mean()
        hours = pd.DataFrame({"RealDemand": series["1293"], "ForecastDemand": series["544"]})
        hours.index.name = "time"
        if url := os.environ.get("INFLUXDB_V2_URL"):
            from influxdb_client import InfluxDBClient
            from influxdb_client.client.write_api import SYNCHRONOUS

            with InfluxDBClient.from_env_properties() as client:
                assert url
                client.write_api(write_options=SYNCHRONOUS).write(
                    os.environ["INFLUXDB_V2_BUCKET"],
                    record=hours,
                    data_frame_measurement_name="demand",
                )
        else:
            with duckdb.connect(str(folder / "demand.duckdb")) as base:
                base.register("rows", hours.reset_index())
                base.execute("create table if not exists demand as from rows limit 0")
                base.execute("insert into demand from rows")
        done.append(day.isoformat())
        finished.write_text(json.dumps(done))


def floor(days: int, api: str, folder: Path) -> None:
    """The project's own core without Dagster: fetch, average, keep the files, write."""
    import pandas as pd
    from dagster import build_output_context

    from demand_assets.definitions import Settings, build_definitions
    from demand_assets.hourly import check_plausible, hourly_frame, read_day
    from demand_assets.redata import REDataClient

    settings = Settings.from_environment({**os.environ, "DEMAND_DATA_DIR": str(folder)})
    answers = REDataClient(api).fetch(days_until_yesterday(days))
    frames = []
    for day, answer in answers.items():
        assert isinstance(answer, dict), answer
        samples = read_day(answer, day)
        check_plausible(samples, day)
        frames.append(hourly_frame(samples, day, now=datetime.now(UTC)))
    frame = pd.concat(frames)
    if settings.influxdb_url:
        from demand_assets.influxdb import InfluxDBIOManager

        store = (build_definitions(settings).resources or {})["demand_store"]
        assert isinstance(store, InfluxDBIOManager)
        influxdb = store.influxdb.model_copy(update={"token": os.environ["INFLUXDB_V2_TOKEN"]})
        store = InfluxDBIOManager(influxdb=influxdb, measurement="demand")
        with build_output_context() as context:
            store.handle_output(context, frame)
    else:
        import duckdb

        with duckdb.connect(str(folder / "demand.duckdb")) as base:
            base.register("rows", frame.reset_index())
            base.execute("create table demand as from rows")


def measure_script(name: str, days: int) -> Figures:
    """Run one of the two functions above in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, simulator() as api:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, __file__, "--only", name, str(days), api.url, folder], cwd=PROJECT
        )
        meter = Meter(process.pid)
        _, status, used = os.wait4(process.pid, 0)
        meter.stop()
        wall = time.monotonic() - started
        assert status == 0, f"{name} failed"
        cpu = used.ru_utime + used.ru_stime
        return Figures(name, days, wall, cpu, used.ru_maxrss / 1024, len(api.requests))


def measure_backfill(days: int) -> Figures:
    """A backfill as the web page launches it, from the click until every partition is green."""
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator() as api,
        system(folder, api.url, days) as (
            process,
            page,
        ),
    ):
        meter = Meter(process.pid)
        span = days_until_yesterday(days)
        before, asked = meter.cpu(), len(api.requests)
        started = time.monotonic()
        launch(page, span)
        while (green := materialized(page, span[0], YESTERDAY)) < days:
            assert process.poll() is None, "the system has ended"
            if time.monotonic() - started > 1200:
                raise TimeoutError(f"{green} of {days} days after 20 minutes")
            time.sleep(2)
        wall = time.monotonic() - started
        while runs_under_way(page):
            time.sleep(0.5)
        cpu = meter.cpu() - before
        meter.stop()
        return Figures("backfill", days, wall, cpu, meter.peak, len(api.requests) - asked)


def measure_today(days: int) -> list[float]:
    """Seconds from a request for today to its end, asked for each minute during a backfill."""
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator() as api,
        system(folder, api.url, days, DEMAND_REFRESH_MINUTES="0.5") as (_, page),
    ):
        span = days_until_yesterday(days)
        launch(page, span)
        started = time.time()
        while materialized(page, span[0], YESTERDAY) < days:
            time.sleep(2)
        ended = time.time()
        query = """query($day: String!) { runsOrError(filter: {statuses: [SUCCESS], tags: [
            {key: "dagster/partition", value: $day}]}) { ... on Runs {
            results { creationTime endTime } } } }"""
        today = (YESTERDAY + timedelta(days=1)).isoformat()
        runs = ask(page, query, day=today)["runsOrError"]["results"]
        return [
            run["endTime"] - run["creationTime"]
            for run in runs
            if started < run["creationTime"] < ended
        ]


def measure_page(days: int) -> tuple[float, float]:
    """Seconds for the partition status of so many days of the three assets: at first, and warm."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(PROJECT / "dagster.yaml", folder)
        span = days_until_yesterday(days)
        with DagsterInstance.from_config(folder) as instance:
            for asset in ASSETS:
                for day in span:
                    told = AssetMaterialization(asset, partition=day.isoformat())
                    instance.report_runless_asset_event(told)
        with system(folder, "http://127.0.0.1:1", days, DAGSTER_HOME=folder, waits="no") as (
            _,
            page,
        ):
            query = """{ assetNodes { id assetPartitionStatuses { ... on TimePartitionStatuses {
                ranges { status startKey endKey } } } partitionStats { numMaterialized } } }"""
            times = []
            for _ in range(6):
                started = time.monotonic()
                nodes = ask(page, query)["assetNodes"]
                times.append(time.monotonic() - started)
                assert [n["partitionStats"]["numMaterialized"] for n in nodes] == [days] * 3
            return times[0], sorted(times[1:])[2]


@contextmanager
def simulator() -> Iterator[Simulator]:
    """The API, here, so that its own cost is in no row."""
    with Simulator(SyntheticDays(), latency=LATENCY, latency_per_day=LATENCY_PER_DAY) as api:
        yield api


@contextmanager
def system(
    folder: str, api: str, days: int, waits: str = "for today", **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`make run`, with a folder of its own; it has stored today, and ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "REDATA_BASE_URL": api,
        "DEMAND_START_DATE": days_until_yesterday(days)[0].isoformat(),
        "DAGSTER_HOME": f"{folder}/home",
        "DEMAND_DATA_DIR": f"{folder}/data",
        **settings,
    }
    with Path(folder, "log").open("wb") as log:
        process = subprocess.Popen(
            ["make", "run", f"PORT={port}"],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        page = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 180
            while True:
                try:
                    green = materialized(page, YESTERDAY, YESTERDAY + timedelta(days=2))
                    if green or waits == "no":
                        break
                except (requests.ConnectionError, KeyError, TypeError):
                    pass
                assert process.poll() is None and time.monotonic() < deadline, Path(
                    folder, "log"
                ).read_text()[-2000:]
                time.sleep(1)
            yield process, page
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


# The web page's questions


def ask(page: str, query: str, **variables: Any) -> Any:
    answer = requests.post(
        f"{page}/graphql", json={"query": query, "variables": variables}, timeout=60
    ).json()
    assert "errors" not in answer, answer["errors"]
    return answer["data"]


def launch(page: str, days: list[date]) -> None:
    """Select the days and all three assets, and click on 'Launch backfill'."""
    launched = ask(
        page,
        """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
            __typename ... on PythonError { message } } }""",
        p={
            "partitionNames": [day.isoformat() for day in days],
            "assetSelection": [{"path": [asset]} for asset in ASSETS],
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched


def materialized(page: str, first: date, last: date) -> int:
    """How many days of a span are green for the points."""
    ranges = ask(
        page,
        """{ assetNodeOrError(assetKey: {path: ["influx_demand_points"]}) { ... on AssetNode {
            assetPartitionStatuses { ... on TimePartitionStatuses {
                ranges { status startKey endKey } } } } } }""",
    )["assetNodeOrError"]["assetPartitionStatuses"]["ranges"]
    return sum(
        len(days_between(max(first, date.fromisoformat(r["startKey"])), min(last, end)))
        for r in ranges
        if r["status"] == "MATERIALIZED" and (end := date.fromisoformat(r["endKey"])) >= first
    )


def runs_under_way(page: str) -> bool:
    query = """{ runsOrError(filter: {statuses: [QUEUED, STARTING, STARTED]}) {
        ... on Runs { results { runId } } } }"""
    return bool(ask(page, query)["runsOrError"]["results"])


# The table


def table(rows: list[Figures], against: Figures) -> str:
    """Markdown; the ratio is of wall time, against the loop scaled to as many days."""
    lines = [
        "| what | days | wall s | loop ÷ it | CPU ms a day | peak MiB | API requests |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        scaled = against.wall / against.days * row.days
        lines.append(
            f"| {row.what} | {row.days} | {row.wall:.1f} | {scaled / row.wall:.1f}"
            f" | {row.cpu / row.days * 1000:.0f} | {row.memory:.0f} | {row.requests} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, nargs="+", default=[91, 911])
    parser.add_argument("--only", nargs=4, metavar=("WHAT", "DAYS", "API", "FOLDER"))
    options = parser.parse_args()
    if options.only:
        what, days, api, folder = options.only
        {"loop": notebook_loop, "floor": floor}[what](int(days), api, Path(folder))
        return
    # A shell that starts this in the background has it, and so what it starts, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    store = "InfluxDB" if os.environ.get("INFLUXDB_V2_URL") else "DuckDB"
    loop = measure_script("loop", options.days[0])
    rows = [loop]
    for days in options.days:
        rows += [measure_script("floor", days), measure_backfill(days)]
    print(
        f"\nInto {store}, {os.cpu_count()} cores, the API at {LATENCY} s a request and"
        f" {LATENCY_PER_DAY * 1000:.0f} ms a day. The loop ran {loop.days} days; for more it is"
        " scaled.\n"
    )
    print(table(rows, loop))
    delays = ", ".join(f"{delay:.0f}" for delay in measure_today(options.days[-1]))
    print(f"\nToday, asked for each minute during that backfill, was stored after {delays} s.")
    first, warm = measure_page(2000)
    print(f"The page's status of 2,000 days x 3 assets took {first:.2f} s, then {warm:.2f} s.")


if __name__ == "__main__":
    main()
