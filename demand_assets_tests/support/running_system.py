"""The whole system: a `make` command is started, and its web page is used through GraphQL."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import requests

from demand_assets.demand.days import days_between
from demand_assets.orchestration import tags as run_tags
from demand_assets.settings import PROJECT
from demand_assets_tests.support.project import ASSETS
from demand_assets_tests.support.servers import free_port

T = TypeVar("T")

NO_SETTINGS = dict.fromkeys(
    re.findall(r"^#([A-Z0-9_]+)=", (PROJECT / ".env.example").read_text(), re.M), ""
)
"""An empty setting is unset, and wins over the `.env` of a developer."""


class Page:
    """The web page of a running system, through its GraphQL API."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"

    def ask(self, query: str, **variables: Any) -> Any:
        answer = requests.post(
            f"{self.address}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def is_up(self) -> bool:
        """Whether it answers and shows the project."""
        try:
            return bool(self.ask("{ assetNodes { id } }")["assetNodes"])
        except requests.ConnectionError:
            return False

    def green(self, asset: str = ASSETS[-1]) -> set[date]:
        """The days that are materialized, by default those of the points."""
        ranges = self.ask(
            """query($path: [String!]!) { assetNodeOrError(assetKey: {path: $path}) {
                ... on AssetNode { assetPartitionStatuses { ... on TimePartitionStatuses {
                ranges { status startKey endKey } } } } } }""",
            path=[asset],
        )["assetNodeOrError"]["assetPartitionStatuses"]["ranges"]
        return {
            day
            for run in ranges
            if run["status"] == "MATERIALIZED"
            for day in days_between(
                date.fromisoformat(run["startKey"]), date.fromisoformat(run["endKey"])
            )
        }

    def launch_backfill(self, days: Iterable[date], assets: Sequence[str] = ASSETS) -> str:
        """Launch a backfill of the days and assets, and return its id."""
        launched = self.ask(
            """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
                __typename ... on LaunchBackfillSuccess { backfillId }
                ... on PythonError { message } } }""",
            p={
                "partitionNames": [day.isoformat() for day in days],
                "assetSelection": [{"path": [asset]} for asset in assets],
            },
        )["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return launched["backfillId"]

    def materialize(self, asset: str, day: date | None = None) -> None:
        """Materialize an asset, or one day of it."""
        tags = [{"key": run_tags.PARTITION, "value": day.isoformat()}] if day else []
        launched = self.ask(
            """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) {
                __typename ... on PythonError { message } } }""",
            p={
                "mode": "default",
                "executionMetadata": {"tags": tags},
                "selector": {
                    "repositoryLocationName": "demand_assets",
                    "repositoryName": "__repository__",
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": [asset]}],
                    "assetCheckSelection": [],
                },
            },
        )["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched

    def cancel_backfill(self, backfill: str) -> None:
        """Cancel a backfill."""
        canceled = self.ask(
            """mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) {
                __typename ... on PythonError { message } } }""",
            id=backfill,
        )["cancelPartitionBackfill"]
        assert canceled["__typename"] == "CancelBackfillSuccess", canceled

    def backfill_status(self, backfill: str) -> str:
        """Such as `REQUESTED` or `COMPLETED_SUCCESS`."""
        return self.ask(
            """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
                ... on PartitionBackfill { status } } }""",
            id=backfill,
        )["partitionBackfillOrError"]["status"]

    def runs_under_way(self) -> list[str]:
        query = """{ runsOrError(filter: {statuses: [QUEUED, STARTING, STARTED, CANCELING]}) {
            ... on Runs { results { runId } } } }"""
        return [run["runId"] for run in self.ask(query)["runsOrError"]["results"]]


@contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """A command in its own process group, interrupted at the end as by Ctrl-C."""
    with log.open("a") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **NO_SETTINGS, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(60)
            except ProcessLookupError:
                pass  # the test killed it
            finally:
                # Processes that are left would block ports and files of the next test.
                kill(process)


def kill(process: subprocess.Popen) -> None:
    """Kill a command and all that it started, as in a power cut."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def wait_for(
    what: Callable[[], T | None], seconds: float, process: subprocess.Popen, every: float = 0.5
) -> T:
    """The first result that is not None or False."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        assert process.poll() is None, "the command has ended"
        if result := what():
            return result
        sleep(every)
    raise AssertionError(f"not within {seconds:g} s")
