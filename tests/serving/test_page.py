"""The page in a real browser, on a server of its own: photos in, answers in words, and what a
person says of them to the review page.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from browser import PATIENCE_S, press, wait_for
from conftest import ROOT, copy_project
from exports import tiny_export
from PIL import Image
from projects import browser_of, twelve
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

pytestmark = browser.needed
RED, GREY, WHITE = (220, 30, 30), (90, 90, 90), (255, 255, 255)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser.opened() as driver:
        driver.set_window_size(360, 800)  # a small phone; nothing here may need more
        yield driver


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after label-check, with a model whose classes are colours."""
    folder = copy_project(tmp_path_factory.mktemp("page") / "project")
    twelve(folder)
    params = (folder / "params.yaml").read_text()
    # a busy machine must not raise an alert
    params = params.replace("serving: {use: default}", "serving: {use: default, timeout_s: 120}")
    (folder / "params.yaml").write_text(
        params.replace(
            "monitor: {use: default}", "monitor: {use: default, every_s: 1, max_p95_ms: 120000}"
        )
    )
    tiny_export(folder / "export")
    for name, colour in (("red", RED), ("grey", GREY), ("white", WHITE)):
        Image.new("RGB", (80, 60), colour).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "note.txt").write_text("not even by its name")
    return folder


@pytest.fixture(scope="module")
def url(project: Path) -> Iterator[str]:
    line = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "serve",
        "--folder",
        "export",
        "--port",
        "0",
        "--feedback",
    ]
    process = subprocess.Popen(
        line,
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield next(word for word in process.stdout.readline().split() if word.startswith("http"))
    process.send_signal(signal.SIGTERM)
    process.wait()
    process.stdout.close()


@pytest.fixture
def page(chrome: Chrome, url: str) -> Chrome:
    chrome.get(url)
    wait_for(chrome, "#about", "knows 3 classes: red, green, blue")
    chrome.get_log("browser")
    return chrome


def show(page: Chrome, *files: Path) -> None:
    page.find_element(By.ID, "files").send_keys("\n".join(map(str, files)))
    WebDriverWait(page, PATIENCE_S).until(
        lambda page: (
            len(page.find_elements(By.CSS_SELECTOR, '.card[aria-busy="false"]')) == len(files)
        )
    )


def cards(page: Chrome) -> list[str]:
    return [card.text for card in page.find_elements(By.CSS_SELECTOR, ".card")]


def button(page: Chrome, words: str) -> None:
    """By keyboard, as who sees or moves badly would."""
    found = page.find_element(By.XPATH, f"//button[starts-with(normalize-space(), '{words}')]")
    page.execute_script("arguments[0].focus()", found)
    press(page, Keys.ENTER)


def test_photos_are_answered_in_words_and_bars(page: Chrome, project: Path) -> None:
    show(
        page,
        *(
            project / name
            for name in ("note.txt", "red.png", "grey.png", "white.png", "broken.png")
        ),
    )
    broken, white, grey, red, note = cards(page)
    assert (
        "red\nred\nover 99" in red
        and "not sure" not in red
        and "fieldmark version" in red
        and " ms" in red
    )
    assert "I am not sure: perhaps red" in grey and "A person should look at it." in grey
    assert "unlike those the model learned from" in white
    assert all(
        "Not an image of a known format" in text and "Try again" not in text
        for text in (broken, note)
    )
    bars = page.find_elements(By.CSS_SELECTOR, ".card:nth-last-child(2) progress")
    assert [round(float(bar.get_attribute("value") or 0)) for bar in bars] == [1, 0, 0]
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_what_happens_is_said_to_a_screen_reader_and_everything_has_a_name(
    page: Chrome, project: Path
) -> None:
    show(page, project / "grey.png")
    wait_for(page, "#live", "grey.png: I am not sure")
    button(page, "This is wrong")
    nameless = page.execute_script(
        "return [...document.querySelectorAll('button, input:not([hidden]), img, "
        "dialog[open]')].filter((el) => el.tagName === 'IMG' ? !el.alt :"
        " !(el.textContent.trim() || el.ariaLabel || el.labels?.length)).map((el) => el.outerHTML)"
    )
    assert nameless == []
    assert (
        page.execute_script("return document.activeElement.labels[0].textContent")
        == "Search a class, or name a new one"
    )
    # the dialog shows its photo
    assert page.find_element(By.CSS_SELECTOR, "dialog img").get_attribute("alt") == "grey.png"


def test_of_several_photos_each_is_heard_and_the_buttons_of_each_are_in_a_group_of_its_name(
    page: Chrome, project: Path
) -> None:
    show(page, *(project / f"{name}.png" for name in ("red", "grey", "white")))
    heard = page.find_element(By.ID, "live")
    assert all(
        f"{name}.png: " in str(heard.get_property("innerText")) for name in ("red", "grey", "white")
    )
    assert [
        card.get_attribute("aria-label") for card in page.find_elements(By.CSS_SELECTOR, ".card")
    ] == ["white.png", "grey.png", "red.png"]


def test_where_the_model_looked_is_shown_on_demand(page: Chrome, project: Path) -> None:
    show(page, project / "red.png")
    button(page, "Where did it look?")
    wait_for(page, ".card", "Grey: no effect")
    picture = page.find_element(By.CSS_SELECTOR, ".picture img")
    assert (picture.get_attribute("src") or "").startswith("data:image/png;base64,")
    WebDriverWait(page, PATIENCE_S).until(
        lambda page: (
            page.execute_script("return document.querySelector('.picture img').naturalWidth") == 32
        )
    )
    assert page.execute_script("return document.activeElement.textContent") == "Show the photo"
    assert page.get_log("browser") == []  # the policy lets the picture through


def test_a_photo_is_pasted_and_one_is_dropped(page: Chrome) -> None:
    make = (
        "const canvas = document.createElement('canvas'); canvas.width = canvas.height = 40; "
        "const paint = canvas.getContext('2d');"
        "paint.fillStyle = arguments[0]; paint.fillRect(0, 0, 40, 40); const done = arguments[1];"
        "canvas.toBlob((blob) => "
        "{ const data = new DataTransfer(); data.items.add(new File([blob], arguments[0] + '.png', { type: 'image/png' }));"
    )
    page.execute_async_script(
        make + "document.dispatchEvent(new ClipboardEvent('paste', "
        "{ clipboardData: data, bubbles: true })); done(); });",
        "lime",
    )
    wait_for(page, ".answer", "green")
    page.execute_async_script(
        make + "document.body.dispatchEvent(new DragEvent('drop', "
        "{ dataTransfer: data, bubbles: true })); done(); });",
        "blue",
    )
    wait_for(page, ".answer", "blue")


def test_a_phone_takes_a_photo_with_the_camera_behind(page: Chrome) -> None:
    camera = page.find_element(By.ID, "camera")
    assert (camera.get_attribute("capture"), camera.get_attribute("accept")) == (
        "environment",
        "image/*",
    )


def test_a_computer_takes_one_with_its_own_camera_or_says_that_it_may_not(
    page: Chrome, url: str
) -> None:
    def may(setting: str) -> None:
        page.execute_cdp_cmd(
            "Browser.setPermission",
            {"permission": {"name": "camera"}, "setting": setting, "origin": url},
        )

    may("denied")
    button(page, "Take a photo")
    wait_for(page, "#banner", "This page may not use the camera")
    may("granted")
    button(page, "Take a photo")
    WebDriverWait(page, PATIENCE_S).until(
        lambda page: page.execute_script("return document.activeElement.textContent") == "Take it"
    )
    press(page, Keys.ENTER)
    wait_for(page, ".card", "camera.jpg")
    WebDriverWait(page, PATIENCE_S).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, ".card progress")
    )
    assert page.find_element(By.ID, "banner").text == "" and not page.find_elements(
        By.CSS_SELECTOR, "dialog[open], video"
    )
    assert page.get_log("browser") == []


def test_a_version_that_came_while_the_page_was_open_brings_its_classes(
    page: Chrome, project: Path
) -> None:
    page.execute_script(
        "Object.assign(model, { version: 'older', classes: ['plum'] }); "
        "document.getElementById('about').textContent = ''"
    )
    show(page, project / "red.png")
    wait_for(page, "#about", "knows 3 classes: red, green, blue")
    button(page, "This is wrong")
    assert [option.text for option in page.find_elements(By.CSS_SELECTOR, ".options button")] == [
        "red",
        "green",
        "blue",
    ]


def test_an_objection_waits_on_the_review_page(page: Chrome, project: Path) -> None:
    show(page, project / "red.png")
    button(page, "This is wrong")
    press(page, "d", "o", "g", Keys.ENTER)  # a new class
    wait_for(page, ".card", "It is noted as “dog”")
    wait_for(page, "#live", "It is noted as “dog”")
    assert page.execute_script("return document.activeElement.textContent") == "This is wrong"
    (item,) = browser_of(project, "Ada").get("/api/items", params={"kind": "feedback"}).json()
    assert (item["suggested_label"], item["predicted"]) == ("dog", "red")
    assert page.get_log("browser") == []


def test_the_monitor_shows_what_was_asked_wide_and_on_a_phone(
    page: Chrome, url: str, project: Path
) -> None:
    show(page, project / "red.png", project / "broken.png")
    page.get_log("browser")  # the refusal of the second one

    def read(page: Chrome, query: str = "") -> str:
        page.get(f"{url}/monitor{query}")
        return str(page.execute_script("return document.body.innerText"))

    try:
        WebDriverWait(page, PATIENCE_S).until(lambda page: "422: " in read(page))
        assert re.search(r"read at \d\d:\d\d:\d\d, and again every 1 s", read(page))
        for width in (360, 1280):
            page.set_window_size(width, 800)
            # a paused page does not reload while it is measured
            assert "No alert." in read(page, "?paused=true")
            assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
            sizes = page.execute_script(
                "return [...document.querySelectorAll('svg, .tile')].map((el) => "
                "el.getBoundingClientRect().width)"
            )
            assert len(sizes) == 3 + 5 and min(sizes) > 100
            cut = page.execute_script(
                "return [...document.querySelectorAll('.mix .number')].filter((el) => {"
                "el.textContent = '100.0 %'; return el.scrollWidth > el.clientWidth; }).length"
            )
            assert cut == 0
            assert (
                page.execute_script("return document.querySelector('path.bar').getBBox().height")
                > 10
            )
        assert page.get_log("browser") == []
    finally:
        page.set_window_size(360, 800)


def test_a_server_that_goes_away_is_said(page: Chrome, project: Path) -> None:
    page.execute_script(
        "window.real = fetch; window.fetch = () => Promise.reject(new TypeError('gone'))"
    )
    show(page, project / "red.png")
    assert "The server does not answer." in cards(page)[0] and "Try again" in cards(page)[0]
    page.execute_script("window.fetch = window.real")
    button(page, "Try again")
    wait_for(page, ".card .answer", "red")
    # the keyboard focus is still there
    assert page.execute_script("return document.activeElement.ariaLabel") == "red.png"


def test_a_server_that_hangs_is_not_waited_for_without_end(page: Chrome, project: Path) -> None:
    page.execute_script("AbortSignal.timeout = () => AbortSignal.abort()")  # the time is over
    show(page, project / "red.png")
    assert "The server does not answer." in cards(page)[0] and "Try again" in cards(page)[0]


def test_a_file_that_is_gone_is_not_put_down_to_the_server(page: Chrome, project: Path) -> None:
    lost = project / "lost.png"
    lost.write_bytes((project / "red.png").read_bytes())
    page.execute_script(
        "window.real = fetch; window.fetch = () => Promise.reject(new TypeError('gone'))"
    )
    show(page, lost)
    lost.unlink()
    page.execute_script("window.fetch = window.real")
    button(page, "Try again")
    wait_for(page, ".card", "This browser cannot read the file.")
