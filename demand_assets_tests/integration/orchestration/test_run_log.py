"""What a run of `raw_ree_json` writes to its log and its files when the API fails."""

from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance, ExecuteInProcessResult, materialize

from demand_assets.orchestration.assets.ingest import build_ingest_assets
from demand_assets.orchestration.io_managers import JSONAnswerIOManager
from demand_assets.orchestration.partitions import daily_partitions
from demand_assets.orchestration.resources import REDataResource
from demand_assets.settings import PROJECT, Settings
from demand_assets.simulator import Fault, Simulator

DAY = "2025-03-10"


def fetch(
    api: Simulator, folder: Path, instance: DagsterInstance, retry_seconds: float = 20
) -> ExecuteInProcessResult:
    settings = Settings()
    return materialize(
        build_ingest_assets(daily_partitions(settings.start_date), settings)[:1],
        partition_key=DAY,
        instance=instance,
        resources={
            "redata": REDataResource(base_url=api.url, retry_seconds=retry_seconds),
            "answer_files": JSONAnswerIOManager(base_dir=str(folder)),
        },
        raise_on_error=False,
    )


@pytest.mark.usefixtures("pauses")
def test_each_retry_is_in_the_log_of_the_run(synthetic_api: Simulator, tmp_path: Path) -> None:
    config = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    synthetic_api.faults["*"] = f"{Fault.ERROR_503}*1"
    with DagsterInstance.local_temp(str(tmp_path), overrides=config) as instance:
        result = fetch(synthetic_api, tmp_path / "data", instance)
        assert result.success
        entries = [
            (entry.step_key, entry.user_message)
            for entry in instance.all_logs(result.run_id)
            if not entry.is_dagster_event
        ]
    ((step, line),) = entries
    assert step == "raw_ree_json"
    assert line.startswith(f"Attempt 1 failed: {DAY}: REData answered 503 'The service is busy.'.")


@pytest.mark.parametrize(
    "fault", [Fault.HTML, Fault.CUT_SHORT, Fault.ERROR_IN_200, Fault.NO_DATA, Fault.NAN]
)
def test_a_failure_that_looks_like_an_answer_is_never_stored(
    synthetic_api: Simulator, fault: Fault, tmp_path: Path, instance: DagsterInstance
) -> None:
    synthetic_api.faults["*"] = fault
    data = tmp_path / "data"
    assert not fetch(synthetic_api, data, instance, retry_seconds=0.2).success
    assert list(data.rglob("*")) == []
