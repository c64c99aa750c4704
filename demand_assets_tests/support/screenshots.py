"""Takes the screenshots in `docs/`: starts the demo and opens pages."""

import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from demand_assets.grid import TIME_ZONE
from demand_assets.settings import PROJECT
from demand_assets_tests.support.browser import Browser, chromium
from demand_assets_tests.support.running_system import Page, running, wait_for

DOCS = PROJECT / "docs"
TODAY = datetime.now(TIME_ZONE).date()
YESTERDAY = TODAY - timedelta(days=1)


def save(browser: Browser, address: str, name: str, *, height: int = 900, click: str = "") -> None:
    """Open a page, give it time to draw, and save a screenshot."""
    browser.open(address, width=1400, height=height)
    time.sleep(6)
    if click:
        browser.click_text(click)
        time.sleep(3)
    browser.screenshot(DOCS / name)


def main() -> None:
    page = Page()
    with TemporaryDirectory() as folder, chromium() as browser:
        log = Path(folder, "log")
        demo = running(
            ["make", "demo", f"PORT={page.port}", f"DEMO_HOME={folder}/home"],
            log,
            DEMAND_DATA_DIR=f"{folder}/data",
        )
        with demo as process:
            wait_for(page.is_up, 180, process)
            # It loads its days, trains the model, forecasts and scores by itself.
            wait_for(lambda: "Ready after" in log.read_text(), 600, process)
            address = served(log)
            page.materialize("demand_dashboard")
            wait_for(lambda: not page.runs_under_way(), 120, process)
            save(browser, address + "#7", "page.png", height=1340)
            assets = f"{page.address}/assets"
            save(browser, f"{assets}/influx_demand_points?view=partitions", "partitions.png")
            save(browser, f"{assets}/demand_dashboard", "dashboard_asset.png", height=1000)
            save(
                browser,
                f"{assets}/influx_demand_points?view=partitions&partition={YESTERDAY}",
                "day.png",
                height=1200,
                click="[Show Markdown]",
            )
    subprocess.run(["git", "status", "--short", "docs"], cwd=PROJECT, check=False)


def served(log: Path) -> str:
    """The address of the page that the demo has printed."""
    (line,) = [x for x in log.read_text().splitlines() if x.startswith("The dashboard: ")]
    return line.removeprefix("The dashboard: ")


if __name__ == "__main__":
    main()
