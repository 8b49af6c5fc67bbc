"""Where a request ends, in the eyes of whoever stands in front of the server; and methods that ask
for less than an answer.
"""

import socket
from collections.abc import Iterator

import pytest
from exports import tiny_export
from test_api import picture
from test_connection import serving


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tiny_export(tmp_path_factory.mktemp("framing") / "export"), 5.0, 100) as made:
        yield made.port


def answers(port: int, *requests: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"".join(requests))
        return b"".join(iter(lambda: client.recv(2**16), b""))


LAST = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("path", [b"/predict", b"/feedback", b"/health/live"])
def test_a_body_of_two_lengths_is_refused_and_nothing_behind_it_is_read(
    port: int, path: bytes
) -> None:
    """A proxy that goes by the other one takes the rest for a request."""
    head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n" % path
    lengths = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(picture()), picture())
    said = answers(port, head, lengths, chunk, LAST)
    assert said.startswith(b"HTTP/1.1 400 ") and b"problem:framing" in said
    assert said.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", [b"/", b"/health/live", b"/health/ready", b"/model"])
def test_head_is_answered_as_get_is_without_a_body(port: int, path: bytes) -> None:
    """Load balancers ask so whether a server is well."""
    whole = answers(port, LAST.replace(b"/health/live", path))
    head = answers(port, LAST.replace(b"/health/live", path).replace(b"GET", b"HEAD"))
    sizes = [
        line for line in whole.split(b"\r\n\r\n")[0].split(b"\r\n") if b"content-length" in line
    ]
    assert head.startswith(b"HTTP/1.1 200 ") == whole.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"\r\n\r\n") and head.count(b"\r\n\r\n") == 1
    assert len(sizes) == 1 and sizes[0] in head


def test_head_of_what_is_only_posted_to_is_refused(port: int) -> None:
    said = answers(port, b"HEAD /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 405 ") and b"allow: POST" in said
