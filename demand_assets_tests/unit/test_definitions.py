"""Settings: defaults, clear errors, and no secret among them; the tools find the project."""

import json
import os
import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance

from demand_assets.definitions import build_definitions
from demand_assets.settings import PROJECT, SettingError, Settings

INFLUXDB = {
    "INFLUXDB_V2_URL": "http://localhost:8086",
    "INFLUXDB_V2_TOKEN": "s3cret-t0ken",
    "INFLUXDB_V2_ORG": "grid",
}


def test_the_defaults_are_the_documented_ones() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.redata_base_url == "https://apidatos.ree.es"
    assert settings.redata_max_days_per_request == 31
    assert settings.start_date == date(2022, 1, 1)
    assert settings.data_dir == str(PROJECT / "data")
    assert settings.influxdb_url is None
    assert settings.influxdb_bucket == "capstone7"


def test_an_empty_variable_counts_as_unset() -> None:
    names = ("REDATA_BASE_URL", "DEMAND_DATA_DIR", "DEMAND_START_DATE", "INFLUXDB_V2_URL")
    assert Settings.from_environment(dict.fromkeys(names, " ")) == Settings()


def test_settings_are_read() -> None:
    settings = Settings.from_environment(
        {
            "REDATA_BASE_URL": "http://127.0.0.1:9",
            "REDATA_MAX_DAYS_PER_REQUEST": "7",
            "DEMAND_START_DATE": "2021-01-01",
            "DEMAND_DATA_DIR": "elsewhere",
            "DEMAND_REFRESH_MINUTES": "5",
            "INFLUXDB_V2_BUCKET": "other",
            **INFLUXDB,
        }
    )
    assert settings.redata_max_days_per_request == 7
    assert settings.start_date == date(2021, 1, 1)
    assert settings.data_dir == str(PROJECT / "elsewhere")
    assert settings.refresh == timedelta(minutes=5)
    assert (settings.influxdb_url, settings.influxdb_bucket) == ("http://localhost:8086", "other")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"INFLUXDB_V2_URL": "http://h:8086"}, "INFLUXDB_V2_TOKEN and INFLUXDB_V2_ORG"),
        ({**INFLUXDB, "INFLUXDB_V2_TOKEN": ""}, "INFLUXDB_V2_TOKEN"),
        ({**INFLUXDB, "INFLUXDB_V2_ORG": ""}, "INFLUXDB_V2_ORG"),
        ({**INFLUXDB, "INFLUXDB_V2_URL": "localhost:8086"}, "INFLUXDB_V2_URL"),
        ({"REDATA_BASE_URL": "apidatos.ree.es"}, "REDATA_BASE_URL"),
        ({"REDATA_MAX_DAYS_PER_REQUEST": "0"}, "REDATA_MAX_DAYS_PER_REQUEST"),
        ({"REDATA_MAX_DAYS_PER_REQUEST": "many"}, "REDATA_MAX_DAYS_PER_REQUEST"),
        ({"REDATA_RETRY_SECONDS": "-1"}, "REDATA_RETRY_SECONDS"),
        ({"DEMAND_START_DATE": "01/01/2022"}, "DEMAND_START_DATE"),
        ({"DEMAND_REFRESH_MINUTES": "inf"}, "DEMAND_REFRESH_MINUTES"),
        ({"DEMAND_FRESH_WARN_MINUTES": "0"}, "DEMAND_FRESH_WARN_MINUTES"),
        ({"DEMAND_FRESH_WARN_MINUTES": "0.5"}, "DEMAND_FRESH_WARN_MINUTES"),
        ({"DEMAND_FRESH_WARN_MINUTES": "120"}, "DEMAND_FRESH_WARN_MINUTES"),
        ({"DEMAND_DATA_DIR": "memory://demand"}, "DEMAND_DATA_DIR"),
    ],
)
def test_an_unusable_setting_is_an_error_that_names_it(
    environment: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingError, match=named) as caught:
        Settings.from_environment(environment)
    assert INFLUXDB["INFLUXDB_V2_TOKEN"] not in str(caught.value)


def test_files_may_lie_in_an_object_store_when_influxdb_keeps_the_points() -> None:
    settings = Settings.from_environment({"DEMAND_DATA_DIR": "memory://demand", **INFLUXDB})
    assert settings.data_dir == "memory://demand"


def test_the_token_is_not_in_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", INFLUXDB["INFLUXDB_V2_TOKEN"])
    definitions = build_definitions(Settings.from_environment(INFLUXDB))
    assert INFLUXDB["INFLUXDB_V2_TOKEN"] not in repr(definitions)
    assert INFLUXDB["INFLUXDB_V2_TOKEN"] not in json.dumps(
        [str(r) for r in (definitions.resources or {}).values()]
    )


def test_today_has_a_partition() -> None:
    definitions = build_definitions(Settings())
    partitions = definitions.resolve_assets_def("influx_demand_points").partitions_def
    assert partitions is not None
    with DagsterInstance.ephemeral() as instance:
        keys = partitions.get_partition_keys(dynamic_partitions_store=instance)
    assert keys[0] == "2022-01-01"
    assert Settings().start_date + timedelta(days=len(keys) - 1) == date.fromisoformat(keys[-1])


@pytest.mark.parametrize(
    "command",
    [
        ["dagster", "definitions", "validate", "-w", "workspace.yaml"],
        ["dagster", "asset", "list", "-m", "demand_assets.definitions"],
        ["dg", "list", "defs", "--json"],
    ],
    ids=lambda command: command[0] + "-" + command[1],
)
def test_the_tools_find_the_code_location(command: list[str], tmp_path: Path) -> None:
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


def test_each_promise_of_the_documentation_names_a_test_that_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (PROJECT / "docs/faults.md").read_text())
    assert len(named) > 30
    for file, test in named:
        assert f"\ndef {test}(" in (PROJECT / "demand_assets_tests" / file).read_text(), test
