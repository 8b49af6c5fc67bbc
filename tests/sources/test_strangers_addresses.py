"""Addresses that strangers write: what a listing may make this machine fetch, and what not."""

import http.server
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli, config
from pipeline.config.addresses import check_address
from pipeline.sources import Item, Skipped, address, archive, folder, listing, web

COLUMNS = {
    key: value
    for key, value in OmegaConf.load("conf/ingest/listing.yaml").source.items()
    if key != "_target_"
}


class Server(http.server.BaseHTTPRequestHandler):
    """Answers what its table says, and notes what it was asked for."""

    requests: list[str]
    files: dict[str, bytes]

    def do_GET(self) -> None:  # noqa: N802  (the standard library's name)
        self.requests.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path.startswith("/endless"):
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(2**16))
            except OSError:
                pass  # the other side has had enough
        elif self.path.startswith("/huge"):
            self.send_response(200)
            self.send_header("Content-Length", str(10**12))
            self.end_headers()
        else:
            data = self.files.get(self.path.partition("?")[0])
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "x/y")
            self.end_headers()
            self.wfile.write(data or b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Server]]]:
    handler = type("Mine", (Server,), {"requests": [], "files": {}})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", handler
    running.shutdown()
    running.server_close()


def read(images: Path | str, **changes: Any) -> list[Any]:
    return list(listing.read(images=images, **{**COLUMNS, "private_addresses": True, **changes}))


def rows(folder: Path, *paths: str) -> Path:
    (folder / "labels.csv").write_text("path,label\n" + "".join(f'"{path}",a\n' for path in paths))
    return folder / "labels.csv"


CHAINED = [
    "reference://::{url}/refs.json",
    "reference://x::{url}/refs.json",
    "zip://x.png::{url}/photos.zip",
    "zip://x.png::file:///etc/passwd",
    "simplecache::{url}/x.png",
    "filecache::{url}/x.png",
    "{url}/x.png::file:///etc/passwd",
    "tar://x::{url}/x.tar",
    "blockcache::s3://bucket/x",
]
UNREAD = [
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "local:///etc/passwd",
    "memory://x.png",
    "reference://x",
    "github://a:b@main/x.png",
    "ftp://127.0.0.1/x.png",
    "sftp://127.0.0.1/x.png",
    "smb://127.0.0.1/x.png",
    "data://image/png;base64,AAAA",
    "dir://x",
    "git://x",
    "hdfs://x/y",
    "dask://x",
    "generic://x",
]


@pytest.mark.parametrize("row", [*CHAINED, *UNREAD])
def test_a_row_of_another_scheme_or_a_chain_asks_nobody(
    tmp_path: Path, server: tuple[str, type[Server]], row: str
) -> None:
    """fsspec's references send what a template says, the environment too, to any host."""
    url, handler = server
    handler.files["/refs.json"] = b'{"version": 1, "refs": {"x": ["http://h/{{env}}"]}}'
    (entry,) = read(rows(tmp_path, row.format(url=url)))
    assert isinstance(entry, Skipped)
    assert "line 2, column path: " in entry.reason
    assert "is not read" in entry.reason
    assert handler.requests == []


@pytest.mark.parametrize("images", ["memory://x", "file:///tmp", "zip://a::file:///tmp/x.zip"])
def test_images_of_another_scheme_or_a_chain_are_refused_before_dvc_starts(
    project: Path, images: str
) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(re.sub("(?m)^images:.*", f'images: "{images}"', text))
    with pytest.raises(FieldmarkError, match="^params.yaml: images: .* is not read"):
        config.check_images()
    with pytest.raises(FieldmarkError, match="is not read"):
        list(folder.read(images=images))
    with pytest.raises(FieldmarkError, match="is not read"):
        list(archive.read(images=images, max_member_megabytes=1.0, max_ratio=9.0))


@pytest.mark.parametrize("url", ["https://[2001:db8::1]/x.png", "http://u@[::1]:80/x", "S3://b/x"])
def test_an_address_with_the_colons_of_ipv6_is_no_chain(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_fetched_only_when_asked_for(
    tmp_path: Path, server: tuple[str, type[Server]], host: str
) -> None:
    url, handler = server
    port = url.rpartition(":")[2]
    for read_one in (
        address.loader(f"http://{host}:{port}/x.png"),
        read(rows(tmp_path, f"http://{host}:{port}/x.png"), private_addresses=False)[0].load,
    ):
        with pytest.raises(OSError, match="private network.*private_addresses: true"):
            read_one()
    with pytest.raises(FieldmarkError, match="private network"):
        list(folder.read(images=f"http://{host}:{port}/photos"))
    with pytest.raises(FieldmarkError, match="private network"):
        read(f"http://{host}:{port}/labels.csv", private_addresses=False)
    assert handler.requests == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
def test_this_machine_is_not_fetched_by_an_odd_spelling(
    server: tuple[str, type[Server]], host: str
) -> None:
    url, handler = server
    with pytest.raises(OSError, match=r"."):
        address.loader(f"http://{host}:{url.rpartition(':')[2]}/x.png")()
    assert handler.requests == []


def test_when_asked_for_this_machine_is_fetched(
    tmp_path: Path, server: tuple[str, type[Server]]
) -> None:
    url, handler = server
    handler.files["/x.png"] = b"one"
    (item,) = read(rows(tmp_path, f"{url}/x.png"))
    assert item.load() == b"one"


@pytest.mark.parametrize("target", ["http://127.0.0.2:{port}/x.png", "http://localhost:{port}/x"])
def test_a_redirect_into_a_private_network_is_not_followed(
    server: tuple[str, type[Server]], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """127.0.0.1 stands for a public host: there is no other one that a test may ask."""
    url, handler = server
    judged: list[str] = []

    def is_public(ip: str) -> bool:
        judged.append(ip)
        return len(judged) == 1  # the first connection alone

    monkeypatch.setattr(web, "is_public", is_public)
    target = target.format(port=free_port_of_another(handler))
    with pytest.raises(OSError, match="private network"):
        address.loader(f"{url}/to/{target}")()
    assert handler.requests == [f"/to/{target}"]
    assert len(judged) >= 2


def free_port_of_another(_: object) -> int:
    """So that the connection to the first server is not used again."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        return int(other.getsockname()[1])


def test_a_redirect_to_a_file_is_not_followed(server: tuple[str, type[Server]]) -> None:
    with pytest.raises(OSError):
        address.loader(f"{server[0]}/to/file:///etc/passwd", private=True)()


@pytest.mark.parametrize(
    "ip",
    [
        "10.0.0.1",
        "172.16.9.9",
        "192.168.1.1",
        "127.8.8.8",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ],
)
def test_a_private_address_is_one_however_it_is_written(ip: str) -> None:
    assert not web.is_public(ip)


@pytest.mark.parametrize("ip", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_one(ip: str) -> None:
    assert web.is_public(ip)


OUTSIDE = [
    "/etc/passwd",
    "../secret.png",
    "a/../../secret.png",
    "%2e%2e/secret.png",
    "a/%252e%252e/%2E./x.png",
    "..\\\\secret.png",
    "\\\\\\\\host\\\\share.png",
    "//other/x.png",
    "C:\\\\x.png",
    "{url}/secret.png",
    "{url}/photos/../secret.png",
    "{url}/photos/%2e%2e/secret.png",
    "{url}/photosecret.png",
    "{url}@other/photos/x.png",
    "http://other.example/photos/x.png",
    "s3://bucket/photos/x.png",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("row", OUTSIDE)
def test_a_listing_from_elsewhere_names_only_what_lies_below_it(
    server: tuple[str, type[Server]], row: str
) -> None:
    url, handler = server
    text = row.replace("\\\\", "\\").format(url=url)
    handler.files["/photos/labels.csv"] = f'path,label\n"{text}",a\n'.encode()
    (entry,) = read(f"{url}/photos/labels.csv")
    assert isinstance(entry, Skipped), entry
    assert "may only name files below it" in entry.reason or "is not read" in entry.reason
    assert handler.requests == ["/photos/labels.csv"]


def test_what_lies_below_a_listing_from_elsewhere_is_read_however_it_is_named(
    server: tuple[str, type[Server]],
) -> None:
    url, handler = server
    names = ["1.png", "in/2.png", "in\\3.png", f"{url}/photos/4.png", "a..b/5.png", "no #6.png"]
    handler.files["/photos/labels.csv"] = b"path,label\n" + b"".join(
        f"{name},a\n".encode() for name in names
    )
    for number, path in enumerate(
        ["1.png", "in/2.png", "in/3.png", "4.png", "a..b/5.png", "no%20%236.png"], 1
    ):
        handler.files[f"/photos/{path}"] = str(number).encode()
    entries = read(f"{url}/photos/labels.csv")
    assert [entry.load() for entry in entries] == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_a_token_behind_a_listings_address_opens_the_files_beside_it(
    server: tuple[str, type[Server]],
) -> None:
    url, handler = server
    handler.files |= {"/photos/labels.csv": b"path,label\n1.png,a\n", "/photos/1.png": b"one"}
    (item,) = read(f"{url}/photos/labels.csv?sig=secret")
    assert (item.name, item.load()) == ("1.png", b"one")
    assert handler.requests == ["/photos/labels.csv?sig=secret", "/photos/1.png?sig=secret"]


@pytest.mark.parametrize("path", ["endless", "huge"])
def test_a_server_that_sends_too_much_is_hung_up_on(
    server: tuple[str, type[Server]], path: str
) -> None:
    with pytest.raises(OSError, match="exceed the limit of 3 for one file"):
        address.loader(f"{server[0]}/{path}", 3_000_000, private=True)()
    with pytest.raises(FieldmarkError, match="exceed the limit of 3 for one file"):
        read(f"{server[0]}/{path}/labels.csv", max_bytes=3_000_000)


def test_a_page_of_links_leads_no_higher_and_to_no_other_host(
    server: tuple[str, type[Server]],
) -> None:
    url, handler = server
    links = ["a/", "..", "../", "/", "%2e%2e/x.png", "http://other.example/", "?C=N", "a/1.png#x"]
    handler.files["/p/"] = "".join(f'<a class="x" HREF="{link}">x</a>' for link in links).encode()
    handler.files["/p/a/"] = b'<a href="/p/a/1%20&amp;.png">x</a>'
    handler.files["/p/a/1%20&.png"] = b"one"
    (item,) = folder.read(images=f"{url}/p", private_addresses=True)
    assert isinstance(item, Item)
    assert (item.name, item.load()) == ("a/1 &.png", b"one")
    assert {*handler.requests} == {"/p/", "/p/a/", "/p/a/1%20&.png"}


def test_a_pipe_in_a_row_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (item,) = read(rows(tmp_path, "pipe.png"))
    with pytest.raises(OSError, match="not a file but a folder, pipe"):
        item.load()


@given(
    scheme=st.from_regex(r"[a-z][a-z0-9+.-]{0,9}", fullmatch=True),
    rest=st.text(st.characters(codec="utf-8"), max_size=30),
)
def test_whatever_is_read_is_of_four_kinds_and_no_chain(scheme: str, rest: str) -> None:
    try:
        check_address(f"{scheme}://{rest}")
    except FieldmarkError:
        return
    assert scheme in ("http", "https", "s3", "s3a", "gs", "gcs")
    assert "::" not in re.sub(r"\[[0-9A-Fa-f:.%]*\]", "", rest, count=1)


def test_check_refuses_a_chain_on_the_command_line(project: Path) -> None:
    with pytest.raises(FieldmarkError, match="chained"):
        CliRunner().invoke(
            cli.app,
            ["ingest", "--check", "archive", "--images", "zip://x::http://127.0.0.1/x"],
            catch_exceptions=False,
        )
