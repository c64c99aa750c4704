"""Checks everything and prints a line for each result; the exit code is 1 if something is wrong."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from demand_assets.doctor import Level, Result, machine, servers
from demand_assets.launcher.places import live_home
from demand_assets.settings import PROJECT, Settings, read_settings_file
from demand_assets.stores.influxdb import InfluxDB

ENV_FILE = PROJECT / ".env"


def examine(environment: Mapping[str, str], env_file: Path) -> Iterator[Result]:
    """All results, each as soon as it is known."""
    yield from machine.check_python()
    yield machine.check_lightgbm()
    env_results = list(machine.check_settings_file(env_file))
    yield from env_results
    is_readable = all("cannot be read" not in result.text for result in env_results)
    values = read_settings_file(env_file, environment) if is_readable else dict(environment)
    yield machine.check_home(environment)
    yield machine.check_ports(environment)
    settings, result = machine.check_settings(values)
    yield result
    if settings:
        yield from _examine(settings, values)


def _examine(settings: Settings, values: Mapping[str, str]) -> Iterator[Result]:
    folders = {"DAGSTER_HOME": live_home(values)}
    if "://" not in settings.data_dir:
        folders["DEMAND_DATA_DIR"] = Path(settings.data_dir)
    yield from machine.check_disk(folders)
    yield from servers.check_api(settings)
    if not settings.influxdb_url:
        yield servers.check_duckdb(settings)
        return
    influxdb = InfluxDB(
        url=settings.influxdb_url,
        token=values["INFLUXDB_V2_TOKEN"],
        org=settings.influxdb_org,
        bucket=settings.influxdb_bucket,
        ca_certificate=settings.influxdb_ca_certificate,
    )
    yield from servers.check_influxdb(influxdb, settings.start_date)


def main() -> int:
    logging.getLogger("demand_assets").setLevel(logging.ERROR)  # not each attempt
    wrong = 0
    for result in examine(os.environ, ENV_FILE):
        print(result, flush=True)
        wrong += result.level == Level.WRONG
    print(f"\n{wrong} of these are wrong." if wrong else "\nNothing is wrong.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
