"""`python -m demand_assets.dashboards`: the dashboard in the InfluxDB that the settings name."""

import argparse
import os
import sys

from demand_assets.dashboards import template
from demand_assets.dashboards.influxdb import apply_dashboard
from demand_assets.settings import PROJECT, SettingError, Settings, load_settings_file
from demand_assets.stores.influxdb import InfluxDB, InfluxDBAccessError


def main() -> None:
    """Apply the template; with ``--write``, make its file instead.

    Raises:
        SystemExit: with a line that says what to mend, where it cannot be applied.
    """
    parser = argparse.ArgumentParser(prog="python -m demand_assets.dashboards", description=__doc__)
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"make {template.TEMPLATE.name} from the queries, and apply nothing",
    )
    if parser.parse_args().write:
        template.write()
        return
    load_settings_file(PROJECT / ".env")
    try:
        dashboard = apply_dashboard(_influxdb())
    except (SettingError, InfluxDBAccessError) as error:
        sys.exit(str(error))
    print(f"{dashboard.name}: {dashboard.link}")


def _influxdb() -> InfluxDB:
    settings = Settings.from_environment(os.environ)
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
