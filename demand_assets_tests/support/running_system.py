"""The system as a person has it: a `make` command started, the web page asked and clicked."""

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
from dagster._core.storage.tags import PARTITION_NAME_TAG

from demand_assets.demand.days import days_between
from demand_assets.settings import PROJECT
from demand_assets_tests.support.project import ASSETS
from demand_assets_tests.support.servers import free_port

T = TypeVar("T")

NO_SETTINGS = dict.fromkeys(
    re.findall(r"^#([A-Z0-9_]+)=", (PROJECT / ".env.example").read_text(), re.M), ""
)
"""An empty setting is unset, and wins over the `.env` of a developer."""


class Page:
    """What the web page of a running system asks and says."""

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
        """Whether it is there, and shows the project."""
        try:
            return bool(self.ask("{ assetNodes { id } }")["assetNodes"])
        except requests.ConnectionError:
            return False

    def green(self, asset: str = ASSETS[-1]) -> set[date]:
        """The days that are materialized, of the points unless told otherwise."""
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
        """Select the days and the assets, and click on 'Launch backfill'; its id."""
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
        """Click on 'Materialize' of an asset, of a day if it has days."""
        tags = [{"key": PARTITION_NAME_TAG, "value": day.isoformat()}] if day else []
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
        """Click on 'Cancel'."""
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
    """A command in a process group of its own, interrupted at the end as Ctrl-C does."""
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
                pass  # the test has killed it
            finally:
                # Whatever is left would hold ports and files of what comes after.
                kill(process)


def kill(process: subprocess.Popen) -> None:
    """End a command and all that it started as a power cut would."""
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
