"""Create or update the dashboard in the InfluxDB of the settings, and print its name and link."""

import argparse
import json
import os
import sys

import yaml

from demand_assets.dashboards.grafana import build_grafana
from demand_assets.dashboards.influxdb import apply_dashboard
from demand_assets.dashboards.template import build_template
from demand_assets.settings import PROJECT, SettingError, Settings, load_settings_file
from demand_assets.stores.influxdb import InfluxDB, InfluxDBAccessError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demand_assets.dashboards", description=__doc__)
    parser.add_argument(
        "--print", action="store_true", help="print the template for `influx apply -f` instead"
    )
    parser.add_argument(
        "--grafana", action="store_true", help="print the dashboard for Grafana instead, as JSON"
    )
    options = parser.parse_args()
    load_settings_file(PROJECT / ".env")
    try:
        settings = Settings.from_environment(os.environ)
        if options.grafana:
            print(json.dumps(build_grafana(settings.influxdb_bucket), indent=2))
        elif options.print:
            template = build_template(settings.influxdb_bucket)
            print(yaml.safe_dump_all(template, sort_keys=False, allow_unicode=True), end="")
        else:
            print("{0.name}: {0.link}".format(apply_dashboard(_influxdb(settings))))
    except (SettingError, InfluxDBAccessError) as error:
        sys.exit(str(error))


def _influxdb(settings: Settings) -> InfluxDB:
    if not settings.influxdb_url:
        raise SettingError(
            "INFLUXDB_V2_URL is not set: the dashboard needs an InfluxDB 2. Set it in .env,"
            " together with INFLUXDB_V2_TOKEN and INFLUXDB_V2_ORG."
        )
    return InfluxDB(
        url=settings.influxdb_url,
        token=os.environ["INFLUXDB_V2_TOKEN"],
        org=settings.influxdb_org,
        bucket=settings.influxdb_bucket,
        ca_certificate=settings.influxdb_ca_certificate,
    )


if __name__ == "__main__":
    main()
