"""A server that stands beside a command, and ends when it ends."""

import os
import signal
import subprocess


def be_interruptible() -> None:
    """Have both SIGINT and SIGTERM raise KeyboardInterrupt.

    Set for both: a shell that starts a job in the background has it ignore SIGINT.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def run_command(command: list[str], **environment: str) -> int:
    """The command's exit code. What interrupts this process is passed on to the command."""
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
