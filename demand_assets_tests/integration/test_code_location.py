"""The code location: partitions, no secret in its definitions, and that Dagster's tools find it."""

import json
import os
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

import pytest
import time_machine
from dagster import DailyPartitionsDefinition

from demand_assets.definitions import build_definitions
from demand_assets.demand.days import days_between
from demand_assets.settings import PROJECT, Settings
from demand_assets_tests.unit.test_settings import INFLUXDB


def test_token_is_not_in_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", INFLUXDB["INFLUXDB_V2_TOKEN"])
    definitions = build_definitions(Settings.from_environment(INFLUXDB))
    assert INFLUXDB["INFLUXDB_V2_TOKEN"] not in repr(definitions)
    assert INFLUXDB["INFLUXDB_V2_TOKEN"] not in json.dumps(
        [str(r) for r in (definitions.resources or {}).values()]
    )


@pytest.mark.parametrize(
    ("now", "today"),
    [
        ("2023-05-10T12:00+02:00", "2023-05-10"),
        ("2023-05-10T00:00+02:00", "2023-05-10"),
        ("2023-05-10T23:59+02:00", "2023-05-10"),
        ("2023-10-29T23:59+01:00", "2023-10-29"),
    ],
)
def test_today_has_a_partition(now: str, today: str) -> None:
    definitions = build_definitions(Settings())
    with time_machine.travel(datetime.fromisoformat(now), tick=False):
        for asset in ("raw_ree_json", "hourly_demand_frame", "influx_demand_points"):
            partitions = definitions.resolve_assets_def(asset).partitions_def
            assert isinstance(partitions, DailyPartitionsDefinition)
            keys = partitions.get_partition_keys()
            assert (keys[0], keys[-1]) == ("2022-01-01", today)
            first, last = date.fromisoformat(keys[0]), date.fromisoformat(keys[-1])
            assert keys == [str(day) for day in days_between(first, last)]


@pytest.mark.parametrize(
    "command",
    [
        ["dagster", "definitions", "validate", "-w", "workspace.yaml"],
        ["dagster", "asset", "list", "-m", "demand_assets.definitions"],
        ["dg", "list", "defs", "--json"],
    ],
    ids=lambda command: command[0] + "-" + command[1],
)
def test_tools_find_the_code_location(command: list[str], tmp_path: Path) -> None:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:]],
        cwd=PROJECT,
        env={**os.environ, "DAGSTER_HOME": str(tmp_path), "DEMAND_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if command[1] != "definitions":
        assert "influx_demand_points" in done.stdout
