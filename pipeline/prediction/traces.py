"""Outputs of an earlier `fieldmark predict`, recognised by their content in any place."""

import zlib

COLUMNS = ["name", "class", "prob", "abstain", "ood", "ood_score", "error"]
HEAD_BYTES = 4096  # enough of a file to recognise it
MARK = b"Software\0fieldmark predict"
PNG_HEADER_BYTES = 33  # the signature and the first chunk; other chunks may follow


def marked(png: bytes) -> bytes:
    """The same picture with a text chunk that names this command; viewers do not show it."""
    content = b"tEXt" + MARK
    checksum = zlib.crc32(content).to_bytes(4, "big")
    chunk = len(MARK).to_bytes(4, "big") + content + checksum
    return png[:PNG_HEADER_BYTES] + chunk + png[PNG_HEADER_BYTES:]


def is_own(head: bytes) -> bool:
    """Whether a file with these first bytes is an output: a picture, a CSV or JSON lines."""
    if head.startswith(b"\x89PNG"):
        return MARK in head[: PNG_HEADER_BYTES + 64]
    line = head.partition(b"\n")[0].rstrip(b"\r")
    if line == ",".join(COLUMNS).encode():
        return True
    return line.startswith(b'{"name": "') and (
        b'", "top": [{"class": ' in line or b'", "error": "' in line
    )
