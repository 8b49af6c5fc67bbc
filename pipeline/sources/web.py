"""Files of web servers, by fsspec's client: bounded, and from private networks only if allowed.

The address is checked when the connection is made, so that neither a redirect nor a DNS name
bypasses the check.
"""

import errno
import html
import ipaddress
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import fsspec
from fsspec.asyn import sync

from pipeline.sources.bounded import CHUNK_BYTES, check_size
from pipeline.sources.layout import MAX_DEPTH

MAX_PAGE_BYTES = 100_000_000  # of a page that lists a folder: a million files
LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"']+)""", re.IGNORECASE)
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address in the last four bytes


def file_system(private: bool) -> Any:
    """fsspec's file system of http:// and https://."""
    return fsspec.filesystem("https", get_client=_any_client if private else _public_client)


def read(fs: Any, url: str, max_bytes: int) -> bytes:
    """The bytes of a file; raises TooLarge as soon as the size is known, and aiohttp's errors."""
    return bytes(sync(fs.loop, _body, fs, url, max_bytes)[0])


def copy(fs: Any, url: str, to: Path, max_bytes: int | None) -> None:
    """Copy a file to disk, piece by piece; raises as `read` does."""
    sync(fs.loop, _copied, fs, url, to, max_bytes)


def below(fs: Any, root: str) -> list[str]:
    """Every address below the folder `root` (it ends in /), by the links of the server's pages."""
    addresses, waiting = {root}, [root]
    while waiting:
        page = waiting.pop()
        new = {link for link in _links(fs, page) if link not in addresses}
        addresses |= new
        waiting.extend(
            link
            for link in new
            if link.endswith("/") and link.count("/") - root.count("/") <= MAX_DEPTH
        )
    return [*addresses]


def is_public(address: str) -> bool:
    """Whether everybody can reach an IP address, in whatever form it is written.

    Private, loopback and link-local addresses are not public.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in NAT64:
            inner.append(ipaddress.IPv4Address(ip.packed[-4:]))
        if any(not is_public(str(each)) for each in inner if each is not None):
            return False
    return ip.is_global and not ip.is_multicast


def _links(fs: Any, page: str) -> set[str]:
    """The links of a page to what lies below it.

    Links to the folder above and to other sort orders are left out.
    """
    content, kind = sync(fs.loop, _body, fs, page, MAX_PAGE_BYTES)
    if kind not in ("text/html", ""):
        return set()
    text = content.decode("utf-8", "replace")
    links = {urljoin(page, html.unescape(link)) for link in LINK.findall(text)}
    return {
        link
        for link in links
        if link.startswith(page)
        and not {"?", "#"} & {*link}
        and ".." not in unquote(link).split("/")
    }


async def _body(fs: Any, url: str, max_bytes: int) -> tuple[bytearray, str]:
    session = await fs.set_session()
    async with session.get(fs.encode_url(url)) as answer:
        _check(answer, url, max_bytes)
        data = bytearray()
        async for part in answer.content.iter_chunked(CHUNK_BYTES):
            data += part
            check_size(len(data), max_bytes)
        return data, answer.headers.get("Content-Type", "").partition(";")[0].strip()


async def _copied(fs: Any, url: str, to: Path, max_bytes: int | None) -> None:
    from aiohttp import ClientTimeout

    # No limit in all: an archive may have many GB.
    patience = ClientTimeout(total=None, sock_connect=30, sock_read=60)
    session = await fs.set_session()
    async with session.get(fs.encode_url(url), timeout=patience) as answer:
        _check(answer, url, max_bytes)
        n_bytes = 0
        with to.open("wb") as file:  # noqa: ASYNC230  (nothing else runs in fsspec's loop)
            async for part in answer.content.iter_chunked(CHUNK_BYTES):
                n_bytes += len(part)
                check_size(n_bytes, n_bytes if max_bytes is None else max_bytes)
                file.write(part)


def _check(answer: Any, url: str, max_bytes: int | None) -> None:
    if answer.status == 404:
        raise FileNotFoundError(url)
    answer.raise_for_status()
    if max_bytes is not None:
        check_size(answer.content_length, max_bytes)


async def _public_client(**settings: Any) -> Any:
    from aiohttp import ClientSession, TCPConnector  # takes a third of a second

    return ClientSession(**settings | {"connector": TCPConnector(socket_factory=_public_socket)})


async def _any_client(**settings: Any) -> Any:
    from aiohttp import ClientSession

    return ClientSession(**settings)


def _public_socket(where: Any) -> socket.socket:
    family, kind, protocol, _, address = where
    if not is_public(address[0]):
        raise OSError(
            errno.EACCES,
            f"{address[0]} belongs to a private network: set private_addresses: true in "
            f"ingest.source of params.yaml to allow it",
        )
    return socket.socket(family, kind, protocol)
