"""The event log with open connections: the same files and results as with Dagster's own class."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    OpExecutionContext,
    job,
    op,
)
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.test_utils import create_run_for_test
from sqlalchemy import text

from demand_assets.orchestration.dagster_internals.event_log import (
    MOST_OPEN,
    PooledSqliteEventLogStorage,
)
from demand_assets.orchestration.dagster_internals.run_launcher import WatchedRunLauncher
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
def store_two_days(context: OpExecutionContext) -> None:
    for day in ("2023-05-10", "2023-05-11"):
        context.log_event(AssetMaterialization(KEY, partition=day))
        check = AssetCheckEvaluation(asset_key=KEY, check_name="complete", passed=True)
        context.log_event(check)  # type: ignore[arg-type]  # supported, but not annotated


@job
def two_days() -> None:
    store_two_days()


def events_of_runs(instance: DagsterInstance) -> list[tuple[str, list[str]]]:
    """All runs, each with its events in order."""
    return [
        (run.run_id, [entry.message for entry in instance.all_logs(run.run_id)])
        for run in instance.get_runs()
    ]


@pytest.mark.parametrize("first", [True, False])
def test_a_folder_works_with_dagsters_class_and_with_ours(tmp_path: Path, first: bool) -> None:
    with opened(tmp_path / "home", pooled=first) as instance:
        assert two_days.execute_in_process(instance=instance).success
        written = events_of_runs(instance)
    with opened(tmp_path / "home", pooled=not first) as instance:
        assert events_of_runs(instance) == written
        assert instance.get_materialized_partitions(KEY) == {"2023-05-10", "2023-05-11"}
        assert two_days.execute_in_process(instance=instance).success
        assert len(events_of_runs(instance)) == 2


def test_only_databases_of_the_newest_runs_stay_open(tmp_path: Path) -> None:
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
        assert all(len(events) > 5 for _, events in events_of_runs(instance))
    assert open_databases() <= before


def test_threads_can_write_at_the_same_time(tmp_path: Path) -> None:
    with opened(tmp_path / "home", pooled=True) as instance, ThreadPoolExecutor(8) as pool:
        events = [AssetMaterialization(KEY, partition=f"2023-05-{n:02}") for n in range(1, 32)]
        list(pool.map(instance.report_runless_asset_event, events))
        assert len(instance.get_materialized_partitions(KEY)) == 31
        assert len(instance.fetch_materializations(KEY, limit=100).records) == 31


def test_events_can_be_stored_after_a_wipe(tmp_path: Path) -> None:
    with opened(tmp_path / "home", pooled=True) as instance:
        assert two_days.execute_in_process(instance=instance).success
        instance.wipe()
        assert instance.get_materialized_partitions(KEY) == set()
        assert two_days.execute_in_process(instance=instance).success
        assert len(instance.fetch_materializations(KEY, limit=100).records) == 2


def test_a_deleted_run_leaves_no_file_no_event_and_no_check_result(tmp_path: Path) -> None:
    with opened(tmp_path / "home", pooled=True) as instance:
        storage = instance.event_log_storage
        kept, deleted = (two_days.execute_in_process(instance=instance).run_id for _ in range(2))
        storage.delete_events(deleted)
        files = {file.name for file in (tmp_path / "home/history/runs").iterdir()}
        assert f"{kept}.db" in files
        assert not [name for name in files if name.startswith(deleted)]
        materializations = instance.fetch_materializations(KEY, limit=100).records
        checks = storage.get_asset_check_execution_history(AssetCheckKey(KEY, "complete"), 100)
        assert {record.run_id for record in materializations} == {kept}
        assert [check.run_id for check in checks] == [kept]


def test_statements_do_not_wait_for_the_disk(tmp_path: Path) -> None:
    with opened(tmp_path / "home", pooled=True) as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, PooledSqliteEventLogStorage)
        run_id = two_days.execute_in_process(instance=instance).run_id
        for connect in (storage.index_connection(), storage.run_connection(run_id)):
            with connect as connection:
                assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
                assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"


def test_an_event_is_stored_before_the_run_goes_on(tmp_path: Path) -> None:
    """A killed run loses no event that its step has reported: none waits in memory."""
    home = tmp_path / "home"
    with opened(home, pooled=True) as instance:
        instance.report_runless_asset_event(AssetMaterialization(KEY, partition="2023-05-09"))
        subprocess.run([sys.executable, "-c", KILLED_RUN, str(home)], check=False)
        assert instance.get_materialized_partitions(KEY) == {"2023-05-09", "2023-05-10"}


KILLED_RUN = """
import os, signal, sys
from dagster import AssetKey, AssetMaterialization, DagsterInstance, job, op

@op
def store_a_day(context):
    context.log_event(AssetMaterialization(AssetKey("stored"), partition="2023-05-10"))
    os.kill(os.getpid(), signal.SIGKILL)

@job
def killed():
    store_a_day()

with DagsterInstance.from_config(sys.argv[1]) as instance:
    killed.execute_in_process(instance=instance)
"""


OLD_CONFIG = """
event_log_storage:
  module: demand_assets.event_log
  class: PooledSqliteEventLogStorage
run_launcher:
  module: demand_assets.run_launcher
  class: WatchedRunLauncher
"""


def test_a_dagster_yaml_of_the_first_version_loads(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(OLD_CONFIG)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert two_days.execute_in_process(instance=instance).success
        assert isinstance(instance.event_log_storage, PooledSqliteEventLogStorage)
        assert isinstance(instance.run_launcher, WatchedRunLauncher)


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


def test_another_process_sees_new_events_of_a_run(tmp_path: Path) -> None:
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
