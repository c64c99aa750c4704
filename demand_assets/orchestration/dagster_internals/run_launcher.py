"""Dagster's run launcher, which also tells whether a run's process lives. `dagster.yaml` names it.

Dagster's own launcher cannot tell, so that a run which a power cut or a full memory ended stays
'started', with its places in the queue and the pools. Run monitoring asks this one every 15 s.
"""

import grpc
from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

ANSWER_SECONDS = 20


class WatchedRunLauncher(DefaultRunLauncher):
    """Starts runs in the code server, and asks it after them."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        server = self._get_grpc_client_for_termination(run.run_id)
        if server is None:  # started from the command line, or over a moment ago
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            answer = deserialize_value(
                server.can_cancel_execution(
                    CanCancelExecutionRequest(run_id=run.run_id), timeout=ANSWER_SECONDS
                ),
                CanCancelExecutionResult,
            )
        except DagsterUserCodeUnreachableError as error:
            cause = error.__cause__
            if isinstance(cause, grpc.Call) and cause.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                # It is there, and busy; the run has its own longest time in dagster.yaml.
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            return CheckRunHealthResult(
                WorkerStatus.FAILED, f"The server that started the run is gone ({error})."
            )
        if answer.can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "The run's process is gone.")
