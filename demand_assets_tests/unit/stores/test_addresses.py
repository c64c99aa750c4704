"""Addresses and settings show no credentials of INFLUXDB_V2_URL."""

from typing import Any

import pytest

from demand_assets.definitions import build_definitions
from demand_assets.orchestration.resources import InfluxDBResource
from demand_assets.settings import SettingError, Settings
from demand_assets.stores import url_without_credentials
from demand_assets.stores.influxdb import InfluxDB

SECRET = "sesame-0123456789"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://localhost:8086", "http://localhost:8086"),
        (f"http://ana:{SECRET}@host:8086/influx/", "http://host:8086/influx/"),
        (f"https://{SECRET}@host", "https://host"),
        (f"http://ana:{SECRET}@[::1]:8086", "http://[::1]:8086"),
        ("http://[fe80::1]/", "http://[fe80::1]/"),
        (f"http://ana:p@{SECRET}@host", "http://host"),
        (f"http://ana:{SECRET}/#?@host:8086", "http://host:8086"),
        (f"http://host:8086?u=ana&p={SECRET}", "http://host:8086"),
        (f"http://host:8086/#{SECRET}", "http://host:8086/"),
        (f"ana:{SECRET}@host:8086", "host:8086"),
    ],
)
def test_an_address_has_no_credentials(url: str, address: str) -> None:
    assert url_without_credentials(url) == address
    assert InfluxDB(url=url, token="any", org="grid").address == address
    settings = Settings(influxdb_url=url)
    assert settings.store.address == f"InfluxDB {address}, bucket capstone7"
    assert SECRET not in repr(settings)


def test_the_resource_that_the_web_page_shows_has_no_credentials() -> None:
    settings = Settings(influxdb_url=f"http://ana:{SECRET}@host:8086", influxdb_org="grid")
    store: Any = (build_definitions(settings).resources or {})["demand_store"]
    assert store.influxdb.url == "http://host:8086"


@pytest.mark.parametrize("kind", [InfluxDB, InfluxDBResource])
def test_invalid_settings_of_the_connection_show_no_secret(kind: type[InfluxDB]) -> None:
    settings: dict[str, Any] = {"url": f"http://ana:{SECRET}@host", "token": SECRET}
    invalid: list[dict[str, Any]] = [{}, {"org": "grid", "retry_seconds": -1}]
    for wrong in invalid:
        with pytest.raises(ValueError, match="validation error") as caught:
            kind(**settings, **wrong)
        assert SECRET not in str(caught.value)
    assert SECRET not in repr(kind(**settings, org="grid"))


@pytest.mark.parametrize(
    "url",
    [
        f"htp://ana:{SECRET}@host",
        f"ana:{SECRET}@host:8086",
        f"http://ana:{SECRET}/@host",
        f"http://ana:{SECRET}℀@host",  # Python quotes such a URL in its own error
    ],
)
def test_an_invalid_url_is_an_error_without_its_credentials(url: str) -> None:
    environment = {"INFLUXDB_V2_URL": url, "INFLUXDB_V2_TOKEN": "any", "INFLUXDB_V2_ORG": "grid"}
    with pytest.raises(SettingError, match=r"INFLUXDB_V2_URL=.*not an http") as caught:
        Settings.from_environment(environment)
    assert SECRET not in str(caught.getrepr(style="native", chain=True))
