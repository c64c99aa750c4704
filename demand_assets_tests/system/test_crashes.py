"""Crashes: killed runs, concurrent runs and a full disk leave complete files, and are repaired."""

import gzip
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from dagster import AssetKey, DagsterInstance, RunsFilter

from demand_assets.demand.days import days_between
from demand_assets.grid import TIME_ZONE
from demand_assets.orchestration.ledger_reader import UNDER_WAY, read_ledger
from demand_assets.orchestration.planning.ledger import Stored
from demand_assets.settings import PROJECT, Settings
from demand_assets.simulator import Simulator
from demand_assets_tests.support.project import ASSETS, Project, failure_text
from demand_assets_tests.support.running_system import Page, running, wait_for
from demand_assets_tests.support.servers import InfluxDB1
from demand_assets_tests.support.stores import stored

KILLS = 12  # into each store
DAYS = days_between(date(2023, 3, 20), date(2023, 4, 8))

# New processes are forked from one that has imported all modules and opened no file.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["demand_assets_tests.support.project", "demand_assets.definitions"]
)


@dataclass(frozen=True)
class Place:
    """A project on disk that several processes use."""

    folder: Path
    settings: Settings

    @contextmanager
    def opened(self) -> Iterator[Project]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        if not (home / "dagster.yaml").is_symlink():
            (home / "dagster.yaml").symlink_to(PROJECT / "dagster.yaml")
        with DagsterInstance.from_config(str(home)) as instance:
            api = self.settings.redata_base_url
            yield Project(self.folder / "data", api, instance, self.settings)

    def start_run(self, days: list[date]) -> BaseProcess:
        """A run in a process of its own."""
        run = PROCESSES.Process(target=_materialize, args=(self, days), daemon=True)
        run.start()
        return run


def _materialize(place: Place, days: list[date]) -> None:
    os.environ["INFLUXDB_V2_TOKEN"] = "any"
    with place.opened() as project:
        result = project.materialize(str(days[0]), str(days[-1]))
        raise SystemExit(0 if result.success else 1)


@pytest.fixture(params=["duckdb", "influxdb1"])
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    synthetic_api: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", "any")
    settings = Settings(start_date=DAYS[0], redata_base_url=synthetic_api.url)
    if request.param == "influxdb1":
        server: InfluxDB1 = request.getfixturevalue("influxdb1")
        settings = replace(
            settings,
            influxdb_url=server.url,
            influxdb_org="grid",
            influxdb_bucket=server.create_database(),
        )
    made = Place(tmp_path, settings)
    with made.opened():
        return made  # Dagster fails if several processes create its tables at once


@pytest.fixture
def clean(tmp_path: Path, synthetic_api: Simulator, instance: DagsterInstance) -> Project:
    """All days, loaded without faults."""
    project = Project(tmp_path / "clean", synthetic_api.url, instance, Settings(start_date=DAYS[0]))
    assert project.materialize(str(DAYS[0]), str(DAYS[-1])).success
    return project


def hours_of(place: Place, request: pytest.FixtureRequest) -> pd.DataFrame:
    if bucket := place.settings.influxdb_url and place.settings.influxdb_bucket:
        return stored(request.getfixturevalue("influxdb1"), bucket)
    with place.opened() as project:
        return project.stored()


def content(file: Path) -> object:
    """The content of a file; of an answer only its samples, as its header depends on the span."""
    if file.suffix == ".parquet":
        return file.read_bytes()
    answer = json.loads(gzip.decompress(file.read_bytes()))
    return {series["id"]: series["attributes"]["values"] for series in answer["included"]}


def assert_nothing_half(place: Place, clean: Project, request: pytest.FixtureRequest) -> None:
    """Each file and each stored point equals that of a clean load."""
    data = place.folder / "data"
    files = [p for p in data.rglob("*") if p.suffix in (".gz", ".parquet") and p.name[0] != "."]
    for file in files:
        assert content(file) == content(clean.folder / file.relative_to(data))
    if place.settings.influxdb_url or (data / "demand.duckdb").exists():
        try:
            found = hours_of(place, request)
        except duckdb.CatalogException:  # killed after the file and before the table was created
            return
        expected = clean.stored().loc[found.index]
        pd.testing.assert_frame_equal(found, expected, check_index_type=False)


def bury(place: Place) -> None:
    """Does what run monitoring does with runs whose process died."""
    with place.opened() as project:
        instance = project.instance
        for run in instance.get_runs(RunsFilter(statuses=UNDER_WAY)):
            instance.report_run_failed(run, "killed")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def test_runs_that_are_killed_leave_nothing_in_part(
    place: Place, clean: Project, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(20)
    api: Simulator = request.getfixturevalue("synthetic_api")

    def at_work(days: list[date]) -> BaseProcess:
        """A run that has just requested the API."""
        asked = len(api.requests)
        run = place.start_run(days)
        while len(api.requests) == asked and run.is_alive():
            time.sleep(0.01)
        return run

    whole = at_work(DAYS[:1])  # to measure how long a run takes on this machine
    started = time.monotonic()
    whole.join(120)
    shortest = time.monotonic() - started
    killed = 0
    for _ in range(3 * KILLS):
        first = chance.randrange(len(DAYS))
        run = at_work(DAYS[first : first + chance.randrange(1, len(DAYS))])
        run.join(chance.uniform(0.0, shortest))
        run.kill()
        run.join()
        killed += run.exitcode == -signal.SIGKILL
        bury(place)
        assert_nothing_half(place, clean, request)
        if killed == KILLS:
            break
    assert killed == KILLS
    healing = place.start_run(DAYS)
    healing.join(120)
    assert healing.exitcode == 0
    pd.testing.assert_frame_equal(hours_of(place, request), clean.stored(), check_index_type=False)


def test_concurrent_overlapping_ranges_store_what_one_would(
    place: Place, clean: Project, request: pytest.FixtureRequest
) -> None:
    runs = [place.start_run(DAYS[:14]), place.start_run(DAYS[6:]), place.start_run(DAYS[9:10])]
    for run in runs:
        run.join(120)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert_nothing_half(place, clean, request)
    assert len(hours_of(place, request)) == len(clean.stored())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_reported_and_stored_days_stay(
    small_disk: Path, clean: Project, synthetic_api: Simulator, instance: DagsterInstance
) -> None:
    project = Project(small_disk, synthetic_api.url, instance)
    assert project.materialize(str(DAYS[0])).success
    before = {name: (small_disk / name).read_bytes() for name in project.files()}
    failed = project.materialize("2022-01-01", "2022-04-30")
    assert not failed.success
    assert "No space left on device" in failure_text(failed)
    for name, content in before.items():
        assert name.endswith(".duckdb") or (small_disk / name).read_bytes() == content
    assert len(project.stored()) == 24
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert project.materialize(str(DAYS[0]), str(DAYS[-1])).success
    pd.testing.assert_frame_equal(project.stored().loc[clean.stored().index], clean.stored())
    assert not [name for name in project.files() if "unfinished" in name]


def test_folders_that_were_moved_keep_working(tmp_path: Path, synthetic_api: Simulator) -> None:
    """An instance and its data, copied to another path: the ledger, the files and the store."""
    here = Place(tmp_path / "here", Settings(start_date=DAYS[0], redata_base_url=synthetic_api.url))
    here.folder.mkdir()
    with here.opened() as project:
        assert project.materialize(str(DAYS[0]), str(DAYS[9])).success
        before, stored = ledger_of(project), project.stored()
    there = replace(here, folder=tmp_path / "there")
    shutil.copytree(here.folder, there.folder, symlinks=True)
    shutil.rmtree(here.folder)
    with there.opened() as project:
        assert ledger_of(project) == before
        pd.testing.assert_frame_equal(project.stored(), stored)
        # It reads the copied files and does not request the API.
        asked = len(synthetic_api.requests)
        again = project.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            partition_key=str(DAYS[3]),
            asset_selection=[AssetKey(name) for name in ASSETS[1:]],
            instance=project.instance,
        )
        assert again.success and len(synthetic_api.requests) == asked
        assert project.materialize(str(DAYS[10])).success
        assert len(project.stored()) == len(stored) + 24


def ledger_of(project: Project) -> dict[date, Stored]:
    return read_ledger(project.instance, project.settings, datetime(2026, 1, 15, tzinfo=UTC)).stored


def test_system_ends_if_a_part_is_killed_and_the_next_start_continues(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    page = Page()
    for victim in ("dagster_webserver", "dagster._daemon", None):
        with (
            Simulator() as api,
            running(
                ["make", "run", f"PORT={page.port}"],
                tmp_path / "log",
                DAGSTER_HOME=str(home),
                DEMAND_DATA_DIR=str(tmp_path / "data"),
                DEMAND_REFRESH_MINUTES="0.01",
                REDATA_BASE_URL=api.url,
            ) as process,
        ):
            wait_for(page.is_up, 180, process)
            # It is requested again after each start, and no earlier run is still under way.
            wait_for(api.requests.__len__, 120, process)
            wait_for(lambda: not page.runs_under_way(), 60, process)
            kill = ["pkill", "-9", "-g", str(process.pid), "-f"]
            if victim:
                subprocess.run([*kill, victim], check=True)
                process.wait(60)
                continue
            # Only a run's process is killed: the system detects that by itself.
            api.latency = 60
            api.requests.clear()
            page.materialize("raw_ree_json", datetime.now(TIME_ZONE).date())
            wait_for(api.requests.__len__, 60, process, every=0.1)
            subprocess.run([*kill, "spawn_main.*pipe_handle"], check=True)
            api.latency = 0
            wait_for(lambda: not page.runs_under_way(), 55, process)
