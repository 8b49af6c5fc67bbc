"""The review page in a real browser, by keyboard, also with a server that is killed in the
middle.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import browser
import numpy as np
import pytest
import uvicorn
from browser import PATIENCE_S, press, wait_for
from conftest import ROOT
from ports import free_port
from projects import HOSTILE, TOKEN, browser_of, square, twelve, write_project
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from pipeline.labels import decisions
from pipeline.review import entry
from pipeline.review.app import create_app
from pipeline.storage import table

pytestmark = browser.needed


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser.opened() as driver:
        yield driver


class Server:
    """`fieldmark review` as a process of its own."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        command = [
            sys.executable,
            "-m",
            "pipeline.cli",
            "review",
            "--no-browser",
            "--by",
            "Ada",
            "--port",
            str(port),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = next(
            word for word in self.process.stdout.readline().split() if word.startswith("http")
        )
        self.port = urlsplit(self.url).port or 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    running: list[Server] = []
    yield running
    for server in running:
        server.kill()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Starts the review page of a project in a thread of this process, for who does not kill it;
    the page's address.
    """
    with ExitStack() as running:
        yield lambda folder: running.enter_context(served(folder))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(folder, "Ada", TOKEN), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield entry.address(f"http://127.0.0.1:{listening.getsockname()[1]}", TOKEN)
        server.should_exit = server.force_exit = True
        thread.join()


def open_page(chrome: Chrome, url: str) -> None:
    chrome.get(url)
    chrome.execute_script("sessionStorage.clear()")
    wait_for(chrome, ".caption", ".png")
    chrome.get_log("browser")


def said(folder: Path) -> list[list[str]]:
    return (
        decisions.read(folder / "data" / "decisions")[["id", "decision", "label"]]
        .to_numpy()
        .tolist()
    )


def test_twenty_suspects_by_keyboard_survive_a_kill_of_the_server(
    chrome: Chrome, servers: list[Server], tmp_path: Path
) -> None:
    labels = ["cat", "dog"] * 15
    suspects = {i: (labels[i + 1], 0.99 - i / 100) for i in range(20)}
    folder = write_project(tmp_path, labels, [square(8 * i) for i in range(30)], suspects)
    servers.append(Server(folder, free_port()))  # it has to be free again
    open_page(chrome, servers[0].url)
    press(chrome, *[Keys.SPACE, Keys.ENTER] * 5)
    servers[0].kill()  # whatever is under way at this moment
    press(chrome, Keys.SPACE, Keys.ENTER, "d")
    wait_for(chrome, "#banner", "will be written when it is back")
    servers.append(Server(folder, servers[0].port))
    press(chrome, *[Keys.SPACE, Keys.ENTER] * 3, "u")
    wait_for(chrome, "#count", "20 of 20 decided")
    wait_for(chrome, "#stage", "dvc repro")
    expected = ["keep", "relabel"] * 6 + ["drop"] + ["keep", "relabel"] * 3 + ["unsure"]
    assert [what for _, what, _ in said(folder)] == expected
    assert len({id for id, _, _ in said(folder)}) == 20


def test_undo_a_new_class_and_a_hostile_one(
    chrome: Chrome, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    folder = twelve(tmp_path)
    open_page(chrome, serve(folder))
    press(chrome, Keys.SPACE, "z")
    wait_for(chrome, "#toast", "Undone")
    press(chrome, "f", "o", "x", Keys.ENTER)
    wait_for(chrome, "#pick", "none of the 3 classes so far")
    press(chrome, Keys.ENTER)
    wait_for(chrome, "#count", "1 of 3")
    press(chrome, "1")  # classes in order: the hostile one comes first
    wait_for(chrome, "#count", "2 of 3")
    assert [what[1:] for what in said(folder)][-2:] == [["relabel", "fox"], ["relabel", HOSTILE]]
    wait_for(chrome, ".chips", HOSTILE)
    assert chrome.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
    assert chrome.get_log("browser") == []  # nothing was refused by the policy, nothing failed


@pytest.mark.slow
def test_a_reload_can_still_undo(
    chrome: Chrome, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    folder = twelve(tmp_path)
    url = serve(folder)
    open_page(chrome, url)
    press(chrome, Keys.SPACE)
    wait_for(chrome, "#count", "1 of 3")
    open_page(chrome, url)
    press(chrome, "z")
    wait_for(chrome, "#count", "0 of 3")
    assert [what for _, what, _ in said(folder)] == ["keep", "withdraw"]


def test_a_whole_group_is_labelled_at_once_and_taken_back(
    chrome: Chrome, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    heaps = np.repeat(4 * np.random.default_rng(0).normal(size=(3, 8)), 20, axis=0)
    folder = write_project(tmp_path, [""] * 60, [square(4 * i) for i in range(60)], {}, heaps)
    chrome.get(serve(folder))
    wait_for(chrome, "#stage h2", "12 images look alike")
    chrome.get_log("browser")
    chrome.find_element(By.CSS_SELECTOR, "#stage button").click()  # this one does not belong
    press(chrome, "c", "a", "t", Keys.ENTER, Keys.ENTER)
    wait_for(chrome, "#count", "11 of 60")
    press(chrome, "1")  # the only class so far
    wait_for(chrome, "#count", "23 of 60")
    press(chrome, "z")
    wait_for(chrome, "#count", "11 of 60")
    assert [(what, label) for _, what, label in said(folder)] == [("relabel", "cat")] * 23 + [
        ("withdraw", "")
    ] * 12
    assert chrome.get_log("browser") == []


@pytest.mark.slow
def test_who_moves_by_tab_keeps_the_place_and_who_clicks_keeps_the_keys(
    chrome: Chrome, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    folder = twelve(tmp_path)
    open_page(chrome, serve(folder))
    chrome.execute_script(
        "[...document.querySelectorAll('.acts button')].find((el) => "
        "el.textContent.startsWith('Unsure')).focus()"
    )
    press(chrome, Keys.ENTER)
    wait_for(chrome, "#count", "1 of 3")
    assert chrome.execute_script("return document.activeElement.textContent").startswith("Unsure")
    chrome.find_element(By.XPATH, "//button[starts-with(., 'Back')]").click()
    press(chrome, Keys.SPACE)  # keeps the label, does not press the button
    wait_for(chrome, "#kinds", "Decided")
    wait_for(chrome, "#count", "1 of 3")
    chrome.find_element(By.XPATH, "//button[contains(., 'Search or new')]").click()
    press(chrome, "c", "a", "t", Keys.ENTER, Keys.SPACE)
    wait_for(chrome, "#count", "3 of 3")
    assert [what for _, what, _ in said(folder)] == ["unsure", "keep", "relabel", "keep"]


@pytest.mark.slow
def test_the_end_of_a_list_leads_on_and_nothing_left_is_said(
    chrome: Chrome, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    folder = twelve(tmp_path)
    url = serve(folder)
    open_page(chrome, url)
    chrome.find_element(By.XPATH, "//button[starts-with(., 'Pass')]").click()
    press(chrome, Keys.SPACE, Keys.SPACE)
    wait_for(chrome, "#stage", "1 image passed over")
    wait_for(chrome, "#stage", "2 of 3.")
    chrome.find_element(By.XPATH, "//button[.='Look at them again']").click()
    wait_for(chrome, ".caption", ".png")
    press(chrome, Keys.SPACE)
    wait_for(chrome, "#stage", "All decided")
    press(chrome, "n")
    wait_for(chrome, "#kinds [aria-current]", "Twin with another label")
    browser_of(folder, "Ada").post(
        "/api/decisions",
        json={
            "ids": table.read(folder / "data" / "label-check")["id"].tolist(),
            "decision": "drop",
        },
    )
    chrome.get("about:blank")
    chrome.get(url)
    wait_for(chrome, "#stage", "All decided")
    wait_for(chrome, "#kinds [aria-current]", "Suspect label")


def test_on_a_small_phone_everything_can_be_touched_and_nothing_is_cut_off(
    chrome: Chrome, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    names = ["Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen", "a"]
    folder = write_project(
        tmp_path, names * 6, [square(8 * i) for i in range(12)], {0: ("a", 0.9), 1: (names[0], 0.8)}
    )
    open_page(chrome, serve(folder))
    try:
        chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True},
        )
        small = (
            "[...document.querySelectorAll('button')].filter((el) => el.offsetWidth && "
            "(el.offsetWidth < 44 || el.offsetHeight < 44)).map((el) => el.innerText)"
        )
        assert chrome.execute_script(f"return {small}") == []
        cut_off = (
            "[...document.querySelectorAll('.finding, .verdict strong, #side "
            "h2')].filter((el) => el.scrollWidth > el.clientWidth).map((el) => "
            "el.innerText)"
        )
        assert chrome.execute_script(f"return {cut_off}") == []
        assert chrome.execute_script(
            "return [document.documentElement.scrollWidth, "
            "document.querySelector('.acts').getBoundingClientRect().bottom <= 640]"
        ) == [320, True]
        chrome.execute_script("document.querySelector('#kinds button:last-child').click()")
        wait_for(chrome, "#kinds [aria-current]", "Blurred")
        assert chrome.execute_script(
            "return document.querySelector('#kinds "
            "[aria-current]').getBoundingClientRect().right <= 320"
        )
    finally:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_groups_bear_proposals_as_soon_as_a_model_has_some(
    chrome: Chrome, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    heaps = np.repeat(4 * np.random.default_rng(0).normal(size=(6, 8)), 20, axis=0)
    folder = write_project(tmp_path, [""] * 120, [square(i) for i in range(120)], {}, heaps)
    chrome.get(serve(folder))
    wait_for(chrome, "#stage h2", "12 images look alike")
    press(chrome, "c", "a", "t", Keys.ENTER, Keys.ENTER, "/", "o", "w", "l", Keys.ENTER, Keys.ENTER)
    wait_for(chrome, "#count", "24 of 120")
    learned = (
        "return fetch('/api/items?kind=unlabelled&n=1').then((it) => "
        "it.json()).then((items) => items[0].suggested_label)"
    )
    WebDriverWait(chrome, PATIENCE_S).until(lambda page: page.execute_script(learned))
    press(chrome, "1")
    wait_for(chrome, "#count", "36 of 120")
    press(chrome, "2")
    wait_for(chrome, "#stage h2", " images, ")


@pytest.mark.slow
def test_whoever_is_faster_than_the_server_is_not_told_that_nothing_is_left(
    chrome: Chrome, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    heaps = np.repeat(4 * np.random.default_rng(0).normal(size=(6, 8)), 20, axis=0)
    folder = write_project(tmp_path, [""] * 120, [square(i) for i in range(120)], {}, heaps)
    chrome.get(serve(folder))
    wait_for(chrome, "#stage h2", "12 images look alike")
    press(chrome, "c", "a", "t", Keys.ENTER, Keys.ENTER)
    told = (
        "new MutationObserver(() => "
        "{ if ($('stage').querySelector('.finished')) window.finishedAt ??= $('count').textContent; })"
    )
    chrome.execute_script(f"{told}.observe($('stage'), {{ childList: true }})")
    chrome.execute_cdp_cmd("Network.enable", {})
    slow = {"offline": False, "latency": 150, "downloadThroughput": -1, "uploadThroughput": -1}
    chrome.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    try:
        until = time.monotonic() + 2 * PATIENCE_S
        while (
            "120 of 120" not in chrome.find_element(By.ID, "count").text
            and time.monotonic() < until
        ):
            press(chrome, "1")
    finally:
        chrome.execute_cdp_cmd("Network.emulateNetworkConditions", {**slow, "latency": 0})
    wait_for(chrome, "#count", "120 of 120")
    wait_for(chrome, "#stage", "dvc repro")
    assert chrome.execute_script("return window.finishedAt") == "120 of 120 decided"
