"""A headless Chromium for tests: opens pages, clicks and drags, and reads what is shown."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from demand_assets_tests.support.servers import ProgramMissing

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
        """Open a page in a window of the given size in pixels, and discard earlier logs."""
        self.driver.get("about:blank")
        self.resize(width, height)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(address)

    def resize(self, width: int, height: int) -> None:
        """Resize the window; a narrow one is that of a phone with a touch screen."""
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def click_text(self, text: str) -> None:
        self.driver.find_element(By.XPATH, f"//*[text()='{text}']").click()

    def drag(self, selector: str, start: float, end: float) -> None:
        """Drag from one part of an element's width to another, each from 0 to 1."""
        self._mouse_at(selector, start).click_and_hold().perform()
        self._mouse_at(selector, end).release().perform()

    def hover(self, selector: str, part: float) -> None:
        """Move the mouse to a part of an element's width, from 0 to 1."""
        self._mouse_at(selector, part).perform()

    def _mouse_at(self, selector: str, part: float) -> ActionChains:
        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        right = round((part - 0.5) * element.size["width"])
        return ActionChains(self.driver, duration=20).move_to_element_with_offset(element, right, 0)

    def swipe_up(self, selector: str, pixels: int) -> None:
        """Move a finger up from the middle of an element, and a little to the side."""
        box = self.driver.find_element(By.CSS_SELECTOR, selector).rect
        x, y = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for part in (0, 0.25, 0.5, 0.75, 1):
            finger = {"x": x + part * pixels / 8, "y": y - part * pixels}
            touch = {"type": "touchMove" if part else "touchStart", "touchPoints": [finger]}
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
        self.driver.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []}
        )

    def until(self, script: str, expected: Any) -> Any:
        """The result of a script once it is the expected one, or after five seconds."""
        with suppress(TimeoutException):
            WebDriverWait(self.driver, 5, 0.02).until(lambda _: self.run(script) == expected)
        return self.run(script)

    def text(self, selector: str) -> str:
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def value(self, name: str) -> float | None:
        """The value of a `data` element, None if it is unknown."""
        text = self.driver.find_element(By.ID, name).get_attribute("value")
        return float(text) if text else None

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def console_messages(self) -> list[str]:
        """The messages on the console since the page was opened or this was last called."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested_hosts(self) -> set[str]:
        """The hosts that the page has sent requests to; the empty name is the disk."""
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
    # Chromium's sandbox does not work for root.
    for switch in [*SWITCHES, *(["--no-sandbox"] if os.getuid() == 0 else [])]:
        options.add_argument(switch)
    with TemporaryDirectory() as profile:
        options.add_argument(f"--user-data-dir={profile}")
        driver = webdriver.Chrome(options, webdriver.ChromeService(str(programs[1])))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
