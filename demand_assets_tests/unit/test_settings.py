"""Settings: defaults, each one read, clear errors, and no secret among them."""

import re
from collections.abc import Callable
from datetime import date, time, timedelta

import pytest

from demand_assets.settings import PROJECT, SettingError, Settings

MINUTES = timedelta(minutes=1)
INFLUXDB = {
    "INFLUXDB_V2_URL": "http://localhost:8086",
    "INFLUXDB_V2_TOKEN": "s3cret-t0ken",
    "INFLUXDB_V2_ORG": "grid",
}


def test_defaults_are_the_documented_ones() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.redata_base_url == "https://apidatos.ree.es"
    assert settings.redata_max_days_per_request == 31
    assert settings.start_date == date(2022, 1, 1)
    assert settings.data_dir == str(PROJECT / "data")
    assert settings.influxdb_url is None
    assert settings.influxdb_bucket == "capstone7"


def test_empty_variable_counts_as_unset() -> None:
    names = ("REDATA_BASE_URL", "DEMAND_DATA_DIR", "DEMAND_START_DATE", "INFLUXDB_V2_URL")
    assert Settings.from_environment(dict.fromkeys(names, " ")) == Settings()


OTHER_VALUES: dict[str, tuple[str, Callable[[Settings], object], object]] = {
    "REDATA_BASE_URL": ("http://h:9", lambda s: s.redata_base_url, "http://h:9"),
    "REDATA_MAX_DAYS_PER_REQUEST": ("7", lambda s: s.redata_max_days_per_request, 7),
    "REDATA_RETRY_SECONDS": ("2.5", lambda s: s.redata_retry_seconds, 2.5),
    "REDATA_CONCURRENT_REQUESTS": ("4", lambda s: s.redata_concurrent_requests, 4),
    "DEMAND_START_DATE": ("2021-01-01", lambda s: s.start_date, date(2021, 1, 1)),
    "DEMAND_DATA_DIR": ("elsewhere", lambda s: s.data_dir, str(PROJECT / "elsewhere")),
    "DEMAND_LOAD_HISTORY": ("on", lambda s: s.load_history, True),
    "DEMAND_REFRESH_MINUTES": ("5", lambda s: s.refresh, 5 * MINUTES),
    "DEMAND_SETTLE_MINUTES": ("45", lambda s: s.settle, 45 * MINUTES),
    "DEMAND_AUDIT_MINUTES": ("5", lambda s: s.audit, 5 * MINUTES),
    "DEMAND_REREAD_DAYS": ("0", lambda s: s.reread_days, 0),
    "DEMAND_FORECAST_TIME": ("10:00", lambda s: s.forecast_at, time(10)),
    "DEMAND_PAGE_URL": ("http://h:3001", lambda s: s.page_url, "http://h:3001"),
    "DEMAND_FRESH_WARN_MINUTES": ("70", lambda s: s.freshness.warn_after, 70 * MINUTES),
    "DEMAND_FRESH_FAIL_MINUTES": ("90", lambda s: s.freshness.fail_after, 90 * MINUTES),
    "INFLUXDB_V2_URL": ("http://h:8087", lambda s: s.influxdb_url, "http://h:8087"),
    "INFLUXDB_V2_ORG": ("other", lambda s: s.influxdb_org, "other"),
    "INFLUXDB_V2_BUCKET": ("other", lambda s: s.influxdb_bucket, "other"),
    "INFLUXDB_V2_SSL_CA_CERT": (
        "pyproject.toml",
        lambda s: s.influxdb_ca_certificate,
        str(PROJECT / "pyproject.toml"),
    ),
}
"""Another value of each setting, where it is read to, and what it becomes."""


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_each_setting_is_read(name: str) -> None:
    text, attribute, expected = OTHER_VALUES[name]
    default = Settings.from_environment(INFLUXDB)
    changed = Settings.from_environment({**INFLUXDB, name: text})
    assert attribute(changed) == expected != attribute(default)


def test_each_setting_of_the_example_file_is_tested() -> None:
    example = re.findall(r"^#([A-Z0-9_]+)=", (PROJECT / ".env.example").read_text(), re.M)
    # The token is not a setting: it stays in the environment until a client needs it.
    assert sorted(example) == sorted([*OTHER_VALUES, "INFLUXDB_V2_TOKEN"])
    assert INFLUXDB["INFLUXDB_V2_TOKEN"] not in repr(Settings.from_environment(INFLUXDB))


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
        ({"REDATA_CONCURRENT_REQUESTS": "0"}, "REDATA_CONCURRENT_REQUESTS"),
        ({"REDATA_CONCURRENT_REQUESTS": "5"}, "REDATA_CONCURRENT_REQUESTS"),
        ({"REDATA_RETRY_SECONDS": "-1"}, "REDATA_RETRY_SECONDS"),
        ({"DEMAND_START_DATE": "01/01/2022"}, "DEMAND_START_DATE"),
        ({"DEMAND_REFRESH_MINUTES": "inf"}, "DEMAND_REFRESH_MINUTES"),
        ({"DEMAND_FRESH_WARN_MINUTES": "0"}, "DEMAND_FRESH_WARN_MINUTES"),
        ({"DEMAND_FRESH_WARN_MINUTES": "0.5"}, "DEMAND_FRESH_WARN_MINUTES"),
        ({"DEMAND_FRESH_WARN_MINUTES": "120"}, "DEMAND_FRESH_WARN_MINUTES"),
        ({"DEMAND_LOAD_HISTORY": "maybe"}, "DEMAND_LOAD_HISTORY"),
        ({"DEMAND_DATA_DIR": "memory://demand"}, "DEMAND_DATA_DIR"),
    ],
)
def test_unusable_setting_is_an_error_that_names_it(
    environment: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingError, match=named) as caught:
        Settings.from_environment(environment)
    assert INFLUXDB["INFLUXDB_V2_TOKEN"] not in str(caught.value)


def test_data_folder_can_be_an_object_store_with_influxdb() -> None:
    settings = Settings.from_environment({"DEMAND_DATA_DIR": "memory://demand", **INFLUXDB})
    assert settings.data_dir == "memory://demand"
