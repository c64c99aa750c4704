"""Running a command so that it ends together with whoever started it, and leaves nothing behind.

`Guarded` starts a command through a small process of this module, the guard. A pipe connects both:
when the starter ends, for whatever reason, the guard stops the command in order. All of them stay
in one process group, so that Ctrl-C reaches each of them.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

STOP_SECONDS = 30.0
"""How long the command may take to end in order; then it is killed."""
INTERRUPT_SECONDS = 20.0
"""Of these, after Ctrl-C: it ends by itself, as the terminal has interrupted it as well."""
REST_SECONDS = 15.0
"""How long processes that it leaves, such as a run of Dagster, may take to finish their work."""
ASKED_SECONDS = 5.0
"""How long they may take to end after they were asked to. All of this is less than a minute."""
POLL_SECONDS = 0.2
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def be_interruptible() -> None:
    """Have both SIGINT and SIGTERM raise KeyboardInterrupt.

    SIGINT as well, since a shell makes a background job ignore it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def run_command(command: list[str], **environment: str) -> int:
    """The command's exit code. An interrupt of this process is passed on to it."""
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)


class StopRequest:
    """Whether this process was asked to end: by a signal, or because its parent has ended."""

    def __init__(self, *, with_parent: bool = False) -> None:
        self.signal = 0
        """The first signal that came; 0 for none."""
        self._parent = os.getppid() if with_parent else None
        for number in STOP_SIGNALS:
            # `nohup` has a command ignore that its terminal is closed.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or number

    def __bool__(self) -> bool:
        return bool(self.signal) or (self._parent is not None and os.getppid() != self._parent)


class Guarded:
    """A command that is stopped in order when this process ends, however it ends."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        output: IO[bytes] | None = None,
        kept_open: Sequence[int] = (),
    ) -> None:
        # `kept_open` are file descriptors that stay open until the command and its guard end.
        guard = [sys.executable, "-m", __name__, ",".join(map(str, kept_open)), *command]
        self._process = subprocess.Popen(
            guard,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environment,
            pass_fds=kept_open,
        )

    def poll(self) -> int | None:
        """The exit code of the command; None while it runs."""
        return self._process.poll()

    def stop(self) -> int:
        """Stop the command and wait for its end; its exit code."""
        assert self._process.stdin
        self._process.stdin.close()
        return self._process.wait()


def guard(command: Sequence[str], kept_open: Sequence[int]) -> int:
    """Run a command until it ends, or until standard input or a signal says so; its exit code."""
    # Processes whose parent dies become children of this one.
    _set_on_linux(PR_SET_CHILD_SUBREAPER, 1)
    request, starter_ended = StopRequest(), threading.Event()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=kept_open,
        preexec_fn=partial(_set_on_linux, PR_SET_PDEATHSIG, signal.SIGTERM),
    )

    def watch() -> None:
        os.read(0, 1)
        starter_ended.set()

    threading.Thread(target=watch, daemon=True).start()
    while child.poll() is None and not request and not starter_ended.is_set():
        time.sleep(POLL_SECONDS)
    code = _end(child, INTERRUPT_SECONDS if request.signal == signal.SIGINT else 0.0)
    _end_rest()
    return code if code >= 0 else 128 - code


def _end(child: subprocess.Popen[bytes], seconds: float) -> int:
    """End the command, after as many seconds in which it may end by itself; its exit code."""
    _wait_while(lambda: child.poll() is None, seconds)
    if child.poll() is None:
        child.terminate()
        _wait_while(lambda: child.poll() is None, STOP_SECONDS - seconds)
    if child.poll() is None:
        child.kill()
    return child.wait()


def _end_rest() -> None:
    """End the processes that the command has left: they may finish, then are asked, then killed."""
    _wait_while(_descendants, REST_SECONDS)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in _descendants():
            _send(process, number)
        _wait_while(_descendants, ASKED_SECONDS)


def _wait_while(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while condition() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _set_on_linux(option: int, value: int) -> None:
    """Set what Linux does when a process of this family dies; other systems have no such option."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _descendants() -> list[int]:
    """The processes that descend from this one and have not ended, as Linux lists them."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of a program, in parentheses, may contain anything.
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        process = int(stat.parent.name)
        if state != "Z":
            children[int(parent)].append(process)
        elif int(parent) == os.getpid():
            os.waitpid(process, os.WNOHANG)
    found = [os.getpid()]
    for process in found:  # which grows meanwhile
        found += children[process]
    return found[1:]


def _send(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return  # it has just ended


if __name__ == "__main__":
    sys.exit(guard(sys.argv[2:], [int(n) for n in sys.argv[1].split(",") if n]))
