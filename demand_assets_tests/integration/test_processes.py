"""The guard: whatever ends the starter ends the command and all that it has started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demand_assets.settings import PROJECT

STARTER = """
import os, sys, time
from pathlib import Path
from demand_assets.processes import Guarded, StopRequest
request = StopRequest(with_parent=True)
guarded = Guarded([sys.executable, "-c", sys.argv[1]], folder=Path.cwd(), environment=os.environ)
while guarded.poll() is None and not request:
    time.sleep(0.05)
sys.exit(guarded.stop())
"""
COMMAND = """
import os, signal, subprocess, sys, time
from pathlib import Path
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
script = stubborn if {stubborn} else "import time; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", script])
def end(*_):
    Path("ended in order").touch()
    if not {stubborn}:
        child.terminate()
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
time.sleep(0.5)
Path("pids").write_text(f"{{os.getppid()}} {{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], list[int]]]]:
    started: list[int] = []
    if sys.platform != "linux":
        pytest.skip("the test reads /proc")

    def start(stubborn: bool = False) -> tuple[subprocess.Popen[bytes], list[int]]:
        """A shell that starts the starter; the starter, guard, command and its child."""
        script = COMMAND.format(stubborn=stubborn)
        command = [sys.executable, "-c", STARTER, script]
        shell = subprocess.Popen(
            ["sh", "-c", '"$@" & echo $! > starter; wait', "sh", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        wait_until((tmp_path / "pids").exists)
        time.sleep(0.1)
        pids = [int((tmp_path / "starter").read_text())]
        pids += [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        started.extend([shell.pid, *pids])
        return shell, pids

    yield start
    for process in filter(lives, started):
        os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize(
    ("victim", "number"),
    [
        ("starter", signal.SIGTERM),
        ("starter", signal.SIGHUP),
        ("starter", signal.SIGKILL),
        ("shell", signal.SIGKILL),
        ("guard", signal.SIGKILL),
    ],
)
def test_whatever_ends_ends_all_in_order(
    start: Callable[..., tuple[subprocess.Popen[bytes], list[int]]],
    tmp_path: Path,
    victim: str,
    number: signal.Signals,
) -> None:
    shell, pids = start()
    assert all(map(lives, pids))
    named = {"shell": shell.pid, "starter": pids[0], "guard": pids[1]}
    os.kill(named[victim], number)
    wait_until(lambda: not any(map(lives, pids)))
    assert (tmp_path / "ended in order").exists()
    shell.wait(10)


def test_a_command_that_dies_leaves_no_process(
    start: Callable[..., tuple[subprocess.Popen[bytes], list[int]]],
) -> None:
    shell, pids = start(stubborn=True)
    os.kill(pids[2], signal.SIGKILL)
    wait_until(lambda: not any(map(lives, pids)), 45)
    shell.wait(10)
