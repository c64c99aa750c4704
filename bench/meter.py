"""What processes cost: CPU and memory of a process and of all that it starts."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    cpu: float
    """Seconds, with those of its children that have ended."""
    peak: float
    """MiB."""
    command: str


def processes() -> dict[int, Process]:
    """What runs on this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            status = (folder / "status").read_text()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it has ended
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "0 0 kB")
        found[int(folder.name)] = Process(
            pid=int(folder.name),
            parent=int(stat[1]),
            cpu=sum(map(int, stat[11:15])) / TICK,
            peak=int(peak.split()[1]) / 1024,
            command=command,
        )
    return found


class Meter:
    """Watches processes and all that they start."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids
        self.peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def cpu(self) -> float:
        """Seconds used so far. A child that has ended counts once its parent has waited for it."""
        return sum(process.cpu for process in self._family())

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _family(self) -> list[Process]:
        running = processes()
        family, fresh = [], list(self.pids)
        while fresh:
            pid = fresh.pop()
            if pid in running:
                family.append(running[pid])
                fresh += [p.pid for p in running.values() if p.parent == pid]
        return family

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            family = self._family()
            runs = [process.peak for process in family if "spawn_main" in process.command]
            self.peak = max([self.peak, *runs])
