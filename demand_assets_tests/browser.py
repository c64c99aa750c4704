"""A headless Chromium for tests: pages opened, clicked, read and looked at."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By

from demand_assets_tests.servers import ProgramMissing

SWITCHES = [
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Browser:
    """One window."""

    driver: webdriver.Chrome

    def open(
        self, address: str, *, width: int = 1280, height: int = 1000, dark: bool = False
    ) -> None:
        """Open a page in a window of the given size in pixels; what came before is forgotten."""
        self.driver.get("about:blank")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(address)

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def click_text(self, text: str) -> None:
        self.driver.find_element(By.XPATH, f"//*[text()='{text}']").click()

    def drag(self, selector: str, start: float, end: float) -> None:
        """Drag from one part of an element's width to another, each from 0 to 1."""
        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        left, width = -element.size["width"] / 2, element.size["width"]
        mouse = ActionChains(self.driver)
        mouse.move_to_element_with_offset(element, round(left + start * width), 0).click_and_hold()
        mouse.move_to_element_with_offset(element, round(left + end * width), 0).release().perform()

    def text(self, selector: str) -> str:
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def value(self, name: str) -> float | None:
        """The value behind a `data` element, None where it is unknown."""
        text = self.driver.find_element(By.ID, name).get_attribute("value")
        return float(text) if text else None

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def complaints(self) -> list[str]:
        """What the page said on its console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def hosts_asked(self) -> set[str]:
        """With whom the page has spoken; the empty name is the disk."""
        events = (
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        )
        addresses = (
            urlsplit(event["params"]["request"]["url"])
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        )
        return {url.hostname or "" for url in addresses if url.scheme not in ("data", "about")}

    def screenshot(self, file: Path) -> None:
        self.driver.save_screenshot(str(file))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser until the block ends.

    Raises:
        ProgramMissing: Chromium or its driver is not installed.
    """
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if not all(programs):
        raise ProgramMissing("chromium and chromedriver are not both installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Chromium's sandbox refuses to work for root.
    for switch in [*SWITCHES, *(["--no-sandbox"] if os.getuid() == 0 else [])]:
        options.add_argument(switch)
    with TemporaryDirectory() as profile:
        options.add_argument(f"--user-data-dir={profile}")
        driver = webdriver.Chrome(options, webdriver.ChromeService(str(programs[1])))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
