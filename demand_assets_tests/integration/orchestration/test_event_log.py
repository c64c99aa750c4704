"""Dagster's event log, kept open: the same files and the same answers as Dagster's own class."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterInstance, job, op
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.test_utils import create_run_for_test

from demand_assets.orchestration.dagster_internals.event_log import (
    MOST_OPEN,
    PooledSqliteEventLogStorage,
)
from demand_assets.settings import PROJECT

KEY = AssetKey("stored")


@contextmanager
def opened(home: Path, pooled: bool) -> Iterator[DagsterInstance]:
    """The instance of a folder, with the project's event log or with Dagster's."""
    home.mkdir(exist_ok=True)
    if pooled:
        shutil.copy(PROJECT / "dagster.yaml", home)
    else:
        (home / "dagster.yaml").unlink(missing_ok=True)
    with DagsterInstance.from_config(str(home)) as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, SqliteEventLogStorage)
        assert isinstance(storage, PooledSqliteEventLogStorage) == pooled
        yield instance


@op
def store_two_days(context) -> None:
    for day in ("2023-05-10", "2023-05-11"):
        context.log_event(AssetMaterialization(KEY, partition=day))


@job
def two_days() -> None:
    store_two_days()


def told(instance: DagsterInstance) -> list[tuple[str, list[str]]]:
    """All runs, each with its events in order."""
    return [
        (run.run_id, [entry.message for entry in instance.all_logs(run.run_id)])
        for run in instance.get_runs()
    ]


@pytest.mark.parametrize("first", [True, False])
def test_a_folder_can_be_opened_with_dagsters_class_and_with_ours(
    tmp_path: Path, first: bool
) -> None:
    with opened(tmp_path / "home", pooled=first) as instance:
        assert two_days.execute_in_process(instance=instance).success
        written = told(instance)
    with opened(tmp_path / "home", pooled=not first) as instance:
        assert told(instance) == written
        assert instance.get_materialized_partitions(KEY) == {"2023-05-10", "2023-05-11"}
        assert two_days.execute_in_process(instance=instance).success
        assert len(told(instance)) == 2


def test_no_more_databases_stay_open_than_the_newest_runs(tmp_path: Path) -> None:
    def open_databases() -> int:
        links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return len({str(link.readlink()) for link in links if str(link.readlink()).endswith(".db")})

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc to count open files in")
    with opened(tmp_path / "home", pooled=True) as instance:
        before = open_databases()
        for _ in range(MOST_OPEN + 4):
            assert two_days.execute_in_process(instance=instance).success
        assert open_databases() - before <= MOST_OPEN
        assert all(len(events) > 5 for _, events in told(instance))
    assert open_databases() <= before


def test_threads_write_side_by_side(tmp_path: Path) -> None:
    with opened(tmp_path / "home", pooled=True) as instance, ThreadPoolExecutor(8) as pool:
        events = [AssetMaterialization(KEY, partition=f"2023-05-{n:02}") for n in range(1, 32)]
        list(pool.map(instance.report_runless_asset_event, events))
        assert len(instance.get_materialized_partitions(KEY)) == 31
        assert len(instance.fetch_materializations(KEY, limit=100).records) == 31


def test_what_was_wiped_is_gone_and_the_log_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path / "home", pooled=True) as instance:
        assert two_days.execute_in_process(instance=instance).success
        instance.wipe()
        assert instance.get_materialized_partitions(KEY) == set()
        assert two_days.execute_in_process(instance=instance).success
        assert len(instance.fetch_materializations(KEY, limit=100).records) == 2


WATCHER = """
import sys, time
from dagster import DagsterInstance

with DagsterInstance.from_config(sys.argv[1]) as instance:
    storage = instance.event_log_storage
    storage.get_logs_for_run(sys.argv[2])
    storage.watch(sys.argv[2], None, lambda entry, cursor: print(entry.message, flush=True))
    print("watching", flush=True)
    time.sleep(60)
"""


def test_another_process_sees_a_runs_events_as_they_come(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with opened(home, pooled=True) as instance:
        run = create_run_for_test(instance, job_name="two_days")
        instance.report_engine_event("first", run)
        watcher = subprocess.Popen(
            [sys.executable, "-c", WATCHER, str(home), run.run_id],
            stdout=subprocess.PIPE,
            text=True,
        )
        timeout = threading.Timer(30, watcher.kill)
        timeout.start()
        try:
            assert watcher.stdout
            assert watcher.stdout.readline() == "watching\n"
            for message in ("second", "third"):
                instance.report_engine_event(message, run)
                while (seen := watcher.stdout.readline().strip()) == "first":
                    pass
                assert seen == message
        finally:
            timeout.cancel()
            watcher.kill()
            watcher.wait()
