"""Proxies of the environment: what goes through them, what never does, and their refusals."""

import pytest

from demand_assets.proxies import is_this_machine, proxy_of
from demand_assets.redata import UnavailableError
from demand_assets.redata.errors import ProxyError
from demand_assets.simulator import Simulator
from demand_assets.stores.influxdb import InfluxDBAccessError
from demand_assets_tests.support.servers import Reply, free_port, scripted_server
from demand_assets_tests.support.stores import DAY, SECRET, WRITTEN, hours, over
from demand_assets_tests.unit.redata.helpers import DAY as A_DAY
from demand_assets_tests.unit.redata.helpers import answer_of, client, error_of

FORBIDDEN = Reply(403, body=b"<html>The policy of the office forbids it.</html>")


@pytest.fixture(autouse=True)
def _no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8086", True),
        ("http://127.1.2.3", True),
        ("http://[::1]:8086/", True),
        ("http://LOCALHOST:3000", True),
        ("http://api.localhost", True),
        ("http://localhost.example", False),
        ("https://apidatos.ree.es", False),
        ("http://10.0.0.1", False),
    ],
)
def test_this_machine_is_reached_without_a_proxy(
    url: str, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    assert is_this_machine(url) == here
    assert (proxy_of(url) is None) == here


def test_no_proxy_is_heeded_and_credentials_become_a_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://ana:se%40same@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "influx.example,10.0.0.0/8")
    assert proxy_of("https://influx.example:8086") is None
    assert proxy_of("https://10.1.2.3") is None
    found = proxy_of("https://apidatos.ree.es")
    assert found
    assert found[0] == "http://proxy.example:3128"
    assert found[1] == {"proxy-authorization": "Basic YW5hOnNlQHNhbWU="}


def test_an_api_on_this_machine_is_requested_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_server(FORBIDDEN) as proxy, Simulator() as api:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert answer_of(client(api.url).fetch([A_DAY])[A_DAY])
        assert not proxy.times


@pytest.mark.parametrize("reply", [FORBIDDEN, Reply(407)])
def test_a_refusal_by_a_proxy_is_not_taken_for_an_outage_of_the_api(
    reply: Reply, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    with scripted_server(reply) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        error = error_of("https://apidatos.ree.es", retry_seconds=2)
        assert proxy.times
    assert isinstance(error, ProxyError) and isinstance(error, UnavailableError)
    assert str(A_DAY) in str(error)
    assert "proxy refuses it or cannot be reached" in str(error)
    assert "HTTPS_PROXY" in str(error) and "when REData is back" not in str(error)


def test_a_proxy_that_is_down_is_named(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    assert isinstance(error_of("https://apidatos.ree.es", retry_seconds=2), ProxyError)
    with scripted_server(Reply(0)) as proxy:  # it takes the request and says nothing
        monkeypatch.setenv("https_proxy", proxy.url)
        error = error_of("https://apidatos.ree.es", retry_seconds=2)
    assert "through the proxy of the environment" in str(error)


def test_a_proxy_that_asks_for_a_login_is_named(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    with scripted_server(Reply(407)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        error = error_of("http://api.example", retry_seconds=2)
    assert "asks for a login" in str(error) and "HTTP_PROXY" in str(error)


def test_influxdb_is_written_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_server(WRITTEN) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        over("http://influx.example:8086").write(hours(DAY))
        assert proxy.bodies
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with scripted_server(WRITTEN) as server:
        over(server.url).write(hours(DAY))  # directly
        assert server.bodies


def test_a_refusal_by_the_proxy_of_influxdb_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    with scripted_server(FORBIDDEN) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//ana:sesame@"))
        with pytest.raises(InfluxDBAccessError, match=r"through the proxy.*403.*HTTPS_PROXY") as e:
            over("https://influx.example").write(hours(DAY))
    assert SECRET not in str(e.value) and "sesame" not in str(e.value)
