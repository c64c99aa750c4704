"""The settings: their names, defaults and valid values. README.md has the table.

`definitions.py` and the commands read them once from the environment and pass them on; no other
module reads the environment.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values, load_dotenv
from upath import UPath

from demand_assets.stores import url_without_credentials

PROJECT = Path(__file__).resolve().parents[1]
"""The folder of dagster.yaml, `.env` and, by default, the data."""

DAYS_PER_RUN = 10 * 31
"""Ten full requests to the API. A run takes seconds before its first step, and a longer one loses
more when it fails; docs/performance.md has the measurements."""

INFLUXDB_SETTINGS = (
    "INFLUXDB_V2_URL",
    "INFLUXDB_V2_TOKEN",
    "INFLUXDB_V2_ORG",
    "INFLUXDB_V2_BUCKET",
    "INFLUXDB_V2_SSL_CA_CERT",
)
SERVED_PAGE_URL = "DEMAND_PAGE_SERVED_AT"
"""Set by the launcher: where it serves the page. DEMAND_PAGE_URL, which users set, wins."""

D = TypeVar("D")
T = TypeVar("T")


@dataclass(frozen=True)
class Freshness:
    """How old today's newest measured hour and its last materialization may be."""

    warn_after: timedelta = timedelta(minutes=80)
    """An hour closes every 60 minutes, and is stored within 15."""
    fail_after: timedelta = timedelta(minutes=120)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Freshness":
        freshness = cls(
            warn_after=_read(environment, "DEMAND_FRESH_WARN_MINUTES", cls.warn_after, _minutes),
            fail_after=_read(environment, "DEMAND_FRESH_FAIL_MINUTES", cls.fail_after, _minutes),
        )
        if not timedelta(minutes=1) <= freshness.warn_after < freshness.fail_after:
            raise SettingError(
                "DEMAND_FRESH_WARN_MINUTES must be at least 1, and less than"
                " DEMAND_FRESH_FAIL_MINUTES."
            )
        return freshness


@dataclass(frozen=True)
class Store:
    """Where the points go."""

    kind: str
    """``influxdb`` or ``duckdb``: the badge on the asset."""
    address: str
    """Where the store is, for people to read, without credentials."""


class SettingError(ValueError):
    """A setting is missing or unusable. Its text names the environment variable."""


@dataclass(frozen=True)
class Settings:
    """All settings, with their defaults."""

    redata_base_url: str = "https://apidatos.ree.es"
    redata_max_days_per_request: int = 31
    redata_retry_seconds: float = 60.0
    redata_concurrent_requests: int = 2
    start_date: date = date(2022, 1, 1)
    data_dir: str = str(PROJECT / "data")
    refresh: timedelta = timedelta(minutes=10)
    settle: timedelta = timedelta(minutes=30)
    audit: timedelta = timedelta(minutes=60)
    """The pause between two audits of the store."""
    reread_days: int = 31
    """How many past days are read again once a day; 0 for none."""
    freshness: Freshness = field(default_factory=Freshness)
    load_history: bool = False
    """Whether days before the first stored day are loaded without being requested."""
    forecast_at: time = time(12)
    """Madrid time at which the next day's demand is forecast."""
    page_url: str | None = None
    influxdb_url: str | None = field(default=None, repr=False)
    influxdb_org: str = ""
    influxdb_bucket: str = "capstone7"
    influxdb_ca_certificate: str | None = None

    @property
    def database(self) -> str:
        """The embedded database's file."""
        return f"{self.data_dir}/demand.duckdb"

    @property
    def store(self) -> Store:
        if not self.influxdb_url:
            return Store("duckdb", f"DuckDB {self.database}")
        place = f"bucket {self.influxdb_bucket}"
        if self.influxdb_org:
            place += f", organization {self.influxdb_org}"
        return Store("influxdb", f"InfluxDB {self.influxdb_address}, {place}")

    @property
    def influxdb_address(self) -> str:
        """The URL without credentials, as the web page may show it."""
        return url_without_credentials(self.influxdb_url or "")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; an empty variable counts as unset.

        Raises:
            SettingError: a value cannot be used, or InfluxDB's are incomplete.
        """
        read = partial(_read, environment)
        url = read("INFLUXDB_V2_URL", None, _http_url)
        if url:
            _require(environment, "INFLUXDB_V2_TOKEN", "INFLUXDB_V2_ORG")
        return cls(
            redata_base_url=read("REDATA_BASE_URL", cls.redata_base_url, _http_url),
            redata_max_days_per_request=read(
                "REDATA_MAX_DAYS_PER_REQUEST", cls.redata_max_days_per_request, _at_least_one
            ),
            redata_retry_seconds=read("REDATA_RETRY_SECONDS", cls.redata_retry_seconds, _positive),
            redata_concurrent_requests=read(
                "REDATA_CONCURRENT_REQUESTS", cls.redata_concurrent_requests, _one_to_four
            ),
            start_date=read("DEMAND_START_DATE", cls.start_date, date.fromisoformat),
            data_dir=_data_dir(read("DEMAND_DATA_DIR", cls.data_dir, str), is_local=not url),
            refresh=read("DEMAND_REFRESH_MINUTES", cls.refresh, _minutes),
            settle=read("DEMAND_SETTLE_MINUTES", cls.settle, _minutes),
            audit=read("DEMAND_AUDIT_MINUTES", cls.audit, _minutes),
            reread_days=read("DEMAND_REREAD_DAYS", cls.reread_days, _days),
            freshness=Freshness.from_environment(environment),
            load_history=read("DEMAND_LOAD_HISTORY", cls.load_history, _switch),
            forecast_at=read("DEMAND_FORECAST_TIME", cls.forecast_at, _full_hour),
            page_url=read("DEMAND_PAGE_URL", None, _http_url)
            or read(SERVED_PAGE_URL, None, _http_url),
            influxdb_url=url,
            influxdb_org=read("INFLUXDB_V2_ORG", "", str),
            influxdb_bucket=read("INFLUXDB_V2_BUCKET", cls.influxdb_bucket, str),
            influxdb_ca_certificate=read("INFLUXDB_V2_SSL_CA_CERT", None, _file),
        )


def _read(
    environment: Mapping[str, str], name: str, default: D, parse: Callable[[str], T]
) -> D | T:
    """A variable as the parser understands it, or the default if it is unset or empty."""
    text = environment.get(name, "").strip()
    try:
        return parse(text) if text else default
    except ValueError as error:
        shown = url_without_credentials(text) if "@" in text else text
        raise SettingError(f"{name}={shown}: {error}") from error


def _require(environment: Mapping[str, str], *names: str) -> None:
    if missing := [name for name in names if not environment.get(name, "").strip()]:
        raise SettingError(
            f"INFLUXDB_V2_URL is set, but {' and '.join(missing)} is not."
            " Set it, or unset INFLUXDB_V2_URL to use the embedded store."
        )


def _data_dir(data_dir: str, *, is_local: bool) -> str:
    """An absolute path, or an address that fsspec knows."""
    path = UPath(data_dir)
    if isinstance(path, os.PathLike):
        return str(PROJECT / Path(path).expanduser())
    if is_local:
        raise SettingError(
            f"DEMAND_DATA_DIR={data_dir} is not a local folder, and the embedded store needs"
            " one. Set INFLUXDB_V2_URL, or a folder."
        )
    return data_dir


def read_settings_file(file: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a `.env` file and of an environment, which has precedence."""
    return {name: value or "" for name, value in dotenv_values(file).items()} | dict(environment)


def load_settings_file(file: Path) -> None:
    """Add the variables of a `.env` file to the environment, which has precedence."""
    load_dotenv(file)
    if (
        file.is_file()
        and file.stat().st_mode & 0o077
        and dotenv_values(file).get("INFLUXDB_V2_TOKEN")
    ):
        warnings.warn(f"Others can read the token in {file}: chmod 600 it.", stacklevel=2)


def _http_url(text: str) -> str:
    with suppress(ValueError):  # whose text may quote a password
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return text
    raise ValueError("not an http(s) address")


def _file(text: str) -> str:
    file = PROJECT / Path(text).expanduser()
    if not file.is_file():
        raise ValueError("there is no such file")
    return str(file)


def _switch(text: str) -> bool:
    switches = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
    if text.lower() not in switches:
        raise ValueError("must be on or off")
    return switches[text.lower()]


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError("must be at least 1")
    return number


def _days(text: str) -> int:
    if not 0 <= (number := int(text)) <= 366:
        raise ValueError("must be from 0 to 366")
    return number


def _one_to_four(text: str) -> int:
    if not 1 <= (number := int(text)) <= 4:
        raise ValueError("must be 1 to 4")
    return number


def _positive(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        raise ValueError("must be a positive number")
    return number


def _full_hour(text: str) -> time:
    at = time.fromisoformat(text)
    if at not in [time(hour) for hour in range(1, 24)]:
        raise ValueError("must be a full hour of Madrid's clock from 01:00 to 23:00")
    return at


def _minutes(text: str) -> timedelta:
    return timedelta(minutes=_positive(text))
