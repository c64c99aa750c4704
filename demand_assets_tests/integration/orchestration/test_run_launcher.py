"""A run whose process is gone is found out, and its days are free to be asked for again."""

import json
import logging
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from demand_assets.orchestration.dagster_internals.run_launcher import WatchedRunLauncher
from demand_assets.settings import PROJECT


@pytest.fixture
def home(tmp_path: Path) -> Iterator[DagsterInstance]:
    """An instance as the project configures it."""
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, WatchedRunLauncher)
        yield instance


def started(instance: DagsterInstance, **tags: str) -> DagsterRun:
    return create_run_for_test(instance, status=DagsterRunStatus.STARTED, tags=tags)


def test_a_run_whose_server_is_gone_is_marked_as_failed(
    home: DagsterInstance, tmp_path: Path
) -> None:
    gone: dict[str, Any] = {"host": "localhost", "socket": str(tmp_path / "gone")}
    run = started(home, **{GRPC_INFO_TAG: json.dumps(gone)})
    record = home.get_run_record_by_id(run.run_id)
    assert record is not None
    monitor_started_run(home, None, record, logging.getLogger())  # type: ignore[arg-type]
    ended = home.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status == DagsterRunStatus.FAILURE
    assert any("is gone" in entry.message for entry in home.all_logs(run.run_id))


def test_a_server_that_is_busy_is_not_taken_for_a_dead_one(
    home: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "demand_assets.orchestration.dagster_internals.run_launcher.ANSWER_SECONDS", 1
    )
    with socket.create_server(("127.0.0.1", 0)) as busy:
        server = {"host": "127.0.0.1", "port": busy.getsockname()[1]}
        run = started(home, **{GRPC_INFO_TAG: json.dumps(server)})
        health = home.run_launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.RUNNING


def test_a_run_from_the_command_line_is_left_alone(home: DagsterInstance) -> None:
    health = home.run_launcher.check_run_worker_health(started(home))
    assert health.status == WorkerStatus.RUNNING
