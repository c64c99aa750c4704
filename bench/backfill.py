"""The cost of a backfill, compared with the loop that it replaces and with a lower bound.

Everything runs against the simulated API at two paces, and writes into the same kind of store.
`make bench` prints the tables of docs/performance.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import requests
from dagster import AssetMaterialization, DagsterInstance

from bench.meter import Meter
from bench.postgres import BATCHES, postgres, with_storage
from demand_assets.demand.days import days_between
from demand_assets.grid import TIME_ZONE
from demand_assets.settings import PROJECT
from demand_assets.simulator import Simulator, SyntheticDays
from demand_assets_tests.support.project import ASSETS
from demand_assets_tests.support.running_system import Page, running, wait_for
from demand_assets_tests.support.servers import free_port

TODAY = datetime.now(TIME_ZONE).date()
YESTERDAY = TODAY - timedelta(days=1)
INSTANCE = (PROJECT / "dagster.yaml").read_text()


@dataclass(frozen=True)
class Pace:
    """How long the API takes, in seconds."""

    per_request: float
    per_day: float

    def __str__(self) -> str:
        return f"{self.per_request:g} s per request and {self.per_day * 1000:g} ms per day"


FAST, SLOW = Pace(0.5, 0.005), Pace(4.0, 0.02)


@dataclass
class Figures:
    """One row of the table."""

    what: str
    days: int
    wall: float
    """Seconds until the last day is stored."""
    cpu: float
    """Seconds of all processes together."""
    memory: float
    """MiB: the peak of the largest process."""
    requests: int
    first_request: float = 0.0
    """Seconds until a backfill's first request, mostly the interval of Dagster's daemon."""
    completed: float | None = None
    """Seconds until the web page shows a backfill as completed."""


# Measurements


def days_until_yesterday(days: int) -> list[date]:
    """The days before today. After older days the sensor would fetch the gap as well."""
    return days_between(YESTERDAY - timedelta(days=days - 1), YESTERDAY)


def notebook_loop(days: int, api: str, folder: Path) -> None:
    """One day at a time: request, average, write, and add the day to the list of finished ones."""
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
        for entry in answer["included"]:
            frame = pd.DataFrame(entry["attributes"]["values"])
            frame.index = pd.to_datetime(frame["datetime"], utc=True)
            series[entry["id"]] = frame["value"].resample("1h").mean()
        hours = pd.DataFrame({"RealDemand": series["1293"], "ForecastDemand": series["544"]})
        hours.index.name = "time"
        if os.environ.get("INFLUXDB_V2_URL"):
            from influxdb_client import InfluxDBClient
            from influxdb_client.client.write_api import SYNCHRONOUS

            with InfluxDBClient.from_env_properties() as client:
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
    """The lower bound: the project's code without Dagster fetches, averages and writes."""
    import pandas as pd

    from demand_assets.demand.hourly import hourly_frame
    from demand_assets.demand.quality import screen
    from demand_assets.redata import REDataClient, read_samples
    from demand_assets.settings import Settings

    settings = Settings.from_environment({**os.environ, "DEMAND_DATA_DIR": str(folder)})
    client = REDataClient(api, concurrent_requests=settings.redata_concurrent_requests)
    answers = client.fetch(days_until_yesterday(days))
    frames = []
    for day, answer in answers.items():
        assert isinstance(answer, dict), answer
        now = datetime.now(UTC)
        samples = screen(read_samples(answer, day), day, now).samples
        frames.append(hourly_frame(samples, day, now=now))
    frame = pd.concat(frames)
    if settings.influxdb_url:
        from demand_assets.stores.influxdb import InfluxDB, InfluxDBStore

        influxdb = InfluxDB(
            url=settings.influxdb_url,
            token=os.environ["INFLUXDB_V2_TOKEN"],
            org=settings.influxdb_org,
            bucket=settings.influxdb_bucket,
        )
        InfluxDBStore(influxdb, "demand").write(frame)
    else:
        import duckdb

        with duckdb.connect(str(folder / "demand.duckdb")) as base:
            base.register("rows", frame.reset_index())
            base.execute("create table demand as from rows")


def measure_script(name: str, days: int, pace: Pace) -> Figures:
    """Run `notebook_loop` or `floor` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, simulator(pace) as api:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.backfill", "--only", name, str(days), api.url, folder],
            cwd=PROJECT,
        )
        meter = Meter(process.pid)
        _, status, used = os.wait4(process.pid, 0)
        meter.stop()
        wall = time.monotonic() - started
        assert status == 0, f"{name} failed"
        cpu = used.ru_utime + used.ru_stime
        return Figures(name, days, wall, cpu, used.ru_maxrss / 1024, len(api.requests))


def measure_backfill(
    days: int,
    pace: Pace = FAST,
    instance: str = INSTANCE,
    server: int | None = None,
    **settings: str,
) -> Figures:
    """A backfill launched as from the web page, until it is shown as completed.

    ``server`` is the process id of a database server whose CPU time and memory are included.
    """
    span = days_until_yesterday(days)
    with simulator(pace) as api, system(api.url, days, instance, **settings) as (process, page, _):
        wait_for(lambda: TODAY in page.green(), 120, process)
        meter = Meter(process.pid, *([server] if server else []))
        cpu_before, requests_before = meter.cpu(), len(api.requests)
        started = time.monotonic()

        def elapsed() -> float:
            return time.monotonic() - started

        backfill = page.launch_backfill(span)
        wait_for(lambda: any(day in span for day, _ in api.requests), 120, process, every=0.1)
        first_request = elapsed()
        wait_for(lambda: page.green().issuperset(span), 1200, process, every=1)
        stored = elapsed()
        wait_for(lambda: page.backfill_status(backfill).startswith("COMPLETED"), 120, process)
        completed = elapsed()
        wait_for(lambda: not page.runs_under_way(), 60, process)
        cpu = meter.cpu() - cpu_before
        meter.stop()
        requests = len(api.requests) - requests_before
        return Figures(
            "backfill", days, stored, cpu, meter.peak, requests, first_request, completed
        )


def measure_today(days: int, pace: Pace) -> list[float]:
    """Seconds from a request for today to the end of its run, each minute during a backfill."""
    span = days_until_yesterday(days)
    with (
        simulator(pace) as api,
        system(api.url, days, DEMAND_REFRESH_MINUTES="0.5") as (process, page, _),
    ):
        wait_for(lambda: TODAY in page.green(), 120, process)
        started = time.time()
        page.launch_backfill(span)
        wait_for(lambda: page.green().issuperset(span), 1200, process, every=2)
        ended = time.time()
        wait_for(lambda: not page.runs_under_way(), 120, process)  # one may have been requested
        query = """query($day: String!) { runsOrError(filter: {statuses: [SUCCESS], tags: [
            {key: "dagster/partition", value: $day}]}) { ... on Runs {
            results { creationTime endTime } } } }"""
        runs = page.ask(query, day=TODAY.isoformat())["runsOrError"]["results"]
        return [
            run["endTime"] - run["creationTime"]
            for run in runs
            if started < run["creationTime"] < ended
        ]


def measure_page(days: int) -> tuple[float, float]:
    """Seconds for the partition status of that many days of three assets, cold and warm."""
    with system("http://127.0.0.1:1", days) as (_, page, folder):
        with DagsterInstance.from_config(str(folder / "home")) as instance:
            for asset in ASSETS:
                for day in days_until_yesterday(days):
                    materialization = AssetMaterialization(asset, partition=day.isoformat())
                    instance.report_runless_asset_event(materialization)
        query = """query($keys: [AssetKeyInput!]) { assetNodes(assetKeys: $keys) { id
            assetPartitionStatuses { ... on TimePartitionStatuses {
            ranges { status startKey endKey } } } partitionStats { numMaterialized } } }"""
        keys = [{"path": [asset]} for asset in ASSETS]
        times = []
        for _ in range(6):
            started = time.monotonic()
            nodes = page.ask(query, keys=keys)["assetNodes"]
            times.append(time.monotonic() - started)
            assert [n["partitionStats"]["numMaterialized"] for n in nodes] == [days] * 3
        return times[0], sorted(times[1:])[2]


@contextmanager
def simulator(pace: Pace) -> Iterator[Simulator]:
    """The API, in this process, so that its cost is in no row."""
    with Simulator(SyntheticDays(), latency=pace.per_request, latency_per_day=pace.per_day) as api:
        yield api


@contextmanager
def system(
    api: str, days: int, instance: str = INSTANCE, **settings: str
) -> Iterator[tuple[subprocess.Popen, Page, Path]]:
    """`make run` in a temporary folder, until the block ends."""
    with tempfile.TemporaryDirectory() as name:
        folder, page = Path(name), Page()
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_text(instance)
        with running(
            ["make", "run", f"PORT={page.port}"],
            folder / "log",
            **{k: v for k, v in os.environ.items() if k.startswith("INFLUXDB_V2_")},
            REDATA_BASE_URL=api,
            DEMAND_START_DATE=days_until_yesterday(days)[0].isoformat(),
            DAGSTER_HOME=str(folder / "home"),
            DEMAND_DATA_DIR=str(folder / "data"),
            **settings,
        ) as process:
            wait_for(page.is_up, 180, process)
            yield process, page, folder


# Tables


def table(rows: list[Figures], loop: Figures) -> str:
    """Rows as Markdown, with the ratios to the loop, scaled to the same days."""
    lines = [
        "| what | days | first request s | last day stored s | loop ÷ it | completed s | loop ÷ it"
        " | CPU ms a day | peak MiB | API requests |",
        "| --- |" + " ---: |" * 9,
    ]
    for row in rows:
        scaled = loop.wall / loop.days * row.days
        completed = f"{row.completed:.1f} | {scaled / row.completed:.1f}" if row.completed else "|"
        lines.append(
            f"| {row.what} | {row.days} | {row.first_request:.1f} | {row.wall:.1f}"
            f" | {scaled / row.wall:.1f} | {completed}"
            f" | {row.cpu / row.days * 1000:.0f} | {row.memory:.0f} | {row.requests} |"
        )
    return "\n".join(lines)


def print_pace(days: list[int], pace: Pace, loop_days: int) -> None:
    """Loop, floor, backfill and a refresh of today at one pace of the API."""
    store = "InfluxDB" if os.environ.get("INFLUXDB_V2_URL") else "DuckDB"
    loop = measure_script("loop", loop_days, pace)
    rows = [loop]
    print(f"\nInto {store}, {os.cpu_count()} cores; the API takes {pace}.", flush=True)
    for number in days:
        floor, backfill = measure_script("floor", number, pace), measure_backfill(number, pace)
        rows += [floor, backfill]
        ratio = (backfill.wall - backfill.first_request) / floor.wall
        print(f"{number} days: backfill after its first request ÷ floor = {ratio:.2f}", flush=True)
    print(f"The loop is scaled to more days.\n\n{table(rows, loop)}")
    delays = ", ".join(f"{delay:.0f}" for delay in measure_today(days[-1], pace))
    print(f"\nToday, requested each minute during that backfill, was stored after {delays} s.")


def print_storages(days: int) -> None:
    """The same backfill with other storages for Dagster's record."""
    rows = [
        replace(
            measure_backfill(days, instance=with_storage(INSTANCE, "")), what="Dagster's SQLite"
        ),
        replace(measure_backfill(days), what="SQLite of dagster.yaml"),
    ]
    batches: dict[str, dict[str, str]] = {
        "PostgreSQL": {},
        "PostgreSQL, events in batches": BATCHES,
    }
    for what, settings in batches.items():
        with postgres(free_port()) as server:
            if server is None:
                print("Without PostgreSQL: it needs initdb and the project's extra `postgres`.")
                continue
            instance = with_storage(INSTANCE, server.storage)
            figures = measure_backfill(days, FAST, instance, server.pid, **settings)
            rows.append(replace(figures, what=what))
    print(table(rows, measure_script("loop", 31, FAST)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, nargs="+", default=[91, 911])
    parser.add_argument("--loop-days", type=int, default=31, help="days that the loop runs for")
    parser.add_argument("--part", choices=["fast", "slow", "storages", "page"], help="only this")
    parser.add_argument("--only", nargs=4, metavar=("WHAT", "DAYS", "API", "FOLDER"))
    options = parser.parse_args()
    if options.only:
        what, days, api, folder = options.only
        {"loop": notebook_loop, "floor": floor}[what](int(days), api, Path(folder))
        return
    # A shell makes its background processes ignore Ctrl-C, and they pass that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for part, pace in (("fast", FAST), ("slow", SLOW)):
        if options.part in (part, None):
            print_pace(options.days, pace, options.loop_days)
    if options.part in ("page", None):
        first, warm = measure_page(2000)
        print(f"\nThe page's status of 2,000 days x 3 assets: {first:.2f} s, then {warm:.2f} s.\n")
    if options.part in ("storages", None):
        print_storages(options.days[-1])


if __name__ == "__main__":
    main()
