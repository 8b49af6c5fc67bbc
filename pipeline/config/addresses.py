"""Which addresses a project may name: a closed list of schemes, and nothing that leads on to another
file system.
"""

import re

from pipeline import FieldmarkError

SCHEMES = ("http", "https", "s3", "s3a", "gs", "gcs")
IPV6 = re.compile(r"^([^/?#]*)\[[0-9A-Fa-f:.%]*\]")  # the one place where :: joins nothing


def is_address(text: str) -> bool:
    """As opposed to a path on this machine."""
    return "://" in text


def check_address(url: str) -> None:
    """Raise FieldmarkError for an address that is not read.

    fsspec knows dozens of schemes, some of which read what a file names, run commands or open
    any file of this machine.
    """
    scheme, _, rest = url.partition("://")
    if "::" in scheme or "::" in IPV6.sub(r"\1", rest):
        raise FieldmarkError(f"{url}: an address that is chained with :: is not read")
    if scheme.casefold() not in SCHEMES:
        raise FieldmarkError(
            f"{url}: {scheme}:// is not read; write http://, https://, s3:// or gs://, or the path "
            f"of a file on this machine"
        )
