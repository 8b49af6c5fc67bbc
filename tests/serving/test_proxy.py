"""Behind a reverse proxy: under another path, and who is believed about the client."""

import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import APIRouter, Request
from fastapi.testclient import TestClient
from holding import wait_until
from pydantic import ValidationError
from test_api import is_problem, picture, settings
from traffic import MONITOR

from pipeline import FieldmarkError
from pipeline.serving import app as serving_app
from pipeline.serving import feedback, page, server
from pipeline.serving.keys import Keys
from pipeline.serving.monitoring import watch
from pipeline.serving.swap import Folder

EXAMPLES = Path(page.__file__).parent
PROXY, ELSEWHERE = "10.0.0.7", "203.0.113.5"
FROM_PROXY = {"x-forwarded-prefix": "/fm", "x-forwarded-for": ELSEWHERE}


def api(export: Path, *, client: str = PROXY, **changes: object) -> TestClient:
    """The whole server as a client at that address sees it, with a route that tells what it is
    taken for.
    """
    echo = APIRouter()

    @echo.get("/who")
    def who(request: Request) -> dict[str, str]:
        assert request.client
        return {"client": request.client.host, "scheme": request.url.scheme}

    made = serving_app.create(
        settings(hosts=["testserver"], **changes),
        Folder(export, "fieldmark"),
        routers=[page.router(), feedback.router(None), echo],
    )
    watch(made, MONITOR, f"sqlite:///{export / 'monitor.db'}")
    return TestClient(made, client=(client, 1), follow_redirects=False)


@pytest.mark.parametrize("sent", ["/fm", ""])
@pytest.mark.parametrize("how", ["conf", "header"])
def test_every_link_of_page_and_docs_stays_below_the_root_path(
    export: Path, how: str, sent: str
) -> None:
    """Whether the proxy takes the prefix off or not, and whoever names it."""
    changes = {"root_path": "/fm"} if how == "conf" else {"proxies": [PROXY]}
    browser = api(export, **changes)
    browser.headers.update(FROM_PROXY if how == "header" else {})
    front = browser.get(f"{sent}/").text
    links = re.findall(r'<a href="([^"]+)"', front) + re.findall(r'call\(["`]([\w/]+)', front)
    assert {"monitor", "docs", "model", "predict", "feedback"} <= set(links)
    assert not [link for link in links if link.startswith("/")]
    assert browser.get(f"{sent}/model").status_code == 200
    docs = browser.get(f"{sent}/docs").text
    own = re.findall(r"""(?:src|href|url)(?:=|: )['"]([^'"]+)['"]""", docs)
    assert len(own) >= 4 and all(link.startswith("/fm/") for link in own)
    assert all(browser.get(link).status_code == 200 for link in own)
    document = browser.get(f"{sent}/openapi.json").json()
    assert document["servers"] == [{"url": "/fm"}]
    assert browser.post(f"{sent}/predict", files={"files": ("a", picture())}).status_code == 200
    counters = browser.app.state.server.counters  # type: ignore[attr-defined]
    assert counters.registry.get_sample_value("fieldmark_requests_total", {"status": "200"}) == 1


def test_the_root_path_itself_leads_to_the_page(export: Path) -> None:
    answer = api(export, root_path="/fm").get("/fm")
    assert (answer.status_code, answer.headers["location"]) == (308, "/fm/")


@pytest.mark.parametrize("path", ["/fm/model", "/model", "/fm/fm/model", "/fmmodel"])
def test_under_a_root_path_no_way_leads_round_the_key(export: Path, path: str) -> None:
    keys = Keys({"hash": "ada"}, 1.0, 9)
    made = serving_app.create(settings(root_path="/fm"), Folder(export, "fieldmark"), keys=keys)
    assert is_problem(TestClient(made).get(path), 401)


@pytest.mark.parametrize(
    ("client", "proxies", "believed"),
    [
        (PROXY, [PROXY], True),
        (PROXY, ["10.0.0.0/8"], True),
        (PROXY, ["127.0.0.1"], False),
        (PROXY, [], False),
        ("127.0.0.1", [], False),
        ("::1", ["::1"], True),
    ],
)
def test_only_a_proxy_that_is_named_is_believed(
    export: Path, client: str, proxies: list[str], believed: bool
) -> None:
    asked = api(export, client=client, proxies=proxies)
    told = {**FROM_PROXY, "x-forwarded-proto": "https"}
    expected = (ELSEWHERE, "https") if believed else (client, "http")
    assert tuple(asked.get("/who", headers=told).json().values()) == expected
    prefix = asked.get("/openapi.json", headers=told).json().get("servers")
    assert prefix == ([{"url": "/fm"}] if believed else None)


def test_the_last_address_that_is_no_proxy_is_the_client(export: Path) -> None:
    """What stands before it was written by whoever asked."""
    asked = api(export, proxies=["10.0.0.0/8"])
    told = {"x-forwarded-for": f"1.2.3.4, {ELSEWHERE}, 10.0.0.9"}
    assert asked.get("/who", headers=told).json()["client"] == ELSEWHERE


@pytest.mark.parametrize("prefix", ["//evil.example", "/a//b", '/"><script>', "fm", "/fm?x", "/é"])
def test_a_prefix_that_is_no_path_is_no_prefix(export: Path, prefix: str) -> None:
    asked = api(export, proxies=[PROXY])
    answer = asked.get("/openapi.json", headers={"x-forwarded-prefix": prefix.encode()})
    assert answer.status_code == 200 and "servers" not in answer.json()


@pytest.mark.parametrize(
    "wrong", [{"proxies": ["*"]}, {"proxies": ["proxy.lan"]}, {"root_path": "fm/"}]
)
def test_what_names_no_proxy_or_path_is_refused_in_conf(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        settings(**wrong)


def test_a_server_behind_a_proxy_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError, match="behind a proxy .* --new-key"):
        server.guarded(settings(proxies=["127.0.0.1"], keys_file=str(tmp_path / "none")))


@pytest.mark.parametrize("name", ["Caddyfile.example", "nginx.conf.example"])
def test_an_example_says_what_conf_says(name: str) -> None:
    text, cfg = (EXAMPLES / name).read_text(), settings()
    assert f"{cfg.host}:{cfg.port}" in text
    assert "X-Forwarded-Prefix /fm" in text
    size = re.search(r"(?:max_size|max_body_size) (\d+)", text)
    wait = re.search(r"(?:read_timeout|response_header_timeout) (\d+)s", text)
    assert size and float(size[1]) == cfg.max_upload_mb
    assert wait and float(wait[1]) > cfg.timeout_s
    assert text.count("{") == text.count("}")
    told = re.search(r"proxies: \[([^]]*)\], hosts: \[([^]]*)\]", text)
    assert told and told[2] in text.replace(told[0], "")
    settings(proxies=[told[1]], hosts=[told[2]])


@contextmanager
def behind_nginx(export: Path, folder: Path) -> Iterator[int]:
    """The port at which nginx, set up by the example, passes on to a server."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=photos.example.org", "-days", "2", "-nodes"]
    made = ["-keyout", str(key), "-out", str(certificate)]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, *made]
    subprocess.run(new, check=True, capture_output=True)
    cfg = settings(proxies=["127.0.0.1"], hosts=["photos.example.org"])
    app = serving_app.create(cfg, Folder(export, "fieldmark"), routers=[page.router()])
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", proxy_headers=False))
    with socket.create_server(("127.0.0.1", 0)) as ours, socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        text = (EXAMPLES / "nginx.conf.example").read_text()
        for old, new_text in (
            ("127.0.0.1:8422", f"127.0.0.1:{ours.getsockname()[1]}"),
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("/etc/ssl/photos.example.org.pem", str(certificate)),
            ("/etc/ssl/photos.example.org.key", str(key)),
        ):
            assert old in text
            text = text.replace(old, new_text)
        temporary = "".join(
            f"{kind}_temp_path {folder / kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        whole = folder / "nginx.conf"
        head = f"pid {folder / 'pid'}; daemon off; events {{}} http {{ access_log off; {temporary}"
        whole.write_text(f"{head}\n{text}\n}}\n")
        command = ["nginx", "-c", str(whole), "-e", str(folder / "errors"), "-p", str(folder)]
        subprocess.run([*command, "-t"], check=True)
        thread = threading.Thread(target=running.run, args=([ours],))
        thread.start()
        nginx = subprocess.Popen(command)
        try:
            yield port
        finally:
            nginx.terminate()
            nginx.wait()
            running.should_exit = True
            thread.join()


def browsing(port: int, folder: Path) -> httpx.Client:
    """A browser at the page of the example's name."""
    trust = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    trust.check_hostname = False
    name = "photos.example.org"
    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}",
        verify=trust,
        headers={"host": name, "origin": f"https://{name}"},
    )


@pytest.mark.skipif(shutil.which("nginx") is None, reason="apt install nginx-light")
def test_page_and_predictions_come_through_nginx_by_tls(export: Path, tmp_path: Path) -> None:
    with behind_nginx(export, tmp_path) as port, browsing(port, tmp_path) as browser:

        def answers() -> bool:
            try:
                return browser.get("/fm/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, "nginx answers")
        assert browser.get("/fm").headers["location"].endswith("/fm/")
        assert "drop" in browser.get("/fm/").text
        assert browser.get("/fm/openapi.json").json()["servers"] == [{"url": "/fm"}]
        said = browser.post("/fm/predict", files={"files": ("a", picture("green"))})
        assert said.json()["predictions"][0]["top"][0]["class"] == "green"
