"""Where `make run` and `make demo` keep their records and data, and who may use them.

The demo stores invented days. It must not reach the record, the data or the bucket of a live
system, however it is called: it gets an environment without their addresses, and each folder that
it uses has a mark, without which it does not start there.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from demand_assets.settings import INFLUXDB_SETTINGS, PROJECT

DEMO_MARK = "DEMO"
DEMO_TEXT = "`make demo` has written simulated days to this folder. It may be deleted.\n"
LOCK = "running.lock"
DEFAULT_PORT = 3000
DEFAULT_DEMO_HOME, DEFAULT_DEMO_DATA = PROJECT / ".dagster/demo", PROJECT / "data/demo"


class StartError(Exception):
    """It cannot be started. The text says what to do."""


@dataclass(frozen=True)
class Places:
    """The folders of a system."""

    home: Path
    """DAGSTER_HOME."""
    data: Path | None
    """The data folder of the demo; a live system has that of its settings."""

    @property
    def log(self) -> Path:
        """Dagster's log of the demo; that of a live system goes to the terminal."""
        return self.home / "dagster.log"


def live_home(environment: Mapping[str, str]) -> Path:
    """DAGSTER_HOME, or its default."""
    return _folder(environment, "DAGSTER_HOME", PROJECT / ".dagster/live")


def live_places(environment: Mapping[str, str]) -> Places:
    """The folder of a live record, which is never that of a demo.

    Raises:
        StartError: the demo has written to it.
    """
    home = live_home(environment)
    refuse_demo(home, "DAGSTER_HOME")
    home.mkdir(parents=True, exist_ok=True)
    return Places(home, None)


def refuse_demo(folder: Path, setting: str) -> None:
    """Refuse a folder of the demo, whose days would count as stored.

    Raises:
        StartError: the demo has written to it.
    """
    if (folder / DEMO_MARK).exists():
        raise StartError(
            f"{folder} contains simulated days, which would count as real ones."
            f" Set {setting} to another folder."
        )


def demo_places(environment: Mapping[str, str]) -> Places:
    """The folders of the demo, marked as such.

    Raises:
        StartError: one of them contains something that the demo did not write.
    """
    home = _folder(environment, "DEMO_HOME", DEFAULT_DEMO_HOME)
    data = environment.get("DEMAND_DATA_DIR", "").strip()
    is_local = data and "://" not in data
    folder = _folder(environment, "DEMAND_DATA_DIR", PROJECT) / "demo" if is_local else None
    places = Places(home, folder or DEFAULT_DEMO_DATA)
    for folder, setting in ((home, "DEMO_HOME"), (places.data, "DEMAND_DATA_DIR")):
        assert folder
        if folder not in (DEFAULT_DEMO_HOME, DEFAULT_DEMO_DATA) and _is_foreign(folder):
            raise StartError(
                f"{folder} contains files that the demo did not write, and it writes simulated"
                f" days. Set {setting} to another folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DEMO_MARK).write_text(DEMO_TEXT)
    return places


def demo_environment(
    environment: Mapping[str, str], places: Places, api: str, defaults: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the demo: no setting that leads to a live store, API or data folder.

    An empty variable counts as unset, and has precedence over `.env`.
    """
    closed = dict.fromkeys(INFLUXDB_SETTINGS, "")
    chosen = {name: environment.get(name, "").strip() or defaults[name] for name in defaults}
    own = {"DEMAND_DATA_DIR": str(places.data), "DEMAND_PAGE_URL": "", "REDATA_BASE_URL": api}
    return {**environment, **closed, **chosen, **own}


def link_configuration(home: Path) -> None:
    """Link the project's dagster.yaml into a home that has none, so that an edit applies to all."""
    file = home / "dagster.yaml"
    if not file.exists():
        file.unlink(missing_ok=True)  # a link to where the project was before
        file.symlink_to(PROJECT / "dagster.yaml")


def lock(home: Path) -> IO[str]:
    """The lock of a home, which is free again when the file is closed in all processes.

    Raises:
        StartError: another start has it; the text names its address.
    """
    file = (home / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        where = _holder(file.read())
        file.close()
        text = f"Dagster already runs in {home} {where}. Stop it first, or name another folder."
        raise StartError(text) from None
    return file


def running_in(home: Path) -> str:
    """Where what runs in a home is reached; empty if nothing runs in it."""
    if not (home / LOCK).exists():
        return ""
    with (home / LOCK).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(file.read())
    return ""


def write_lock(file: IO[str], address: str) -> None:
    """Say in a lock who has it."""
    file.seek(0)
    file.truncate()
    json.dump({"address": address, "process": os.getpid()}, file)
    file.flush()


def _holder(text: str) -> str:
    """What a lock says about who has it."""
    try:
        holder = json.loads(text)
        return f"at {holder['address']} (process {holder['process']})"
    except (ValueError, KeyError, TypeError):
        return "and is just starting or ending"


def choose_port(environment: Mapping[str, str]) -> tuple[int, str]:
    """The port of Dagster's web page and, if it is not the usual one, the reason.

    Raises:
        StartError: the port that the user has named is taken, or is not a port.
    """
    text = environment.get("PORT", "").strip()
    if not text:
        port = first_free_port(range(DEFAULT_PORT, DEFAULT_PORT + 100, 2))
        moved = f"Port {DEFAULT_PORT} is taken by another program; this uses port {port}."
        return port, "" if port == DEFAULT_PORT else moved
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise StartError(f"PORT={text} is not a port. Name one, for example PORT=3100.")
    if is_taken(int(text)):
        other = first_free_port(range(int(text) + 2, 2**16))
        raise StartError(f"Port {text} is taken by another program. Try PORT={other}.")
    return int(text), ""


def first_free_port(ports: Iterable[int]) -> int:
    """The first of the ports on which nothing listens.

    Raises:
        StartError: all are taken.
    """
    for port in ports:
        if not is_taken(port):
            return port
    raise StartError("All ports are taken. Name a free one, for example PORT=8000.")


def is_taken(port: int) -> bool:
    """Whether something answers at `localhost`, in IPv4 or IPv6, or the port cannot be had."""
    for host in ("127.0.0.1", "::1"):
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            continue  # nothing listens there
        return True
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _folder(environment: Mapping[str, str], name: str, default: Path) -> Path:
    """A folder that a variable names, relative to the project."""
    text = environment.get(name, "").strip()
    return (PROJECT / Path(text).expanduser()).resolve() if text else default


def _is_foreign(folder: Path) -> bool:
    """Whether a folder has content and no mark of the demo."""
    if not folder.exists() or (folder / DEMO_MARK).exists():
        return False
    return any(entry.name not in ("dagster.yaml", LOCK) for entry in folder.iterdir())
