"""A headless browser, and looking at a page in it as a reader does."""

from __future__ import annotations

import base64
import io
import shutil
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

IN_A_BROWSER = [
    pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="no chromium with chromedriver on the PATH"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # selenium leaves its sockets to the garbage collector
]


def started(profile: str) -> Any:
    """Start the browser; a test is skipped where that cannot be."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.common.exceptions import SessionNotCreatedException
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        return webdriver.Chrome(options=options, service=Service(DRIVER))
    except SessionNotCreatedException as error:
        pytest.skip(f"the browser does not start here: {error.msg}")


def seen_at(browser: Any, width: int, scheme: str = "light", height: int = 900) -> None:
    """Look at pages from now on through a window of this size, in the light or dark scheme, or as a dark one prints."""
    printed = scheme == "printed"
    features = [{"name": "prefers-color-scheme", "value": "dark" if printed else scheme}]
    media = {"media": "print" if printed else "", "features": features}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def surveyed(browser: Any, rule: str) -> None:
    """Wait until the explorer has judged all its mixes under a rule."""
    from selenium.webdriver.support.wait import WebDriverWait

    told = "return document.getElementById('explorer').dataset.surveyed"
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(told) == rule)


def pictured(browser: Any) -> NDArray[np.uint8]:
    """Return what the window shows, (height, width, 3)."""
    png = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        return np.asarray(picture.convert("RGB"))
