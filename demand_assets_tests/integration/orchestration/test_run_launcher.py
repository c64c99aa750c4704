"""Runs whose process or code server died are failed, so that the sensors request their days again;
living runs are left alone."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from demand_assets.orchestration.dagster_internals.run_launcher import WatchedRunLauncher
from demand_assets.settings import PROJECT
from demand_assets_tests.support.servers import free_port

CODE = """
import os, pathlib, time
from dagster import job, op

@op(config_schema={"pid_file": str})
def sleep(context):
    file = pathlib.Path(context.op_config["pid_file"])
    file.with_suffix(".part").write_text(str(os.getpid()))
    file.with_suffix(".part").rename(file)
    time.sleep(300)

@job
def sleeping():
    sleep()
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[DagsterInstance]:
    """An instance as the project configures it."""
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, WatchedRunLauncher)
        yield instance


@pytest.fixture(scope="module")
def code_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real code server."""
    code, port = tmp_path_factory.mktemp("code") / "code.py", free_port()
    code.write_text(CODE)
    command = ["-m", "dagster", "api", "grpc", "-f", str(code), "-h", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen([sys.executable, *command], start_new_session=True)
    try:
        wait_for(lambda: server.poll() is not None or is_listening(port))
        yield port
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # the runs too
        server.wait()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@dataclass
class SleepingRun:
    """A run in a process of its own."""

    instance: DagsterInstance
    run_id: str
    pid: int

    @property
    def run(self) -> DagsterRun:
        run = self.instance.get_run_by_id(self.run_id)
        assert run is not None
        return run


@pytest.fixture
def sleeping_run(home: DagsterInstance, code_server: int, tmp_path: Path) -> SleepingRun:
    """A run that the launcher has started in the code server."""
    pid_file = tmp_path / "pid"
    target = GrpcServerTarget("127.0.0.1", code_server, None, "code")
    with WorkspaceProcessContext(home, target) as workspace:
        request = workspace.create_request_context()
        (location,) = request.code_locations
        (repository,) = location.get_repositories().values()
        job = repository.get_full_job("sleeping")
        run = create_run_for_test(
            home,
            job_name="sleeping",
            run_config={"ops": {"sleep": {"config": {"pid_file": str(pid_file)}}}},
            remote_job_origin=job.get_remote_origin(),
            job_code_origin=job.get_python_origin(),
        )
        home.launch_run(run.run_id, request)
    wait_for(pid_file.exists)
    started = SleepingRun(home, run.run_id, int(pid_file.read_text()))
    assert started.run.status == DagsterRunStatus.STARTED
    return started


def started(instance: DagsterInstance, **tags: str) -> DagsterRun:
    """A run on record that no process executes."""
    return create_run_for_test(instance, status=DagsterRunStatus.STARTED, tags=tags)


def monitor(instance: DagsterInstance, run_id: str) -> DagsterRunStatus:
    """The status of a run after one round of run monitoring."""
    record = instance.get_run_record_by_id(run_id)
    assert record is not None
    monitor_started_run(instance, None, record, logging.getLogger())  # type: ignore[arg-type]
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_living_run_is_left_alone(home: DagsterInstance, sleeping_run: SleepingRun) -> None:
    health = home.run_launcher.check_run_worker_health(sleeping_run.run)
    assert health.status == WorkerStatus.RUNNING
    assert monitor(home, sleeping_run.run_id) == DagsterRunStatus.STARTED


def test_a_run_whose_process_died_is_failed_by_its_server(sleeping_run: SleepingRun) -> None:
    """Dagster does this itself, without run monitoring."""
    os.kill(sleeping_run.pid, signal.SIGKILL)
    wait_for(lambda: sleeping_run.run.status == DagsterRunStatus.FAILURE)


def test_a_run_that_the_server_does_not_know_is_failed(
    home: DagsterInstance, code_server: int
) -> None:
    """The server was restarted at the same address, and the run died with the former one."""
    server = {"host": "127.0.0.1", "port": code_server}
    run = started(home, **{GRPC_INFO_TAG: json.dumps(server)})
    assert monitor(home, run.run_id) == DagsterRunStatus.FAILURE
    assert any("process is gone" in entry.message for entry in home.all_logs(run.run_id))


def test_a_run_whose_server_is_gone_is_failed(home: DagsterInstance, tmp_path: Path) -> None:
    gone: dict[str, Any] = {"host": "localhost", "socket": str(tmp_path / "gone")}
    run = started(home, **{GRPC_INFO_TAG: json.dumps(gone)})
    assert monitor(home, run.run_id) == DagsterRunStatus.FAILURE
    assert any("server" in e.message and "is gone" in e.message for e in home.all_logs(run.run_id))


def test_a_busy_server_is_not_taken_for_a_dead_one(
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
