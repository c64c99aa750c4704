"""Checks of this machine and of the settings, without a network."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dotenv import dotenv_values

from demand_assets.doctor import Level, Result
from demand_assets.forecast import why_no_model
from demand_assets.launcher import places
from demand_assets.settings import PROJECT, SettingError, Settings

OLDEST_PYTHON = (3, 11)
PACKAGES = ("dagster", "dagster-webserver", "duckdb", "influxdb-client", "pandas")
LEAST_FREE, LITTLE_FREE = 200 * 2**20, 2 * 2**30
"""Bytes. A year of days is about 100 MB, with Dagster's record."""
NAME = re.compile(r"(INFLUX|DEMAND_|REDATA_)\w+")


def check_python() -> Iterator[Result]:
    """The interpreter and the versions of what matters most."""
    level = Level.OK if sys.version_info >= OLDEST_PYTHON else Level.WRONG
    advice = "" if level == Level.OK else "; 3.11 or newer is needed: make PYTHON=python3.12"
    yield Result("Python", level, f"{platform.python_version()} in {sys.prefix}{advice}")
    try:
        yield Result("versions", Level.OK, ", ".join(f"{p} {version(p)}" for p in PACKAGES))
    except PackageNotFoundError as error:
        advice = "Delete .venv, and start again; `make` installs it."
        yield Result("versions", Level.WRONG, f"{error.name} is not installed. {advice}")


def check_lightgbm() -> Result:
    """Whether the forecast's model can be used."""
    if why := why_no_model():
        return Result("forecast", Level.WRONG, f"{why}. All else works without it.")
    return Result("forecast", Level.OK, f"LightGBM {version('lightgbm')} can be loaded")


def check_settings_file(file: Path) -> Iterator[Result]:
    """Whether `.env` can be read, is private and has only names of settings."""
    if not file.exists():
        yield Result(".env", Level.OK, "there is none; the settings are those of the environment")
        return
    try:
        values = dotenv_values(file)
    except (OSError, UnicodeDecodeError) as error:
        yield Result(".env", Level.WRONG, f"{file} cannot be read: {error}")
        return
    known = re.findall(r"^#([A-Z0-9_]+)=", (PROJECT / ".env.example").read_text(), re.M)
    unknown = [name for name in values if NAME.fullmatch(name) and name not in known]
    if unknown:
        text = f"{', '.join(unknown)}: no setting has that name. .env.example has all names."
        yield Result(".env", Level.WRONG, text)
    if values.get("INFLUXDB_V2_TOKEN") and file.stat().st_mode & 0o077:
        yield Result(".env", Level.WRONG, f"others can read the token in it: chmod 600 '{file}'")
    if not unknown:
        yield Result(".env", Level.OK, f"{len(values)} settings in {file}")


def check_settings(environment: Mapping[str, str]) -> tuple[Settings | None, Result]:
    """The settings, if all values can be used."""
    try:
        settings = Settings.from_environment(environment)
    except SettingError as error:
        return None, Result("settings", Level.WRONG, str(error))
    text = f"store: {settings.store.address}; first day: {settings.start_date} (DEMAND_START_DATE)"
    return settings, Result("settings", Level.OK, text)


def check_home(environment: Mapping[str, str]) -> Result:
    """Whether DAGSTER_HOME can be used, and whether something runs in it."""
    home = places.live_home(environment)
    try:
        places.refuse_demo(home, "DAGSTER_HOME")
    except places.StartError as error:
        return Result("record", Level.WRONG, str(error))
    if text := _why_not_writable(home):
        return Result("record", Level.WRONG, f"{text} (DAGSTER_HOME)")
    if home.exists() and (running := places.running_in(home)):
        return Result("record", Level.OK, f"Dagster runs in {home} {running}")
    return Result("record", Level.OK, f"{home} (DAGSTER_HOME); nothing runs in it")


def check_ports(environment: Mapping[str, str]) -> Result:
    """Whether the port of the web page is free, unless this project has it."""
    home = places.live_home(environment)
    running = places.running_in(home) if home.exists() else ""
    if running:
        return Result("ports", Level.OK, f"in use by this project, {running}")
    try:
        port, why_another = places.choose_port(environment)
    except places.StartError as error:
        return Result("ports", Level.WRONG, str(error))
    if why_another:
        return Result("ports", Level.NOTE, f"{why_another} To choose: make run PORT=…")
    return Result("ports", Level.OK, f"{port} is free (PORT)")


def check_disk(folders: Mapping[str, Path]) -> Iterator[Result]:
    """Whether there is room in the folders, each given with its setting, and they are writable."""
    for setting, folder in folders.items():
        if text := _why_not_writable(folder):
            yield Result("disk", Level.WRONG, f"{text} ({setting})")
            continue
        free = shutil.disk_usage(_existing(folder)).free
        level = Level.WRONG if free < LEAST_FREE else Level.NOTE if free < LITTLE_FREE else Level.OK
        advice = "" if level == Level.OK else "; free some, or choose another folder"
        yield Result("disk", level, f"{free / 2**30:.1f} GB free for {setting} in {folder}{advice}")


def _why_not_writable(folder: Path) -> str:
    existing = _existing(folder)
    if not existing.is_dir():
        return f"{existing} is not a folder"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"{existing} cannot be written"


def _existing(folder: Path) -> Path:
    """The folder or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
