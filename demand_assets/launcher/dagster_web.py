"""Dagster's web server as the launcher sees it: its GraphQL API on this machine."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import requests

UP_SECONDS = 1.0
PARTITION = "dagster/partition"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
LOCATION, REPOSITORY = "demand_assets", "__repository__"


class DagsterWebError(Exception):
    """The web server refuses a request."""


class NoAnswerError(DagsterWebError):
    """The web server does not answer: it is starting, busy or ending."""


@dataclass
class DagsterWeb:
    """The web server at a port of this machine."""

    port: int
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        self.session.trust_env = False  # a proxy cannot reach this machine

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"

    def wait_until_up(self) -> None:
        """Return once it answers and has loaded the project."""
        while not self._read("{ assetNodes { id } }")["assetNodes"]:
            time.sleep(UP_SECONDS)

    def _read(self, query: str, **variables: Any) -> Any:
        """The data of a query, once the server answers."""
        while True:
            try:
                return self.ask(query, **variables)
            except NoAnswerError:
                time.sleep(UP_SECONDS)

    def ask(self, query: str, **variables: Any) -> Any:
        """The data that a query or a mutation returns.

        Raises:
            NoAnswerError: there is no answer.
            DagsterWebError: it is an error.
        """
        try:
            answer = self.session.post(
                f"http://127.0.0.1:{self.port}/graphql",
                json={"query": query, "variables": variables},
                timeout=30,
            ).json()
        except (requests.RequestException, ValueError) as error:
            raise NoAnswerError(f"{self.address} does not answer: {error}") from error
        if "errors" in answer:
            raise DagsterWebError(f"{self.address} answered {answer['errors']}")
        return answer["data"]

    def materialized(self, asset: str, keys: Iterable[date]) -> list[date]:
        """Those of the partitions that are materialized."""
        answer = self._read(
            """query($path: [String!]!) { assetNodeOrError(assetKey: {path: $path}) {
                ... on AssetNode { assetPartitionStatuses { ... on TimePartitionStatuses {
                ranges { status startKey endKey } } } } } }""",
            path=[asset],
        )
        ranges = [
            (date.fromisoformat(found["startKey"]), date.fromisoformat(found["endKey"]))
            for found in answer["assetNodeOrError"]["assetPartitionStatuses"]["ranges"]
            if found["status"] == "MATERIALIZED"
        ]
        return [key for key in keys if any(first <= key <= last for first, last in ranges)]

    def launch(self, job: str, first: date, last: date) -> str:
        """Launch a run of a job for a range of partitions; the id of the run.

        Raises:
            DagsterWebError: it is refused.
        """
        tags = {RANGE_START: first, RANGE_END: last} if first != last else {PARTITION: first}
        answer = self.ask(
            """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
                __typename ... on LaunchRunSuccess { run { runId } }
                ... on PythonError { message } } }""",
            p={
                "selector": {
                    "repositoryLocationName": LOCATION,
                    "repositoryName": REPOSITORY,
                    "jobName": job,
                },
                "runConfigData": {},
                "executionMetadata": {
                    "tags": [{"key": key, "value": str(tags[key])} for key in tags]
                },
            },
        )["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterWebError(f"{job} was not launched: {answer}")
        return str(answer["run"]["runId"])

    def outcome(self, run_id: str) -> str:
        """How a run has ended: SUCCESS, FAILURE or CANCELED; empty while it has not."""
        query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        status = self._read(query, id=run_id)["runOrError"].get("status")
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else ""
