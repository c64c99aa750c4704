"""A machine on which LightGBM cannot be loaded: all but its model works, and it is said why."""

import os
import subprocess
import sys
from pathlib import Path

from demand_assets.settings import PROJECT

AS_WITHOUT_LIBGOMP = """raise OSError(
    "libgomp.so.1: cannot open shared object file: No such file or directory")"""

USE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import time_machine
from dagster import DagsterInstance, build_sensor_context
from demand_assets.orchestration.forecast_sensor import forecast_sensor
from demand_assets.simulator import Simulator
from demand_assets_tests.support.project import Project, failure_text

noon = datetime(2023, 3, 20, 13, tzinfo=UTC)
with (
    time_machine.travel(noon, tick=False),
    Simulator(clock=lambda: noon) as api,
    DagsterInstance.ephemeral() as instance,
):
    project = Project(Path(sys.argv[1]), api.url, instance)
    assert project.materialize("2023-03-01", "2023-03-20").success
    job = project.definitions.resolve_job_def("forecast_job")
    for day in ("2023-03-20", "2023-03-21"):
        made = job.execute_in_process(instance=instance, partition_key=day)
        assert made.success
    (event,) = made.asset_materializations_for_node("demand_forecast")
    print(event.metadata["made_by"].value, "|", event.metadata["why"].value)
    context = build_sensor_context(
        instance=instance, definitions=project.definitions, resources={"settings": project.settings}
    )
    print("sensor:", forecast_sensor(context).skip_reason.skip_message)
    job = project.definitions.resolve_job_def("forecast_model_job")
    failed = job.execute_in_process(
        instance=instance, partition_key="2023-03-01", raise_on_error=False
    )
    print("failed:", failure_text(failed))
"""


def test_without_lightgbm_the_forecast_is_weekly_naive_and_names_the_package(
    tmp_path: Path,
) -> None:
    (tmp_path / "lightgbm.py").write_text(AS_WITHOUT_LIBGOMP)
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path / "data")],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    package = "libomp" if sys.platform == "darwin" else "libgomp1"
    made, sensor, failed = done.stdout.splitlines()
    assert made.startswith("weekly-naive | LightGBM cannot be loaded (libgomp.so.1:")
    assert package in made and package in sensor and package in failed
