"""A real browser for the tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.wait import WebDriverWait

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
PATIENCE_S = 120  # a machine may be busy; what is there is seen at once
DRIVER = shutil.which("chromedriver")
needed = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)",
)


@contextmanager
def opened() -> Iterator[Chrome]:
    """Headless, 1280 x 800."""
    options = ChromeOptions()
    options.binary_location = BROWSER or ""
    looks = (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1280,800",
    )
    for argument in (*looks, "--use-fake-device-for-media-stream"):  # a camera that shows a pattern
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def press(chrome: Chrome, *keys: str) -> None:
    for key in keys:
        ActionChains(chrome).send_keys(key).perform()


def wait_for(chrome: Chrome, css: str, text: str) -> None:
    WebDriverWait(chrome, PATIENCE_S, poll_frequency=0.05).until(
        lambda page: (
            text
            in page.execute_script(
                "return document.querySelector(arguments[0])?.innerText ?? ''", css
            )
        )
    )
