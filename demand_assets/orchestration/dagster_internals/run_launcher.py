"""Dagster's run launcher, which also detects that a code server has died. `dagster.yaml` names it.

A code server fails the runs whose process died. If the server itself died, or was restarted at the
same address, its runs would stay `STARTED` and keep their places in the queue and the pools, as
Dagster's own launcher cannot check them. Run monitoring calls this one every 15 s.
"""

from typing import Any

import dagster as dg
import grpc
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest

ANSWER_SECONDS = 20


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Starts runs in the code server, and asks it whether they are alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        server: Any = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if server is None:  # started from the command line, or just finished
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        request = CanCancelExecutionRequest(run_id=run.run_id)
        try:
            answer = server.can_cancel_execution(request, timeout=ANSWER_SECONDS)
        except DagsterUserCodeUnreachableError as error:
            cause = error.__cause__
            if isinstance(cause, grpc.Call) and cause.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                # The server exists and is busy; dagster.yaml limits how long the run may take.
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            return CheckRunHealthResult(
                WorkerStatus.FAILED, f"The server that started the run is gone ({error})."
            )
        result: Any = dg.deserialize_value(answer)
        if result.can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "The run's process is gone.")
