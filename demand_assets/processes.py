"""Running a command beside a server of this process: both are interrupted and end together."""

import os
import signal
import subprocess


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
