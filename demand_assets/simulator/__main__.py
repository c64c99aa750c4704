"""The simulator from the command line: `python -m demand_assets.simulator --help`."""

import argparse
import sys
import threading

from demand_assets.processes import be_interruptible, run_command
from demand_assets.simulator import Fault, RecordedDays, Simulator, SyntheticDays


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    try:
        simulator = Simulator(
            RecordedDays(options.recordings) if options.recordings else SyntheticDays(),
            port=options.port,
            latency=options.latency,
            latency_per_day=options.latency_per_day,
            max_days=options.max_days,
            too_long=Fault(options.too_long),
            faults={day: name for day, _, name in (text.partition("=") for text in options.fault)},
            verbose=options.verbose,
        )
    except ValueError as problem:
        parser.error(str(problem))

    be_interruptible()
    try:
        with simulator:
            print(f"listening on {simulator.url}", flush=True)
            if options.command:
                return run_command(options.command, REDATA_BASE_URL=simulator.url)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except (OSError, OverflowError) as problem:
        print(f"cannot listen on port {options.port}: {problem}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, Fault))
    table = "\n".join(f"  {fault:{width}}  {fault.meaning}" for fault in Fault)
    parser = argparse.ArgumentParser(
        prog="python -m demand_assets.simulator",
        description="A look-alike of the REData API on 127.0.0.1, until it is interrupted.",
        epilog=f"faults:\n{table}\n\nNAME*N heals after N requests.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=8000, help="default 8000; 0 takes a free one")
    add("--recordings", metavar="DIR", help="serve the recorded days in DIR, not synthetic ones")
    add("--latency", type=float, default=0.0, metavar="S", help="seconds before each answer")
    add("--latency-per-day", type=float, default=0.0, metavar="S", help="and for each day in it")
    add("--max-days", type=int, metavar="N", help="longer spans fail")
    add("--too-long", default=Fault.REFUSED, metavar="NAME", help="how they fail; default refused")
    add("--fault", action="append", default=[], metavar="DAY=NAME", help="DAY may be * for all")
    add("--verbose", action="store_true", help="log each request")
    run = "run this with REDATA_BASE_URL set to the simulator, and end when it ends"
    add("command", nargs="*", metavar="-- COMMAND", help=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
